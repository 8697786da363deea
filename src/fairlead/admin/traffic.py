"""Traffic: who gets what, the commands that change it, and what became of each."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

from fairlead.admin.callers import Expected, Key, Who, order
from fairlead.admin.problems import refusals
from fairlead.admin.traffic_schemas import ArmView, Deploy, PlanView, Promote, Rollback, TrafficView, Weights
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    Frozen,
    GateClosed,
    GenerationConflict,
    InvalidPlan,
    ModelNotFound,
    NothingToRollBack,
    PrepareFailed,
    RolloutInProgress,
    VersionNotFound,
)
from fairlead.registry.lookup import require_model
from fairlead.rollouts.confirmation import Confirmation
from fairlead.rollouts.traffic import Traffic
from fairlead.routing import plans
from fairlead.routing.fallbacks import previous_production
from fairlead.routing.plan import Plan

__all__ = ["arms_of", "plan_view", "traffic_routes"]

_MOVE = (ModelNotFound, VersionNotFound, InvalidPlan, GenerationConflict, PrepareFailed)
_COMMAND = (*_MOVE, GateClosed, Frozen)


def traffic_routes(traffic: Traffic) -> APIRouter:
    """The routes below `/models/{model}` that are about traffic."""
    routes = APIRouter(prefix="/models/{model}", tags=["traffic"], route_class=StrictRoute)

    @routes.get("/traffic", summary="Who gets what", responses=refusals(ModelNotFound))
    def get_traffic(model: str, response: Response) -> Annotated[TrafficView, WIRE]:
        """The active plan. Its generation is the ETag, to be sent as `If-Match` with a command."""
        with traffic.database.read() as connection:
            require_model(connection, model)
            active = plans.active(connection, model)
            waiting = plans.pending(connection, model)
            previous = previous_production(connection, model)
        generation = active.generation if active else 0
        response.headers["ETag"] = f'"{generation}"'
        return TrafficView(
            model=model,
            generation=generation,
            arms=arms_of(active) if active else [],
            weights=active.weights() if active else {},
            preparing=plan_view(waiting) if waiting else None,
            previous=previous,
        )

    @routes.get("/plans", summary="What became of each command", responses=refusals(ModelNotFound))
    def list_plans(
        model: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 100
    ) -> list[Annotated[PlanView, WIRE]]:
        """The model's plans, newest first, those that failed or were overtaken included."""
        with traffic.database.read() as connection:
            require_model(connection, model)
            return [plan_view(row) for row in plans.history(connection, model, limit)]

    @routes.put("/traffic", summary="Split the traffic", responses=refusals(*_COMMAND))
    def set_traffic(
        model: str, body: Annotated[Weights, WIRE, Body()], who: Who, expected: Expected, key: Key
    ) -> Annotated[Confirmation, WIRE]:
        """Gives each version its percent. Arms that stay lose no unit that they need not lose."""
        return traffic.set_weights(model, body.weights, order(who, body.why, expected, key, body.override))

    @routes.post("/deploy", summary="Deploy a version", responses=refusals(*_COMMAND, RolloutInProgress))
    def deploy(
        model: str, body: Annotated[Deploy, WIRE, Body()], who: Who, expected: Expected, key: Key
    ) -> Annotated[Confirmation, WIRE]:
        """Puts a version on traffic once every live gateway has loaded and warmed it."""
        return traffic.deploy(
            model,
            body.version,
            order(who, body.why, expected, key, body.override),
            strategy=body.strategy,
            weight=body.weight,
            supersede=body.supersede,
        )

    @routes.post("/promote", summary="Promote the canary", responses=refusals(*_COMMAND))
    def promote(
        model: str,
        who: Who,
        expected: Expected,
        key: Key,
        body: Annotated[Annotated[Promote, WIRE] | None, Body()] = None,
    ) -> Annotated[Confirmation, WIRE]:
        """Gives the canary, or else the only version beside the stable one, everything."""
        asked = body or Promote()
        return traffic.promote(model, order(who, asked.why, expected, key, asked.override))

    @routes.post("/rollback", summary="Roll back", responses=refusals(*_MOVE, NothingToRollBack))
    def rollback(
        model: str,
        who: Who,
        expected: Expected,
        key: Key,
        body: Annotated[Annotated[Rollback, WIRE] | None, Body()] = None,
    ) -> Annotated[Confirmation, WIRE]:
        """While several versions have traffic, the stable one gets everything; else the production version
        before does. It answers when every live gateway serves it, or names those that do not."""
        asked = body or Rollback()
        return traffic.rollback(model, order(who, asked.why, expected, key), to=asked.to)

    return routes


def arms_of(plan: Plan) -> list[ArmView]:
    """The plan's arms with their shares."""
    shares = plan.shares()
    return [
        ArmView(name=arm.name, version=arm.version, role=arm.role, share=shares[arm.name])
        for arm in plan.arms
    ]


def plan_view(row: plans.PlanRow) -> PlanView:
    """A plan of the history as people see it."""
    return PlanView(
        generation=row.plan.generation,
        state=row.state,
        command=row.command,
        who=row.who,
        why=row.why,
        created_at=row.created_at,
        activated_at=row.activated_at,
        reason=row.reason,
        arms=arms_of(row.plan),
    )
