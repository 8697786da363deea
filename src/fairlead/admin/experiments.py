"""Experiments: what a rollout that splits the traffic has found out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

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
from fairlead.rollouts.experiments import Audited, Experiment, Experiments, Found
from fairlead.rollouts.exposure_files import Format, write_exposures

__all__ = ["experiment_routes"]

_KINDS: dict[Format, str] = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
_PIECE_BYTES = 1 << 18
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

    @routes.get(
        "/{experiment}/audit",
        summary="Whether the log says what the plans gave",
        responses=refusals(ModelNotFound, ExperimentNotFound, *_LOG),
    )
    def audit_experiment(model: str, experiment: str) -> Annotated[Audited, WIRE]:
        """Every record of the experiment held against the assignment recomputed from the stored plans; those
        that differ are listed."""
        return experiments.audit(model, _named(experiment))

    @routes.get(
        "/{experiment}/exposures",
        summary="An experiment's exposures as a file",
        response_class=StreamingResponse,
        responses=refusals(ModelNotFound, ExperimentNotFound, *_LOG)
        | {200: {"description": "The file.", "content": {kind: {} for kind in _KINDS.values()}}},
    )
    def export_exposures(
        model: str,
        experiment: str,
        format: Annotated[Format, Query(description="Of the file.")] = "csv",
    ) -> StreamingResponse:
        """One row per unit: the arm and version that it met first, when, and by which generation."""
        portions = experiments.exposures(model, _named(experiment))
        file = tempfile.TemporaryFile()  # noqa: SIM115  (open until its last piece is sent)
        write_exposures(portions, file, format)
        file.seek(0)
        return StreamingResponse(_pieces(file), media_type=_KINDS[format])

    return routes


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _named(experiment: str) -> str | None:
    return None if experiment == "latest" else experiment
