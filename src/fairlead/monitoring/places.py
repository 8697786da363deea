"""Looks at what only a machine's own control can see, of all machines: counters and disks are not shared.

Each control lets such a looker look, whether it has the lease of the loop or not, and puts what was found
into the database. The one with the lease reads what the others have put there, and tells of all of it as one
look; so an alert about one thing is one alert, however many machines see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
import sqlalchemy as sa

from fairlead.errors import FairleadError
from fairlead.monitoring.findings import Finding
from fairlead.stores.database import Database
from fairlead.stores.monitoring_tables import sightings

__all__ = ["Everywhere", "joined"]

_PUT_AGAIN = timedelta(seconds=3)
"""So often what is well is put, and what is not at each look."""
_FRESH = timedelta(seconds=10)
_GONE = timedelta(hours=1)
"""So long it is told of that a machine is not looked at any more."""


class _Local(Protocol):
    name: str
    seconds: float

    def look(self, now: datetime) -> list[Finding]: ...


class _Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """What was found at a place at that moment, or why nothing could be."""

    place: str
    host: str
    at: datetime
    findings: tuple[Finding, ...] = ()
    error: str | None = None


class Everywhere:
    """A looker at all machines, made of one at this machine. `place` tells data folders apart, of which a
    machine usually has one, and `host` is how people call it. Controls of one folder see the same, and count
    once. With `tells_of_missing` it finds machines whose control looks no more, too.
    """

    def __init__(
        self,
        local: _Local,
        database: Database,
        *,
        place: Callable[[], str],
        host: str,
        tells_of_missing: bool = False,
    ) -> None:
        self.name, self.seconds = local.name, local.seconds
        self._local = local
        self._database = database
        self._place = place
        self._host = host
        self._tells_of_missing = tells_of_missing
        self._put: _Sighting | None = None

    def look(self, now: datetime) -> list[Finding]:
        """What was found here and by the others, for the control that tells of it; a machine at which nothing
        could be found keeps none of the others from being told of. Raises `StoreUnavailable`."""
        here = self._look(now)
        with self._database.read() as connection:
            there = [one for one in _read(connection, self.name) if one.place != here.place]
        fresh = [here, *(one for one in there if now - one.at <= _FRESH)]
        found = [self._looked_at(one, one.error, now) for one in fresh]
        for one in there if self._tells_of_missing else ():
            late = now - one.at
            if _FRESH < late <= _GONE:
                told = f"Nobody looks at the gateways of {one.host}: its control was heard of "
                found.append(self._looked_at(one, f"{told}{late.total_seconds():.0f} s ago.", now))
        # Of two folders of one host the one that is worse off counts: who hears of it believes the first.
        return joined(fresh) + sorted(found, key=lambda one: one.status != "alarm")

    def glance(self, now: datetime) -> None:
        """Looks and puts what is found, for the control that tells of it. Raises `StoreUnavailable`."""
        self._look(now)

    def leave(self) -> None:
        """This machine's control ends in order, and nobody need miss it."""
        c = sightings.c
        with self._database.write() as connection:
            connection.execute(sightings.delete().where(c.looker == self.name, c.place == self._place()))

    def _look(self, now: datetime) -> _Sighting:
        place = self._place()
        sighting = _Sighting(place=place, host=self._host, at=now)
        try:
            sighting = msgspec.structs.replace(sighting, findings=tuple(self._local.look(now)))
        except FairleadError as error:
            sighting = msgspec.structs.replace(sighting, error=str(error))
        self._keep(sighting)
        return sighting

    def _looked_at(self, one: _Sighting, problem: str | None, now: datetime) -> Finding:
        subject = f"{self.name} of {one.host}"
        return Finding(
            model="", kind="monitoring", subject=subject, status="ok" if problem is None else "alarm",
            sentence=problem or f"{subject} could be looked at.", start=one.at, end=now,
        )  # fmt: skip

    def _keep(self, one: _Sighting) -> None:
        before = self._put
        if before is not None and one.at - before.at < _PUT_AGAIN and _is_well(one) and _is_well(before):
            return
        c = sightings.c
        with self._database.write() as connection:
            connection.execute(sightings.delete().where(c.looker == self.name, c.place == one.place))
            connection.execute(sightings.delete().where(c.at <= one.at - 2 * _GONE))
            body = msgspec.json.encode(one).decode()
            connection.execute(
                sightings.insert().values(looker=self.name, place=one.place, at=one.at, body=body)
            )
        self._put = one


def joined(sightings: Iterable[_Sighting]) -> list[Finding]:
    """One finding for each thing. It is as bad as the machine that is worst off, and says which that is where
    there are several; but requests have stopped only where they have stopped everywhere."""
    held = list(sightings)
    found: dict[tuple[str, ...], tuple[Finding, str]] = {}
    for one in held:
        for finding in one.findings:
            before = found.get(finding.key)
            if before is None or _rank(finding) < _rank(before[0]):
                found[finding.key] = (finding, one.host)
    several = len({one.place for one in held}) > 1
    return [
        msgspec.structs.replace(finding, sentence=f"On {host}: {finding.sentence}") if several else finding
        for finding, host in found.values()
    ]


def _rank(finding: Finding) -> int:
    worst = ("ok", "alarm") if finding.subject == "silence" else ("alarm", "ok")
    return (*worst, "error", "insufficient").index(finding.status)


def _is_well(one: _Sighting) -> bool:
    return one.error is None and all(finding.status != "alarm" for finding in one.findings)


def _read(connection: sa.Connection, looker: str) -> list[_Sighting]:
    query = sa.select(sightings.c.body).where(sightings.c.looker == looker).order_by(sightings.c.place)
    return [msgspec.json.decode(body, type=_Sighting) for body in connection.scalars(query)]
