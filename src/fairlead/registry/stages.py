"""Stages: where each version stands, how it got there, and who was in production when.

`shadow`, `canary` and `production` follow from the plan, in the plan's own transaction. People set `staging`,
`archived` and `none`, on versions that no plan names.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa

from fairlead.errors import InUse, InvalidPlan, MalformedRequest
from fairlead.registry import audit
from fairlead.registry.lookup import require_model, require_version
from fairlead.routing.plan import Plan, Stage
from fairlead.stores import tables

__all__ = ["HandStage", "StageChange", "history", "in_production_at", "record", "set_by_hand"]

HandStage = Literal["staging", "archived", "none"]

_FROM_PLAN = ("shadow", "canary", "production")
_BY_HAND = ("staging", "archived", "none")
_events = tables.stage_events.c


class StageChange(msgspec.Struct, frozen=True, kw_only=True):
    """A version went from one stage to another; `generation` is the plan's, None when a person did it."""

    model: str
    version: str
    from_stage: str
    to_stage: str
    generation: int | None
    at: datetime
    who: str
    why: str


def record(
    connection: sa.Connection,
    model: str,
    stages: Mapping[str, Stage],
    *,
    generation: int,
    at: datetime,
    who: str,
    why: str,
) -> list[StageChange]:
    """Moves every version to the stage that the plan gives it, and answers what changed.

    A version that the plan no longer names loses the stage that an earlier plan gave it; one that a person
    put in `staging` or `archived` stays there. Whoever leaves is noted before whoever comes.
    """
    for version in stages:
        require_version(connection, model, version)
    held = _held(connection, model)
    wanted = {
        version: stages.get(version, "none" if stage in _FROM_PLAN else stage)
        for version, stage in held.items()
    }
    changed = [version for version, stage in held.items() if wanted[version] != stage]
    # The one to enter production is noted last: the last entry says who is there.
    changed.sort(key=lambda version: (wanted[version] == "production", version in stages, version))
    changes = [
        StageChange(
            model=model,
            version=version,
            from_stage=held[version],
            to_stage=wanted[version],
            generation=generation,
            at=at,
            who=who,
            why=why,
        )
        for version in changed
    ]
    for change in changes:
        _append(connection, change)
    return changes


def set_by_hand(
    connection: sa.Connection,
    model: str,
    version: str,
    stage: HandStage,
    *,
    at: datetime,
    who: str,
    why: str,
) -> None:
    """Puts a version in a stage that people set; in the same stage already, nothing changes.

    `InUse` while a plan, active or about to be, names the version; `InvalidPlan` for a stage that only
    follows from a plan.
    """
    if stage not in _BY_HAND:
        raise InvalidPlan(
            f"Stage {stage!r} is not set by hand.",
            remedy="Deploy the version: shadow, canary and production follow from its traffic."
            if stage in _FROM_PLAN
            else f"Use one of {', '.join(_BY_HAND)}.",
        )
    require_version(connection, model, version)
    if version in _planned(connection, model):
        raise InUse(
            f"Version {version!r} of {model!r} takes traffic: its stage follows from the plan.",
            remedy="Give its traffic to another version first.",
            model=model,
            version=version,
        )
    held = _held(connection, model)[version]
    if held == stage:
        return
    change = StageChange(
        model=model,
        version=version,
        from_stage=held,
        to_stage=stage,
        generation=None,
        at=at,
        who=who,
        why=why,
    )
    _append(connection, change)
    details = {"from": held, "to": stage}
    audit.append(
        connection, at=at, who=who, action="stage", model=model, version=version, why=why, details=details
    )


def history(connection: sa.Connection, model: str, version: str | None = None) -> list[StageChange]:
    """All changes, oldest first; of one version, or of all versions of the model."""
    require_model(connection, model)
    columns = [column for column in _events if column is not _events.id]
    query = sa.select(*columns).where(_events.model == model).order_by(_events.id)
    if version is not None:
        query = query.where(_events.version == version)
    return [StageChange(**row) for row in connection.execute(query).mappings()]


def in_production_at(connection: sa.Connection, model: str, at: datetime) -> str | None:
    """The version that was in production at that moment; None when none was."""
    if at.tzinfo is None:
        raise MalformedRequest(
            f"{at} has no time zone.", remedy="Write it with an offset, as in …T12:00:00Z."
        )
    require_model(connection, model)
    query = (
        sa.select(_events.version, _events.to_stage)
        .where(_events.model == model, _events.at <= at)
        .where(sa.or_(_events.to_stage == "production", _events.from_stage == "production"))
        .order_by(_events.id)
    )
    # Arms of one plan may hold several versions in production; the one that entered last counts.
    holders: dict[str, None] = {}
    for version, to_stage in connection.execute(query):
        holders.pop(version, None)
        if to_stage == "production":
            holders[version] = None
    return next(reversed(holders), None)


def _held(connection: sa.Connection, model: str) -> dict[str, str]:
    versions = tables.versions.c
    query = sa.select(versions.version, versions.stage).where(versions.model == model)
    return dict(connection.execute(query).all())


def _planned(connection: sa.Connection, model: str) -> set[str]:
    """The versions that the active plan names, and the one that gateways are preparing."""
    plans = tables.plans.c
    query = sa.select(plans.body).where(plans.model == model, plans.state.in_(("active", "preparing")))
    decoded = (msgspec.json.decode(body, type=Plan) for body in connection.scalars(query))
    return {arm.version for plan in decoded for arm in plan.arms}


def _append(connection: sa.Connection, change: StageChange) -> None:
    connection.execute(tables.stage_events.insert().values(**msgspec.structs.asdict(change)))
    versions = tables.versions
    connection.execute(
        versions.update()
        .where(versions.c.model == change.model, versions.c.version == change.version)
        .values(stage=change.to_stage)
    )
