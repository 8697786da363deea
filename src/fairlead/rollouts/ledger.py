"""Rollouts in the database: how each stands, its journal, and who attends to it.

A transition is one row of the journal and the next revision of the rollout, written together; whoever wrote
on an older revision is refused. All functions work within the caller's transaction; those that write need a
writing one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from fairlead.errors import GenerationConflict, RolloutInProgress, RolloutNotFound
from fairlead.rollouts import layers
from fairlead.rollouts.states import TERMINAL, Rollout, abort, rolled_back, supersede
from fairlead.routing.plan import Plan
from fairlead.stores.tables import rollout_events, rollouts

__all__ = [
    "Entry", "Event", "active", "author", "begin", "due", "end_by_hand", "events", "find", "get",
    "hold", "move", "note", "of_model", "refuse_beside",
]  # fmt: skip


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout as it stands at a revision. `baseline` holds the counters of its arms, by arm, from when the
    present step began."""

    rollout: Rollout
    revision: int
    baseline: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    who: str
    why: str


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One transition: from where to where, which generation of the plan it made, who caused it and on which
    evidence."""

    revision: int
    at: datetime
    from_state: str
    to_state: str
    step: int
    generation: int | None
    who: str
    reason: str
    evidence: dict[str, Any]


def author(rollout: Rollout) -> str:
    """Who made a plan, where the rollout itself did."""
    return f"rollout {rollout.id}"


def begin(connection: sa.Connection, rollout: Rollout, *, now: datetime, who: str, why: str) -> Entry:
    """Writes a new rollout; `RolloutInProgress` while the model has another."""
    refuse_beside(connection, rollout.model)
    connection.execute(
        rollouts.insert().values(
            id=rollout.id,
            model=rollout.model,
            state=rollout.state,
            revision=0,
            body=_text(rollout),
            baseline={},
            created_at=now,
            updated_at=now,
            who=who,
            why=why,
        )
    )
    return get(connection, rollout.id)


def get(connection: sa.Connection, identifier: str) -> Entry:
    """The rollout; raises `RolloutNotFound`."""
    entry = find(connection, identifier)
    if entry is None:
        raise RolloutNotFound(
            f"There is no rollout {identifier!r}.", remedy="`fairlead rollouts MODEL` lists a model's."
        )
    return entry


def find(connection: sa.Connection, identifier: str) -> Entry | None:
    """The rollout of that name, if there is one."""
    row = connection.execute(sa.select(rollouts).where(rollouts.c.id == identifier)).one_or_none()
    return None if row is None else _entry(row)


def active(connection: sa.Connection, model: str) -> Entry | None:
    """The model's rollout that has not ended."""
    query = sa.select(rollouts).where(rollouts.c.model == model, rollouts.c.state.not_in(TERMINAL))
    row = connection.execute(query).one_or_none()
    return None if row is None else _entry(row)


def of_model(connection: sa.Connection, model: str, limit: int = 100) -> list[Entry]:
    """The model's rollouts, newest first."""
    query = (
        sa.select(rollouts)
        .where(rollouts.c.model == model)
        .order_by(rollouts.c.created_at.desc(), rollouts.c.id)
        .limit(limit)
    )
    return [_entry(row) for row in connection.execute(query)]


def refuse_beside(connection: sa.Connection, model: str) -> None:
    """Raises `RolloutInProgress` while a rollout owns the model's traffic."""
    other = active(connection, model)
    if other is not None:
        raise RolloutInProgress(
            f"Rollout {other.rollout.id} of {other.rollout.candidate!r} owns the traffic of {model!r}; its "
            f"state is {other.rollout.state!r}.",
            remedy=f"Wait for it, end it with `fairlead abort {model}`, or deploy with --supersede.",
            rollout=other.rollout.id,
        )


