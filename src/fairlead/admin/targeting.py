"""What comes before a split: targeting rules, holdouts and layers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body
from msgspec import Meta

from fairlead.admin.callers import Expected, Key, Who, order
from fairlead.admin.problems import refusals
from fairlead.admin.schemas import Override, Why
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    GateClosed,
    GenerationConflict,
    InvalidPlan,
    ModelNotFound,
    PrepareFailed,
    VersionNotFound,
)
from fairlead.registry.lookup import require_model
from fairlead.rollouts import layers
from fairlead.rollouts.beside import hold_out, set_rules
from fairlead.rollouts.confirmation import Confirmation
from fairlead.rollouts.layers import LayerState
from fairlead.rollouts.traffic import Traffic
from fairlead.routing import plans
from fairlead.routing.plan import Plan
from fairlead.routing.targeting import Rule

__all__ = ["layer_routes", "targeting_routes"]

_COMMAND = (ModelNotFound, InvalidPlan, GenerationConflict, PrepareFailed)
_TARGET = (*_COMMAND, VersionNotFound, GateClosed)


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules in their order, instead of those that are there; an empty list takes them away."""

    rules: tuple[Rule, ...]
    override: Override = ""
    why: Why = ""


class HoldOut(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many percent of the units get no candidate, and until when; 0 ends the holdout."""

    percent: Annotated[float, Meta(ge=0, lt=100)]
    until: Annotated[datetime, Meta(tz=True)] | None = None
    why: Why = ""


class HoldoutView(msgspec.Struct, frozen=True, kw_only=True):
    """The holdout that is there: its units are in the log under the arm `holdout`."""

    percent: float
    since: datetime
    until: datetime | None


class TargetingView(msgspec.Struct, frozen=True, kw_only=True):
    """What comes before the split at that generation."""

    model: str
    generation: int
    rules: list[Rule]
    holdout: HoldoutView | None
    layer: str | None


def targeting_routes(traffic: Traffic) -> APIRouter:
    """The routes below `/models/{model}` that are about what comes before the split."""
    routes = APIRouter(prefix="/models/{model}", tags=["traffic"], route_class=StrictRoute)

    @routes.get("/targeting", summary="What comes before the split", responses=refusals(ModelNotFound))
    def get_targeting(model: str) -> Annotated[TargetingView, WIRE]:
        """The model's rules in their order, its holdout, and the layer that its rollout is in."""
        with traffic.database.read() as connection:
            require_model(connection, model)
            return _view(model, plans.active(connection, model))

    @routes.put("/targeting", summary="Set the rules", responses=refusals(*_TARGET))
    def set_targeting(
        model: str, body: Annotated[Rules, WIRE, Body()], who: Who, expected: Expected, key: Key
    ) -> Annotated[Confirmation, WIRE]:
        """Sends who matches a rule to its version, or to the stable one, whatever the split says. A rollout
        under way goes on with a new phase."""
        asked = order(who, body.why, expected, key, body.override)
        return set_rules(traffic, model, body.rules, asked)

    @routes.put("/holdout", summary="Hold units out", responses=refusals(*_COMMAND))
    def set_holdout(
        model: str, body: Annotated[HoldOut, WIRE, Body()], who: Who, expected: Expected, key: Key
    ) -> Annotated[Confirmation, WIRE]:
        """Keeps a share of the units from every candidate, over all rollouts, until its end. A rollout under
        way goes on with a new phase."""
        asked = order(who, body.why, expected, key)
        return hold_out(traffic, model, body.percent, asked, until=body.until, now=datetime.now(UTC))

    return routes


def layer_routes(traffic: Traffic) -> APIRouter:
    """The routes about layers."""
    routes = APIRouter(prefix="/layers", tags=["rollouts"], route_class=StrictRoute)

    @routes.get("", summary="Layers")
    def list_layers() -> list[Annotated[LayerState, WIRE]]:
        """The layers that rollouts have named, who has parts of them, and what is free."""
        with traffic.database.read() as connection:
            return layers.listed(connection, datetime.now(UTC))

    return routes


def _view(model: str, plan: Plan | None) -> TargetingView:
    held = plan.holdout if plan else None
    return TargetingView(
        model=model,
        generation=plan.generation if plan else 0,
        rules=list(plan.rules) if plan else [],
        holdout=None
        if held is None
        else HoldoutView(
            percent=held.percent,
            since=datetime.fromtimestamp(held.since, UTC),
            until=None if held.until is None else datetime.fromtimestamp(held.until, UTC),
        ),
        layer=plan.layer.name if plan and plan.layer else None,
    )
