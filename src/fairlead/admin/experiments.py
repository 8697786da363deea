"""Experiments: what a rollout that splits the traffic has found out."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from fairlead.admin.moments import seconds_of
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    ExperimentNotFound,
    MalformedRequest,
    ModelNotFound,
    StoreUnavailable,
)
from fairlead.experiments.question import Question
from fairlead.rollouts.experiments import Experiment, Experiments, Found

__all__ = ["experiment_routes"]

_LOG = (StoreUnavailable, DeadlineExceeded)


def experiment_routes(experiments: Experiments) -> APIRouter:
    """The routes below `/models/{model}/experiments`. `StoreUnavailable` while ingest is away."""
    routes = APIRouter(prefix="/models/{model}/experiments", tags=["experiments"], route_class=StrictRoute)

    @routes.get("", summary="A model's experiments", responses=refusals(ModelNotFound))
    def list_experiments(
        model: str, limit: Annotated[int, Query(ge=1, le=1_000)] = 20
    ) -> list[Annotated[Experiment, WIRE]]:
        """The rollouts that split the model's traffic, newest first, without their phases."""
        return experiments.of_model(model, limit)

    @routes.get(
        "/{experiment}",
        summary="What an experiment has found out",
        responses=refusals(ModelNotFound, ExperimentNotFound, MalformedRequest, *_LOG),
    )
    def report_experiment(
        model: str,
        experiment: str,
        metric: Annotated[
            list[str] | None,
            Query(description="Outcomes to compare beside the rollout's own, or two as in revenue/orders."),
        ] = None,
        window: Annotated[
            str | None,
            Query(description="How long after its first exposure a unit's outcomes count, as in 7d."),
        ] = None,
        higher_is: Annotated[
            Literal["better", "worse"], Query(description="What more of those metrics means.")
        ] = "better",
    ) -> Annotated[Found, WIRE]:
        """The verdict in a sentence and the numbers under it: intervals that hold at every look, lift, sample
        ratio, guardrails, belief, and what is still needed. `latest` names the newest."""
        seconds = 0.0 if window is None else seconds_of(window)
        also = [Question(name=name, window=seconds, higher_is=higher_is) for name in metric or ()]
        return experiments.report(model, _named(experiment), also)

    return routes


def _named(experiment: str) -> str | None:
    return None if experiment == "latest" else experiment
