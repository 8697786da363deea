"""Silences: for a time nobody is told of some alerts, with who said so and why.

All functions work within the caller's transaction; those that write need a writing one.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import AlertNotFound, InvalidAlerts
from fairlead.monitoring.findings import Finding
from fairlead.registry import audit
from fairlead.stores.alert_tables import silences

__all__ = ["Silence", "add", "end", "every", "in_force"]

_LONGEST = timedelta(days=366)


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Until `until` nobody is told of alerts whose model, rule and subject match these patterns; `*` is
    anything. Alerts still fire, and are told of afterwards if they are still true."""

    id: str
    model: str
    rule: str
    subject: str
    until: datetime
    why: str
    who: str
    created_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is in force at that moment."""
        return self.ended_at is None and now < self.until

    def covers(self, rule: str, finding: Finding) -> bool:
        """Whether it is about that rule's alert of that finding."""
        return (
            fnmatchcase(finding.model, self.model)
            and fnmatchcase(rule, self.rule)
            and fnmatchcase(finding.subject, self.subject)
        )


def add(
    connection: sa.Connection,
    *,
    until: datetime,
    why: str,
    who: str,
    now: datetime,
    model: str = "*",
    rule: str = "*",
    subject: str = "*",
) -> Silence:
    """A new silence. Raises `InvalidAlerts` for one that says no reason, is over already, or lasts for more
    than a year."""
    if not why.strip():
        raise InvalidAlerts("The silence has no reason.", remedy="Say why: who misses an alert will read it.")
    if until <= now:
        raise InvalidAlerts("The silence is over already.", remedy="Give an end that is to come.")
    if until - now > _LONGEST:
        raise InvalidAlerts(
            "The silence lasts for more than a year.",
            remedy="Switch the rule off in alerts.toml if nobody wants it.",
        )
    made = Silence(
        id=secrets.token_hex(4), model=model or "*", rule=rule or "*", subject=subject or "*", until=until,
        why=why.strip(), who=who, created_at=now,
    )  # fmt: skip
    connection.execute(silences.insert().values(**msgspec.structs.asdict(made)))
    _note(connection, made, "silence", who, made.why, now)
    return made


def end(connection: sa.Connection, identifier: str, *, who: str, now: datetime) -> Silence:
    """Ends a silence before its time; one that is over stays as it is. Raises `AlertNotFound`."""
    row = connection.execute(sa.select(silences).where(silences.c.id == identifier)).one_or_none()
    if row is None:
        raise AlertNotFound(
            f"There is no silence {identifier!r}.", remedy="`fairlead alerts silences` lists them."
        )
    found = _silence(row)
    if not found.holds(now):
        return found
    connection.execute(
        silences.update().where(silences.c.id == identifier).values(ended_at=now, ended_by=who)
    )
    _note(connection, found, "unsilence", who, "", now)
    return msgspec.structs.replace(found, ended_at=now, ended_by=who)


def every(connection: sa.Connection, now: datetime, *, over: bool = False) -> list[Silence]:
    """The silences in force, the first to end first; `over` adds those that are over."""
    query = sa.select(silences).order_by(silences.c.until, silences.c.id)
    found = [_silence(row) for row in connection.execute(query)]
    return [one for one in found if over or one.holds(now)]


def in_force(connection: sa.Connection, now: datetime) -> list[Silence]:
    """The silences that hold at that moment."""
    c = silences.c
    query = sa.select(silences).where(c.ended_at.is_(None), c.until > now)
    return [_silence(row) for row in connection.execute(query)]


def _note(connection: sa.Connection, one: Silence, action: str, who: str, why: str, now: datetime) -> None:
    details = {"silence": one.id, "rule": one.rule, "subject": one.subject, "model": one.model}
    audit.append(
        connection, at=now, who=who, action=action, model=None, why=why,
        details={**details, "until": one.until.isoformat()},
    )  # fmt: skip


def _silence(row: sa.Row[Any]) -> Silence:
    return Silence(**{name: getattr(row, name) for name in Silence.__struct_fields__})
