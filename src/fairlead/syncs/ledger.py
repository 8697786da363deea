"""Syncs in the database: what they are, how far they are, and who runs them.

All functions work within the caller's transaction; those that write need a writing one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import SyncNotFound
from fairlead.stores.tables import outcome_syncs
from fairlead.syncs.source import Mark
from fairlead.syncs.sync import Sync, SyncState

__all__ = ["Held", "all_of", "due", "failed", "get", "hold", "put", "remove", "succeeded"]

_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A sync that this control runs now, and its mark."""

    sync: Sync
    mark: Mark | None


def put(connection: sa.Connection, sync: Sync, *, who: str, now: datetime) -> None:
    """Writes a new sync, or another under the name. With another query or model it reads from the start."""
    c = outcome_syncs.c
    before = connection.execute(sa.select(outcome_syncs).where(c.name == sync.name)).one_or_none()
    values: dict[str, Any] = {
        "model": sync.model, "body": msgspec.json.encode(sync).decode(), "next_at": now, "failures": 0,
        "error": None,
    }  # fmt: skip
    if before is None:
        fresh = {"accepted": 0, "refused": 0, "created_at": now, "who": who}
        connection.execute(outcome_syncs.insert().values(name=sync.name, **values, **fresh))
        return
    held = msgspec.json.decode(before.body, type=Sync)
    if (held.sql, held.model) != (sync.sql, sync.model):
        values["mark"] = None
    connection.execute(outcome_syncs.update().where(c.name == sync.name).values(**values))


def get(connection: sa.Connection, name: str) -> SyncState:
    """The sync of that name; raises `SyncNotFound`."""
    row = connection.execute(sa.select(outcome_syncs).where(outcome_syncs.c.name == name)).one_or_none()
    if row is None:
        raise SyncNotFound(f"There is no sync {name!r}.", remedy="`fairlead outcomes syncs` lists them.")
    return _state(row)


def all_of(connection: sa.Connection) -> list[SyncState]:
    """All syncs by name."""
    query = sa.select(outcome_syncs).order_by(outcome_syncs.c.name)
    return [_state(row) for row in connection.execute(query)]


def remove(connection: sa.Connection, name: str) -> SyncState:
    """Takes the sync away; what it has brought stays. Raises `SyncNotFound`."""
    state = get(connection, name)
    connection.execute(outcome_syncs.delete().where(outcome_syncs.c.name == name))
    return state


def due(connection: sa.Connection, now: datetime) -> list[str]:
    """Syncs whose time has come and that nobody else runs."""
    c = outcome_syncs.c
    query = sa.select(c.name).where(c.next_at <= now, _free(now)).order_by(c.next_at)
    return list(connection.scalars(query))


def hold(connection: sa.Connection, name: str, holder: str, *, now: datetime, until: datetime) -> Held | None:
    """Takes the sync's lease; None when another has it, or it is gone."""
    c = outcome_syncs.c
    taken = connection.execute(
        outcome_syncs.update().where(c.name == name, _free(now)).values(holder=holder, held_until=until)
    )
    if not taken.rowcount:
        return None
    row = connection.execute(sa.select(outcome_syncs).where(c.name == name)).one()
    mark = None if row.mark is None else msgspec.json.decode(row.mark, type=Mark)
    return Held(sync=msgspec.json.decode(row.body, type=Sync), mark=mark)


def succeeded(
    connection: sa.Connection,
    held: Held,
    holder: str,
    mark: Mark | None,
    *,
    accepted: int,
    refused: int,
    problem: str | None,
    now: datetime,
) -> None:
    """Writes a run that went well, and gives the lease back. A sync that was changed meanwhile keeps its own
    mark."""
    c = outcome_syncs.c
    more = mark is not None and mark.full
    connection.execute(
        outcome_syncs.update()
        .where(c.name == held.sync.name, c.holder == holder)
        .where(c.body == msgspec.json.encode(held.sync).decode())
        .values(
            mark=None if mark is None else msgspec.json.encode(mark).decode(),
            accepted=c.accepted + accepted,
            refused=c.refused + refused,
            problem=problem,
            error=None,
            failures=0,
            last_run_at=now,
            last_ok_at=now,
            next_at=now if more else now + timedelta(seconds=held.sync.every),
        )
    )
    _release(connection, held.sync.name, holder)


def failed(connection: sa.Connection, held: Held, holder: str, error: str, *, now: datetime) -> None:
    """Writes a run that failed, and gives the lease back; the pause doubles with each, up to an hour."""
    c = outcome_syncs.c
    row = connection.execute(sa.select(c.failures).where(c.name == held.sync.name)).one_or_none()
    failures = 1 + (row.failures if row is not None else 0)
    pause = min(_FIRST_PAUSE * 2.0 ** min(failures - 1, 10), _LONGEST_PAUSE)
    connection.execute(
        outcome_syncs.update()
        .where(c.name == held.sync.name, c.holder == holder)
        .values(failures=failures, error=error, last_run_at=now, next_at=now + timedelta(seconds=pause))
    )
    _release(connection, held.sync.name, holder)


def _release(connection: sa.Connection, name: str, holder: str) -> None:
    c = outcome_syncs.c
    connection.execute(
        outcome_syncs.update().where(c.name == name, c.holder == holder).values(holder=None, held_until=None)
    )


def _free(now: datetime) -> sa.ColumnElement[bool]:
    c = outcome_syncs.c
    return sa.or_(c.holder.is_(None), c.held_until <= now)


def _state(row: sa.Row[Any]) -> SyncState:
    return SyncState(
        sync=msgspec.json.decode(row.body, type=Sync),
        state="failing" if row.failures else "waiting",
        watermark=None if row.mark is None else msgspec.json.decode(row.mark, type=Mark).at,
        next_at=row.next_at,
        last_run_at=row.last_run_at,
        last_ok_at=row.last_ok_at,
        accepted=row.accepted,
        refused=row.refused,
        failures=row.failures,
        problem=row.problem,
        error=row.error,
        created_at=row.created_at,
        who=row.who,
    )
