"""The prediction log, asked through ingest: SQL, records, windows, outcomes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Body, Query

from fairlead.admin.moments import SPAN, period, seconds_of
from fairlead.admin.problems import refusals
from fairlead.admin.schemas import LogRows, OutcomeView, Sql, WindowView
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    InvalidQuery,
    ModelNotFound,
    RecordNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.shadow_report import ShadowReport
from fairlead.registry.lookup import require_model
from fairlead.registry.registry import Registry

__all__ = ["prediction_routes"]

_MOST_ROWS = 10_000
_LOG = (StoreUnavailable, DeadlineExceeded)

_Since = Annotated[datetime | None, Query(description="Beginning, with its time zone.")]
_Until = Annotated[datetime | None, Query(description="End, with its time zone; now when it is left out.")]


def prediction_routes(ingest: IngestClient, registry: Registry) -> APIRouter:
    """The routes that read the prediction log. `StoreUnavailable` while ingest is away."""
    routes = APIRouter(tags=["predictions"], route_class=StrictRoute)

    @routes.post(
        "/predictions/sql", summary="Query the prediction log", responses=refusals(InvalidQuery, *_LOG)
    )
    def query(body: Annotated[Sql, WIRE, Body()]) -> Annotated[LogRows, WIRE]:
        """One SELECT in DuckDB's SQL over `predictions` and `outcomes`; it can read nothing else."""
        answer = ingest.call("sql", sql=body.sql, limit=min(body.limit, _MOST_ROWS))
        names = [column["name"] for column in answer["columns"]]
        return LogRows(
            columns=names,
            types=[column["type"] for column in answer["columns"]],
            rows=[[row[name] for name in names] for row in answer["rows"]],
            truncated=answer["truncated"],
        )

    @routes.get(
        "/predictions/{request_id:path}",  # an id is what a caller chose, slashes included
        summary="The records of a request",
        responses=refusals(RecordNotFound, *_LOG),
    )
    def find_record(request_id: str) -> list[dict[str, Any]]:
        """One record per row of the request, with the features as the model got them."""
        records: list[dict[str, Any]] = ingest.call("find", request_id=request_id)
        if not records:
            raise RecordNotFound(
                f"There is no record of request {request_id!r}.",
                remedy="Requests that were shed have none, and an answer is in the log within 2 s.",
            )
        return records

    @routes.get(
        "/models/{model}/windows",
        summary="How versions did, step by step",
        responses=refusals(ModelNotFound, InvalidQuery, *_LOG),
    )
    def list_windows(
        model: str,
        since: _Since = None,
        until: _Until = None,
        step: Annotated[int, Query(ge=60, le=7 * 86_400, description="Seconds, in whole minutes.")] = 60,
    ) -> list[Annotated[WindowView, WIRE]]:
        """Counts, rates and latencies per step, version, arm and source; of the last hour by default."""
        _require(registry, model)
        begin, end = period(since, until, timedelta(hours=1))
        found = ingest.call("windows", model=model, since=begin, until=end, step=step)
        return msgspec.convert(found, list[WindowView], strict=False)

    @routes.get(
        "/models/{model}/versions/{version}/metrics",
        summary="How a version has answered lately",
        responses=refusals(ModelNotFound, VersionNotFound, *_LOG),
    )
    def get_metrics(
        model: str,
        version: str,
        window: Annotated[
            str, Query(pattern=f"^{SPAN.pattern}$", description="How far back, as in 15m, 24h or 7d.")
        ] = "24h",
    ) -> Annotated[WindowView, WIRE]:
        """Counts, rates and latencies over the window, over all arms of the version."""
        name = registry.resolve(model, version)
        found = ingest.call("version_metrics", model=model, version=name, window_seconds=seconds_of(window))
        return msgspec.convert(found, WindowView, strict=False)

    @routes.get(
        "/models/{model}/outcomes/summary",
        summary="What became of predictions",
        responses=refusals(ModelNotFound, *_LOG),
    )
    def summarise_outcomes(
        model: str, since: _Since = None, until: _Until = None
    ) -> list[Annotated[OutcomeView, WIRE]]:
        """Outcomes of the predictions made in the period, per version and arm; the last week by default."""
        _require(registry, model)
        begin, end = period(since, until, timedelta(days=7))
        found = ingest.call("outcomes", model=model, since=begin, until=end)
        return msgspec.convert(found, list[OutcomeView], strict=False)

    @routes.get(
        "/models/{model}/shadow",
        summary="What a shadow would have answered",
        responses=refusals(ModelNotFound, VersionNotFound, *_LOG),
    )
    def report_shadow(
        model: str,
        since: _Since = None,
        until: _Until = None,
        version: Annotated[str | None, Query(description="A version or an alias; else the latest.")] = None,
    ) -> Annotated[ShadowReport, WIRE]:
        """A shadow's answers beside those that were given: whether and on whom they differ, errors and
        latencies; of the last 24 hours by default."""
        _require(registry, model)
        begin, end = period(since, until, timedelta(hours=24))
        name = None if version is None else registry.resolve(model, version)
        slices = [field.name for field in registry.contract(model, name).inputs if field.slice]
        found = ingest.call("shadow", model=model, since=begin, until=end, version=name, slices=slices)
        return msgspec.convert(found, ShadowReport, strict=False)

    return routes


def _require(registry: Registry, model: str) -> None:
    with registry.database.read() as connection:
        require_model(connection, model)
