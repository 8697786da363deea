"""Freeze windows: times in which no version gets more traffic, except with a recorded reason.

A window holds for one model or for all, once or every week at the same time (UTC). It hinders what moves
traffic to another version: the start of a rollout, its widening and promotion, a deploy, a change of weights.
What brings traffic back, and what only waits, is never hindered.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa

from fairlead.errors import FreezeNotFound, Frozen, InvalidFreeze
from fairlead.registry import audit
from fairlead.registry.lookup import require_model
from fairlead.stores import tables

__all__ = ["Freeze", "add", "end", "every", "in_force", "require"]

_WEEK = timedelta(days=7)
_freezes = tables.freezes.c


class Freeze(msgspec.Struct, frozen=True, kw_only=True):
    """One window: of `model`, None for all of them, from `starts_at` until before `ends_at`; where `weekly`,
    every week again until somebody ends it."""

    id: str
    model: str | None
    starts_at: datetime
    ends_at: datetime
    weekly: bool
    reason: str
    who: str
    created_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None

    def until(self, now: datetime) -> datetime | None:
        """When it lets go, if it holds at that moment."""
        if now < self.starts_at or (self.ended_at is not None and self.ended_at <= now):
            return None
        since = now - self.starts_at
        if self.weekly:
            since %= _WEEK
        left = self.ends_at - self.starts_at - since
        return now + left if left > timedelta(0) else None

    def over(self, now: datetime) -> bool:
        """Whether it never holds again."""
        return self.ended_at is not None or (not self.weekly and self.ends_at <= now)

    def sentence(self, until: datetime) -> str:
        """What a person should know while it holds until then."""
        whose = "All traffic" if self.model is None else f"The traffic of {self.model!r}"
        return f"{whose} is frozen until {until:%Y-%m-%d %H:%M} UTC by {self.who}: {self.reason}"


def add(
    connection: sa.Connection,
    *,
    model: str | None,
    starts_at: datetime,
    ends_at: datetime,
    weekly: bool,
    reason: str,
    who: str,
    now: datetime,
) -> Freeze:
    """A new window. Raises `ModelNotFound`, and `InvalidFreeze` for one that says no reason or could never
    hold."""
    if model is not None:
        require_model(connection, model)
    if not reason.strip():
        raise InvalidFreeze(
            "The freeze window has no reason.", remedy="Say why: who is held up will read it."
        )
    if ends_at <= starts_at:
        raise InvalidFreeze("The freeze window ends before it begins.", remedy="Give an end after its start.")
    if weekly and ends_at - starts_at >= _WEEK:
        raise InvalidFreeze(
            "The freeze window is a week or longer, and comes again every week.",
            remedy="Shorten it, or leave out that it is weekly.",
        )
    made = Freeze(
        id=secrets.token_hex(4),
        model=model,
        starts_at=starts_at,
        ends_at=ends_at,
        weekly=weekly,
        reason=reason.strip(),
        who=who,
        created_at=now,
    )
    if made.over(now):
        raise InvalidFreeze("The freeze window is over already.", remedy="Give an end that is to come.")
    connection.execute(tables.freezes.insert().values(**msgspec.structs.asdict(made)))
    told = {"freeze": made.id, "from": starts_at.isoformat(), "to": ends_at.isoformat(), "weekly": weekly}
    audit.append(connection, at=now, who=who, action="freeze", model=model, why=made.reason, details=told)
    return made


def end(connection: sa.Connection, identifier: str, *, who: str, why: str, now: datetime) -> Freeze:
    """Ends a window before its time; one that is over stays as it is. Raises `FreezeNotFound`."""
    found = _select(connection, _freezes.id == identifier)
    if not found:
        raise FreezeNotFound(
            f"There is no freeze window {identifier!r}.", remedy="`fairlead freezes` lists them."
        )
    if found[0].over(now):
        return found[0]
    values = {"ended_at": now, "ended_by": who}
    connection.execute(tables.freezes.update().where(_freezes.id == identifier).values(**values))
    audit.append(
        connection, at=now, who=who, action="unfreeze", model=found[0].model, why=why,
        details={"freeze": identifier},
    )  # fmt: skip
    return msgspec.structs.replace(found[0], ended_at=now, ended_by=who)


def every(connection: sa.Connection, model: str | None, now: datetime, *, over: bool = False) -> list[Freeze]:
    """The windows that hold or will, the earliest first: all, or those that concern a model. `over` adds
    those that are over."""
    found = _select(connection, _concerns(model) if model is not None else sa.true())
    return [freeze for freeze in found if over or not freeze.over(now)]


def in_force(connection: sa.Connection, model: str, now: datetime) -> str | None:
    """What a person should know of the window that holds the model's traffic longest; None when none does."""
    query = sa.and_(_concerns(model), _freezes.ended_at.is_(None), _freezes.starts_at <= now)
    held = [(until, freeze) for freeze in _select(connection, query) if (until := freeze.until(now))]
    if not held:
        return None
    until, freeze = max(held, key=lambda one: one[0])
    return freeze.sentence(until)


def require(
    connection: sa.Connection, model: str, verb: str, *, override: str, who: str, now: datetime
) -> bool:
    """Raises `Frozen` while a window holds the model's traffic, unless `override` says why it may be moved
    all the same: that stands in the audit log. Answers whether a window was overridden."""
    told = in_force(connection, model, now)
    if told is None:
        return False
    if not override:
        raise Frozen(
            f"{told}.".replace("..", "."),
            remedy="Wait until then, or give a reason for doing it all the same: --override REASON.",
            model=model,
        )
    audit.append(
        connection, at=now, who=who, action="override", model=model, why=override,
        details={"command": verb, "freeze": told},
    )  # fmt: skip
    return True


def _concerns(model: str | None) -> sa.ColumnElement[bool]:
    return sa.or_(_freezes.model.is_(None), _freezes.model == model)


def _select(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> list[Freeze]:
    query = sa.select(tables.freezes).where(condition).order_by(_freezes.starts_at, _freezes.id)
    names = Freeze.__struct_fields__
    return [Freeze(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)]
