"""Plans in the database: proposed, activated or failed, one generation after the other per model.

A proposal gets the next generation and waits in state `preparing`; at most one waits per model. Activating it
makes it what every gateway shall serve and the plan before it `superseded`. A proposal that fails, or is
overtaken, never had any effect. All functions work within the caller's transaction; those that write need a
writing one, which is alone, so that what they have read stays true.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from fairlead.errors import GenerationConflict
from fairlead.routing.fallbacks import fallbacks
from fairlead.routing.plan import Plan
from fairlead.stores.tables import plan_heads, plans

__all__ = [
    "Head",
    "ModelTraffic",
    "PlanRow",
    "State",
    "activate",
    "active",
    "expect",
    "fail",
    "get",
    "head",
    "history",
    "of_experiment",
    "pending",
    "propose",
    "serving",
    "stamps",
]

State = Literal["preparing", "active", "superseded", "failed"]


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model stands: what is served and the highest generation that was ever proposed.

    `owner` is the rollout that splits the traffic now; None while one version has all of it.
    """

    model: str
    salt: str
    active: int | None
    latest: int
    owner: str | None


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and its fate. `reason` says why it failed or what overtook it."""

    plan: Plan
    state: State
    command: str
    who: str
    why: str
    created_at: datetime
    activated_at: datetime | None
    reason: str | None


class ModelTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateways shall do for one model: serve `active`, load `preparing`, keep `keep` loaded."""

    model: str
    active: Plan | None
    preparing: Plan | None
    keep: tuple[str, ...]


def head(connection: sa.Connection, model: str) -> Head | None:
    """Where the model stands; None before its first plan."""
    row = connection.execute(sa.select(plan_heads).where(plan_heads.c.model == model)).one_or_none()
    if row is None:
        return None
    return Head(
        model=model,
        salt=row.salt,
        active=row.active_generation,
        latest=row.latest_generation,
        owner=row.owner,
    )


def active(connection: sa.Connection, model: str) -> Plan | None:
    """The plan that the gateways shall serve."""
    query = sa.select(plans.c.body).where(plans.c.model == model, plans.c.state == "active")
    body = connection.execute(query).scalar_one_or_none()
    return None if body is None else msgspec.json.decode(body, type=Plan)


def pending(connection: sa.Connection, model: str) -> PlanRow | None:
    """The proposal that waits for the gateways."""
    query = sa.select(plans).where(plans.c.model == model, plans.c.state == "preparing")
    row = connection.execute(query).one_or_none()
    return None if row is None else _row(row)


def get(connection: sa.Connection, model: str, generation: int) -> PlanRow | None:
    """One plan of the model's history."""
    query = sa.select(plans).where(plans.c.model == model, plans.c.generation == generation)
    row = connection.execute(query).one_or_none()
    return None if row is None else _row(row)


def history(connection: sa.Connection, model: str, limit: int = 100) -> list[PlanRow]:
    """The model's plans, newest first."""
    query = sa.select(plans).where(plans.c.model == model).order_by(plans.c.generation.desc()).limit(limit)
    return [_row(row) for row in connection.execute(query)]


def of_experiment(connection: sa.Connection, model: str, experiment: str) -> list[PlanRow]:
    """The plans that have split the model's traffic for that experiment, oldest first."""
    query = (
        sa.select(plans)
        .where(plans.c.model == model, plans.c.activated_at.is_not(None))
        .where(
            plans.c.body.contains(f'"experiment":{msgspec.json.encode(experiment).decode()}', autoescape=True)
        )
        .order_by(plans.c.generation)
    )
    return [_row(row) for row in connection.execute(query)]


# --- changing -----------------------------------------------------------------------------------------------


def expect(connection: sa.Connection, model: str, generation: int) -> None:
    """Raises `GenerationConflict` when the model serves another generation; 0 is none yet."""
    found = head(connection, model)
    serves = (found.active if found else None) or 0
    if generation != serves:
        raise GenerationConflict(
            f"{model!r} serves generation {serves} and not {generation}.",
            remedy="Look at its traffic again and repeat the command if it still makes sense.",
            generation=serves,
            expected=generation,
        )


