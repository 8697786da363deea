"""Everything that is known of how a version did: as a document, and as a page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from fairlead.admin.moments import period, since_of
from fairlead.admin.performance import serving
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    MalformedRequest,
    ModelNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.monitoring.page import page
from fairlead.monitoring.report import MonitoringReport, Reports
from fairlead.registry.registry import Registry

__all__ = ["report_routes"]

_Version = Annotated[str | None, Query(description="A version or an alias; else the one in production.")]
_Since = Annotated[str, Query(description="A span such as 24h, or a time with an offset: the beginning.")]
_Until = Annotated[datetime | None, Query(description="The end; now unless given.")]
_REFUSED = refusals(ModelNotFound, VersionNotFound, MalformedRequest, StoreUnavailable, DeadlineExceeded)
_LEAST = timedelta(minutes=1)


def report_routes(registry: Registry, reports: Reports) -> APIRouter:
    """The routes below `/models/{model}/report`. `StoreUnavailable` while ingest is away."""
    routes = APIRouter(prefix="/models/{model}/report", tags=["monitoring"], route_class=StrictRoute)

    def made(model: str, version: str | None, since: str, until: datetime | None) -> MonitoringReport:
        _, end = period(None, until, _LEAST)
        begin, end = period(since_of(since, end), end, _LEAST)
        return reports.of(model, serving(registry, model, version), begin, end)

    @routes.get("", summary="How a version did", responses=_REFUSED)
    def get_report(
        model: str, version: _Version = None, since: _Since = "7d", until: _Until = None
    ) -> Annotated[MonitoringReport, WIRE]:
        """Performance by labels and estimated without, calibration, drift, slices and fairness, with every
        number that they rest on."""
        return made(model, version, since, until)

    @routes.get("/page", summary="The report as a page", response_class=HTMLResponse, responses=_REFUSED)
    def get_report_page(
        model: str, version: _Version = None, since: _Since = "7d", until: _Until = None
    ) -> HTMLResponse:
        """The same as one HTML document that needs nothing else."""
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return HTMLResponse(
            page(made(model, version, since, until)), headers={"Content-Security-Policy": policy}
        )

    return routes
