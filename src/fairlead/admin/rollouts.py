"""Rollouts: how each stands and why, and the commands that people give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body, Query

from fairlead.admin.callers import Expected, Key, Who, order
from fairlead.admin.problems import refusals
from fairlead.admin.traffic_schemas import RolloutCommand, RolloutStart, RolloutView, StepView
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    Frozen,
    GateClosed,
    GenerationConflict,
    InvalidRollout,
    ModelNotFound,
    RolloutInProgress,
    RolloutNotFound,
    VersionNotFound,
    WrongRolloutState,
)
from fairlead.rollouts.commands import Rollouts, Standing
from fairlead.rollouts.judge import Judgement
from fairlead.rollouts.ledger import Entry, Event
from fairlead.rollouts.reading import preset, read_spec
from fairlead.rollouts.spec import RolloutSpec
from fairlead.rollouts.states import Command

__all__ = ["rollout_routes", "rollout_view"]

_SETTLE_SECONDS = 30.0
"""A command answers once the traffic is as it asks, or after so long."""


def rollout_routes(rollouts: Rollouts) -> APIRouter:
    """The routes below `/models/{model}/rollouts`."""
    routes = APIRouter(prefix="/models/{model}/rollouts", tags=["rollouts"], route_class=StrictRoute)

    @routes.post(
        "",
        summary="Start a rollout",
        responses=refusals(
            ModelNotFound,
            VersionNotFound,
            InvalidRollout,
            RolloutInProgress,
            GateClosed,
            Frozen,
            GenerationConflict,
        ),
    )
    def start_rollout(
        model: str, body: Annotated[RolloutStart, WIRE, Body()], who: Who, expected: Expected, key: Key
    ) -> Annotated[RolloutView, WIRE]:
        """Begins to roll a version out. It goes on by itself: it is widened, held or rolled back by what is
        seen of it. A version that was in production lately and was not rolled back skips the steps, unless
        the body says how it begins; `note` says so. The answer comes when its first step has its traffic, or
        it has ended."""
        asked = order(who, body.why, expected, key, body.override)
        again = preset("blue-green", bake=body.bake) if _is_usual(body) else None
        entry = rollouts.start(model, body.version, _spec(body), asked, supersede=body.supersede, again=again)
        rollouts.until_settled(entry.rollout.id, _SETTLE_SECONDS)
        return _standing(rollouts.get(model, entry.rollout.id))

    @routes.get("", summary="A model's rollouts", responses=refusals(ModelNotFound))
    def list_rollouts(
        model: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 20
    ) -> list[Annotated[RolloutView, WIRE]]:
        """The model's rollouts, newest first, without their journals."""
        return [rollout_view(entry) for entry in rollouts.of_model(model, limit)]

    @routes.get("/{rollout}", summary="One rollout", responses=refusals(ModelNotFound, RolloutNotFound))
    def get_rollout(model: str, rollout: str) -> Annotated[RolloutView, WIRE]:
        """How a rollout stands, and its journal: every transition with what it rests on. `present` names the
        one that is under way."""
        return _standing(rollouts.get(model, _named(rollout)))

    @routes.post(
        "/{rollout}/{command}",
        summary="Command a rollout",
        responses=refusals(
            ModelNotFound, RolloutNotFound, WrongRolloutState, GateClosed, Frozen, GenerationConflict
        ),
    )
    def command_rollout(
        model: str,
        rollout: str,
        command: Command,
        who: Who,
        expected: Expected,
        key: Key,
        body: Annotated[Annotated[RolloutCommand, WIRE] | None, Body()] = None,
    ) -> Annotated[RolloutView, WIRE]:
        """Pauses, resumes, approves, promotes, widens or aborts a rollout; `present` names the one that is
        under way. The answer comes when its traffic is as its state asks, or half a minute later."""
        said = body or RolloutCommand()
        asked = order(who, said.why, expected, key, said.override)
        entry = rollouts.command(model, command, asked, _named(rollout))
        rollouts.until_settled(entry.rollout.id, _SETTLE_SECONDS)
        return _standing(rollouts.get(model, entry.rollout.id))

    return routes


def _spec(body: RolloutStart) -> RolloutSpec:
    if body.plan is None:
        return preset(
            body.strategy,
            weight=body.weight,
            steps=body.steps,
            bake=body.bake,
            shadow=_is_usual(body) and body.shadow,
        )
    if (body.weight, body.steps, body.bake) != (None, None, None):
        raise InvalidRollout(
            "A plan and flags are given.", remedy="Put weight, steps and bake into the plan."
        )
    return read_spec(body.plan)


def _is_usual(body: RolloutStart) -> bool:
    """Whether nothing says how the rollout begins."""
    return body.strategy == "canary" and (body.plan, body.weight, body.steps) == (None, None, None)


def _named(rollout: str) -> str | None:
    return None if rollout == "present" else rollout


def _standing(found: Standing) -> RolloutView:
    return rollout_view(found.entry, found.journal, found.weights, found.judgement, found.held)


def rollout_view(
    entry: Entry,
    journal: Sequence[Event] = (),
    weights: Mapping[str, float] = {},
    judgement: Judgement | None = None,
    held: str | None = None,
) -> RolloutView:
    """A rollout as the API tells of it, with as much as is known."""
    rollout = entry.rollout
    return RolloutView(
        id=rollout.id,
        model=rollout.model,
        stable=rollout.stable,
        candidate=rollout.candidate,
        state=rollout.state,
        strategy=rollout.spec.strategy,
        step=rollout.step,
        steps=[StepView(weight=step.weight, mirror=step.mirror) for step in rollout.spec.steps],
        paused_because=rollout.paused_because,
        generation=rollout.generation,
        started_at=rollout.started_at,
        entered_at=rollout.entered_at,
        updated_at=entry.updated_at,
        who=entry.who,
        why=entry.why,
        note=rollout.note,
        spec=msgspec.to_builtins(rollout.spec),
        weights=dict(weights),
        judgement=None if judgement is None else msgspec.to_builtins(judgement),
        held=held,
        journal=list(journal),
    )
