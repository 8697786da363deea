"""Drift: how what came lies beside a reference."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query

from fairlead.admin.moments import period, since_of
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    MalformedRequest,
    ModelNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.monitoring.drift_report import DriftReport
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.references import Against
from fairlead.monitoring.separating import SeparatedReport, Separating

__all__ = ["drift_routes"]

_LEAST = timedelta(minutes=1)


def drift_routes(drifting: Drifting, separating: Separating) -> APIRouter:
    """The routes below `/models/{model}/drift`. `StoreUnavailable` while ingest is away."""
    routes = APIRouter(prefix="/models/{model}/drift", tags=["monitoring"], route_class=StrictRoute)

    @routes.get(
        "",
        summary="How what came lies beside a reference",
        responses=refusals(
            ModelNotFound, VersionNotFound, MalformedRequest, StoreUnavailable, DeadlineExceeded
        ),
    )
    def report_drift(
        model: str,
        version: Annotated[str | None, Query(description="What answered; else that in production.")] = None,
        against: Annotated[
            Against,
            Query(
                description="The reference: the version's training data, the seven days before, the same "
                "time a week before, or the traffic of the version named in `other`."
            ),
        ] = "training",
        other: Annotated[str | None, Query(description="Which version, against a version.")] = None,
        since: Annotated[
            str, Query(description="A span such as 24h, or a time with an offset: the beginning.")
        ] = "24h",
        until: Annotated[datetime | None, Query(description="The end; now unless given.")] = None,
    ) -> Annotated[DriftReport, WIRE]:
        """Every field, answer and slice: how far it lies from the reference, whether chance explains it, and
        what changed in words; and how often rules of the contract were broken, now and before."""
        begin, end = _window(since, until)
        return drifting.report(model, begin, end, version=version, against=against, other=other)

    @routes.get(
        "/multivariate",
        summary="Whether rows can be told from a reference by all their fields together",
        responses=refusals(
            ModelNotFound, VersionNotFound, MalformedRequest, StoreUnavailable, DeadlineExceeded
        ),
    )
    def report_multivariate_drift(
        model: str,
        version: Annotated[str | None, Query(description="What answered; else that in production.")] = None,
        against: Annotated[
            Literal["before", "week-before", "version"],
            Query(description="The reference; training data are not kept as rows."),
        ] = "before",
        other: Annotated[str | None, Query(description="Which version, against a version.")] = None,
        since: Annotated[
            str, Query(description="A span such as 24h, or a time with an offset: the beginning.")
        ] = "24h",
        until: Annotated[datetime | None, Query(description="The end; now unless given.")] = None,
    ) -> Annotated[SeparatedReport, WIRE]:
        """How well a classifier tells up to 4,000 rows of the window from as many of the reference."""
        begin, end = _window(since, until)
        return separating.report(model, begin, end, version=version, against=against, other=other)

    return routes


def _window(since: str, until: datetime | None) -> tuple[datetime, datetime]:
    _, end = period(None, until, _LEAST)
    return period(since_of(since, end), end, _LEAST)