def propose(
    connection: sa.Connection,
    plan: Plan,
    *,
    command: str,
    who: str,
    why: str,
    now: datetime,
    supersede: bool = False,
    abandoned_before: datetime | None = None,
) -> Plan:
    """The plan under the model's next generation, waiting to be activated.

    `GenerationConflict` when another proposal waits and this one does not supersede it. A proposal made
    before `abandoned_before` has nobody left who waits for it and stands in no one's way.
    """
    found = head(connection, plan.model)
    generation = (found.latest if found else 0) + 1
    waiting = pending(connection, plan.model)
    if waiting is not None:
        abandoned = abandoned_before is not None and waiting.created_at < abandoned_before
        if not (supersede or abandoned):
            raise GenerationConflict(
                f"Generation {waiting.plan.generation} of {plan.model!r} is being prepared "
                f"({waiting.command} by {waiting.who}).",
                remedy="Wait until it is done, or supersede it.",
                preparing=waiting.plan.generation,
            )
        reason = f"overtaken by generation {generation} ({command} by {who})"
        _end(connection, plan.model, waiting.plan.generation, "superseded", reason)
    plan = msgspec.structs.replace(plan, generation=generation)
    connection.execute(
        plans.insert().values(
            model=plan.model,
            generation=generation,
            body=msgspec.json.encode(plan).decode(),
            state="preparing",
            created_at=now,
            command=command,
            who=who,
            why=why,
        )
    )
    if found is None:
        values = {"model": plan.model, "salt": plan.salt, "latest_generation": generation}
        connection.execute(plan_heads.insert().values(**values))
    else:
        _update_head(connection, plan.model, latest_generation=generation)
    return plan


def activate(
    connection: sa.Connection, model: str, generation: int, *, owner: str | None, now: datetime
) -> Plan:
    """The proposal, now what the gateways shall serve; `GenerationConflict` when it was overtaken."""
    found = get(connection, model, generation)
    if found is None or found.state != "preparing":
        reason = "is not there" if found is None else (found.reason or f"is {found.state}")
        raise GenerationConflict(
            f"Generation {generation} of {model!r} cannot be activated: it {_was(reason)}.",
            remedy="Look at the model's traffic and repeat the command if it still makes sense.",
            generation=generation,
        )
    connection.execute(
        plans.update().where(plans.c.model == model, plans.c.state == "active").values(state="superseded")
    )
    connection.execute(
        plans.update()
        .where(plans.c.model == model, plans.c.generation == generation)
        .values(state="active", activated_at=now)
    )
    held = found.plan.holdout
    ends = None if held is None or held.until is None else datetime.fromtimestamp(held.until, UTC)
    _update_head(connection, model, active_generation=generation, owner=owner, holdout_until=ends)
    return found.plan


def fail(connection: sa.Connection, model: str, generation: int, reason: str) -> bool:
    """Ends a waiting proposal without effect; False when it does not wait any more."""
    return _end(connection, model, generation, "failed", reason)


# --- for the agents -----------------------------------------------------------------------------------------


def stamps(connection: sa.Connection) -> dict[str, tuple[int | None, ...]]:
    """Per model a cheap value that differs whenever `serving` would, apart from the passing of time."""
    waiting = sa.and_(plans.c.model == plan_heads.c.model, plans.c.state == "preparing")
    query = sa.select(
        plan_heads.c.model,
        plan_heads.c.active_generation,
        plan_heads.c.latest_generation,
        plans.c.generation,
    ).select_from(plan_heads.outerjoin(plans, waiting))
    return {model: tuple(generations) for model, *generations in connection.execute(query)}


def serving(connection: sa.Connection, model: str, keep_since: datetime) -> ModelTraffic:
    """What the gateways shall do. The production version before stays loaded when it was replaced after
    `keep_since`."""
    waiting = pending(connection, model)
    return ModelTraffic(
        model=model,
        active=active(connection, model),
        preparing=waiting.plan if waiting else None,
        keep=tuple(name for name, ended in fallbacks(connection, model)[:1] if ended > keep_since),
    )


# --- rows ---------------------------------------------------------------------------------------------------


def _row(row: sa.Row[Any]) -> PlanRow:
    return PlanRow(
        plan=msgspec.json.decode(row.body, type=Plan),
        state=row.state,
        command=row.command,
        who=row.who,
        why=row.why,
        created_at=row.created_at,
        activated_at=row.activated_at,
        reason=row.reason,
    )


def _end(connection: sa.Connection, model: str, generation: int, state: State, reason: str) -> bool:
    ended = connection.execute(
        plans.update()
        .where(plans.c.model == model, plans.c.generation == generation, plans.c.state == "preparing")
        .values(state=state, reason=reason)
    )
    return ended.rowcount > 0


def _update_head(connection: sa.Connection, model: str, **values: Any) -> None:
    connection.execute(plan_heads.update().where(plan_heads.c.model == model).values(**values))


def _was(reason: str) -> str:
    return f"was {reason}" if reason.startswith("overtaken") else reason
