"""How much compute each version has used, hour by hour, in the database: read off the counters of a machine.

The counters only grow and outlive their gateways. A row holds what was used within its hour, and where the
counters stood when it was written; both change in one transaction, so that whatever is killed, nothing is
counted twice, and what was used meanwhile is in the next reading. Counters that stand lower than before have
been lost in part: that reading counts nothing, and the next goes on from there. So the sum is never more than
what was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.monitoring.cost import Compute
from fairlead.serving.folder import DataFolder
from fairlead.stores.database import Database
from fairlead.stores.monitoring_tables import COMPUTE, compute_hours
from fairlead.telemetry.counters import ArmCounters, read_counters

__all__ = ["Meter", "used_between"]

_SHADOW = "shadow"
_KEPT = timedelta(days=400)
"""A year can be held against the one before it."""
_Key = tuple[str, str]


class Meter:
    """Writes down what the gateways of one data folder have used. `read` as often as one likes."""

    def __init__(
        self,
        database: Database,
        folder: DataFolder,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._counters = folder.counters
        self._place = folder.place
        self._clock = clock
        self._written: dict[_Key, Compute] | None = None
        self._forgot: datetime | None = None

    def read(self) -> None:
        """Adds what was used since the last reading, whoever read, to the hour that it is now.

        `StoreUnavailable` when the database does not answer; then the next reading has it.
        """
        stands = _used(read_counters(self._counters))
        if stands == self._written:
            return
        hour = self._clock().replace(minute=0, second=0, microsecond=0)
        with self._database.write() as connection:
            place = self._place()
            before = _latest(connection, place)
            for key, now in stands.items():
                held = before.get(key)
                if held is None or now != _seen(held):
                    _write(connection, place, key, hour, held, now)
            if hour != self._forgot:
                _forget(connection, place, hour - _KEPT)
        self._forgot = hour
        self._written = stands


def used_between(
    connection: sa.Connection, begin: datetime, end: datetime, model: str | None = None
) -> dict[_Key, Compute]:
    """What each version of the model, or of all, has used in the hours that began between the two times, on
    all machines."""
    c = compute_hours.c
    query = (
        sa.select(c.model, c.version, *(sa.func.sum(c[name]).label(name) for name in COMPUTE))
        .where(c.hour >= begin, c.hour < end)
        .group_by(c.model, c.version)
    )
    if model is not None:
        query = query.where(c.model == model)
    found = {
        (row.model, row.version): Compute(**{name: int(row._mapping[name]) for name in COMPUTE})
        for row in connection.execute(query.order_by(c.model, c.version))
    }
    return {key: one for key, one in found.items() if one != Compute()}


def _used(arms: Iterable[ArmCounters]) -> dict[_Key, Compute]:
    found: dict[_Key, Compute] = {}
    for arm in arms:
        if not arm.key.model:
            continue
        cells, shadow = arm.cells, arm.key.role == _SHADOW
        held = found.get((arm.key.model, arm.key.version), Compute())
        found[arm.key.model, arm.key.version] = Compute(
            run_ns=held.run_ns + (0 if shadow else cells["run_ns"]),
            shadow_ns=held.shadow_ns + (cells["run_ns"] if shadow else 0),
            load_ns=held.load_ns + cells["load_ns"],
            rows=held.rows + (0 if shadow else cells["run_rows"]),
            answers=held.answers + (0 if shadow else cells["ok"]),
        )
    return {key: one for key, one in found.items() if one != Compute()}


def _forget(connection: sa.Connection, place: str, before: datetime) -> None:
    """Forgets hours that began before then, but for the newest of each version: the next is counted from
    it."""
    c = compute_hours.c
    later = compute_hours.alias()
    same = sa.and_(later.c.place == c.place, later.c.model == c.model, later.c.version == c.version)
    newer = sa.exists().where(same, later.c.hour > c.hour)
    connection.execute(compute_hours.delete().where(c.place == place, c.hour < before, newer))


def _latest(connection: sa.Connection, place: str) -> dict[_Key, Any]:
    """The newest row of each version."""
    c = compute_hours.c
    newest = (
        sa.select(c.model, c.version, sa.func.max(c.hour).label("hour"))
        .where(c.place == place)
        .group_by(c.model, c.version)
        .subquery()
    )
    same = sa.and_(
        c.model == newest.c.model, c.version == newest.c.version, c.hour == newest.c.hour, c.place == place
    )
    rows = connection.execute(sa.select(compute_hours).join(newest, same))
    return {(row.model, row.version): row._mapping for row in rows}


def _seen(row: Any) -> Compute:
    return Compute(**{name: row[f"seen_{name}"] for name in COMPUTE})


def _write(connection: sa.Connection, place: str, key: _Key, hour: datetime, held: Any, now: Compute) -> None:
    stands = msgspec.structs.asdict(now)
    seen = dict.fromkeys(COMPUTE, 0) if held is None else msgspec.structs.asdict(_seen(held))
    whole = all(stands[name] >= seen[name] for name in COMPUTE)
    used = {name: stands[name] - seen[name] if whole else 0 for name in COMPUTE}
    stood = {f"seen_{name}": stands[name] for name in COMPUTE}
    c = compute_hours.c
    # A clock that was set back must not begin an hour before the newest: that one is what is read next.
    if held is not None and held["hour"] >= hour:
        more = {name: c[name] + used[name] for name in COMPUTE}
        here = (c.place == place, c.model == key[0], c.version == key[1], c.hour == held["hour"])
        connection.execute(compute_hours.update().where(*here).values(**more, **stood))
    else:
        row = {"place": place, "model": key[0], "version": key[1], "hour": hour}
        connection.execute(compute_hours.insert().values(**row, **used, **stood))