def end_by_hand(connection: sa.Connection, plan: Plan, verb: str, *, who: str, now: datetime) -> None:
    """Ends the model's rollout, because a person's command has just made that plan: rolled back by a
    rollback, superseded by everything else."""
    entry = active(connection, plan.model)
    if entry is None:
        return
    reason = f"{who} gave the command {verb!r}."
    if verb != "rollback" and entry.rollout.state != "aborting":
        move(connection, entry, supersede(entry.rollout, now), who=who, reason=reason, now=now)
        return
    if entry.rollout.state != "aborting":
        move(connection, entry, abort(entry.rollout, now), who=who, reason=reason, now=now)
        entry = get(connection, entry.rollout.id)
    after = rolled_back(entry.rollout, plan.generation, now)
    move(connection, entry, after, who=who, reason=reason, now=now)


def due(connection: sa.Connection, holder: str, now: datetime) -> list[str]:
    """Rollouts that have not ended and that nobody else attends to."""
    c = rollouts.c
    free = sa.or_(c.holder.is_(None), c.holder == holder, c.held_until <= now)
    query = sa.select(c.id).where(c.state.not_in(TERMINAL), free).order_by(c.created_at)
    return list(connection.scalars(query))


def hold(
    connection: sa.Connection, identifier: str, holder: str, *, now: datetime, until: datetime
) -> Entry | None:
    """Takes the rollout's lease, or prolongs it; None when another has it or there is nothing left to do."""
    c = rollouts.c
    free = sa.or_(c.holder.is_(None), c.holder == holder, c.held_until <= now)
    taken = connection.execute(
        rollouts.update()
        .where(c.id == identifier, c.state.not_in(TERMINAL), free)
        .values(holder=holder, held_until=until)
    )
    return get(connection, identifier) if taken.rowcount else None


def move(
    connection: sa.Connection,
    before: Entry,
    after: Rollout,
    *,
    who: str,
    reason: str,
    now: datetime,
    evidence: dict[str, Any] | None = None,
    baseline: dict[str, Any] | None = None,
) -> None:
    """Writes a transition; `GenerationConflict` when the rollout has moved since `before` was read."""
    revision = before.revision + 1
    values: dict[str, Any] = {
        "state": after.state, "revision": revision, "body": _text(after), "updated_at": now
    }  # fmt: skip
    if baseline is not None:
        values["baseline"] = baseline
    moved = connection.execute(
        rollouts.update()
        .where(rollouts.c.id == after.id, rollouts.c.revision == before.revision)
        .values(**values)
    )
    if after.over:
        layers.release(connection, after.id)
    if not moved.rowcount:
        raise GenerationConflict(
            f"Rollout {after.id} has moved on meanwhile.",
            remedy="Look at it again and repeat the command if it still makes sense.",
        )
    connection.execute(
        rollout_events.insert().values(
            rollout=after.id,
            revision=revision,
            at=now,
            from_state=before.rollout.state,
            to_state=after.state,
            step=after.step,
            generation=after.generation,
            who=who,
            reason=reason,
            evidence=evidence or {},
        )
    )


def note(connection: sa.Connection, before: Entry, after: Rollout) -> None:
    """Keeps what a look has counted; no transition. Whoever moved it meanwhile wins."""
    connection.execute(
        rollouts.update()
        .where(rollouts.c.id == after.id, rollouts.c.revision == before.revision)
        .values(body=_text(after))
    )


def events(connection: sa.Connection, identifier: str) -> list[Event]:
    """The rollout's journal, oldest first."""
    query = (
        sa.select(rollout_events)
        .where(rollout_events.c.rollout == identifier)
        .order_by(rollout_events.c.revision)
    )
    names = Event.__struct_fields__
    return [Event(**{name: getattr(row, name) for name in names}) for row in connection.execute(query)]


def _text(rollout: Rollout) -> str:
    return msgspec.json.encode(rollout).decode()


def _entry(row: sa.Row[Any]) -> Entry:
    return Entry(
        rollout=msgspec.json.decode(row.body, type=Rollout),
        revision=row.revision,
        baseline=row.baseline,
        created_at=row.created_at,
        updated_at=row.updated_at,
        who=row.who,
        why=row.why,
    )
