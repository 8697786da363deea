"""How versions do by their labels: performance, calibration, fairness."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query

from fairlead.admin.moments import period
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    MalformedRequest,
    ModelNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.monitoring.answered import calibration_of, fairness_of, performance_of
from fairlead.monitoring.calibration import Calibration
from fairlead.monitoring.fairness import Fairness
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.measured import Performance, Seen
from fairlead.monitoring.performing import WINDOW, Performing
from fairlead.monitoring.verdicts import Rules, findings_of
from fairlead.registry.registry import Registry

__all__ = ["performance_routes"]

_Version = Annotated[str | None, Query(description="A version or an alias; else the one in production.")]
_Since = Annotated[
    datetime | None, Query(description="Beginning, with its zone; else a week before the end.")
]
_Until = Annotated[datetime | None, Query(description="End, with its time zone; now when it is left out.")]
_REFUSED = refusals(ModelNotFound, VersionNotFound, MalformedRequest, StoreUnavailable, DeadlineExceeded)


class PerformanceView(msgspec.Struct, frozen=True, kw_only=True):
    """The figures, and what they come to."""

    performance: Performance
    findings: list[Finding]


class CalibrationView(msgspec.Struct, frozen=True, kw_only=True):
    """How scores stand in the window; null without labels or scores."""

    model: str
    version: str
    start: datetime
    end: datetime
    calibration: Calibration | None
    findings: list[Finding]


class FairnessView(msgspec.Struct, frozen=True, kw_only=True):
    """Each slice that the contract declares; none where the model has no two classes."""

    model: str
    version: str
    start: datetime
    end: datetime
    slices: list[Fairness]
    findings: list[Finding]


def performance_routes(registry: Registry, performing: Performing) -> APIRouter:
    """The routes below `/models/{model}` that tell how a version does. `StoreUnavailable` while ingest is
    away."""
    routes = APIRouter(prefix="/models/{model}", tags=["monitoring"], route_class=StrictRoute)

    def seen_of(model: str, version: str | None, since: datetime | None, until: datetime | None) -> Seen:
        begin, end = period(since, until, WINDOW)
        return performing.seen(model, serving(registry, model, version), begin, end)

    @routes.get("/performance", summary="How well a version does", responses=_REFUSED)
    def get_performance(
        model: str, version: _Version = None, since: _Since = None, until: _Until = None
    ) -> Annotated[PerformanceView, WIRE]:
        """Its figures with intervals, of labels that have come and estimated without; by time, slice and arm,
        beside those of its first labels."""
        seen = seen_of(model, version, since, until)
        rules = performing.rules(model)
        found = performance_of(seen, tolerance=rules.tolerance, needed=rules.steps)
        return PerformanceView(performance=found, findings=_of(seen, rules, "performance", "estimate"))

    @routes.get("/calibration", summary="Whether scores mean what they say", responses=_REFUSED)
    def get_calibration(
        model: str, version: _Version = None, since: _Since = None, until: _Until = None
    ) -> Annotated[CalibrationView, WIRE]:
        """Reliability by bins of the score, ECE beside what chance makes of it, the Brier score's parts."""
        seen = seen_of(model, version, since, until)
        return CalibrationView(
            model=model, version=seen.version, start=seen.start, end=seen.end,
            calibration=calibration_of(seen), findings=_of(seen, performing.rules(model), "calibration"),
        )  # fmt: skip

    @routes.get("/fairness", summary="Whom a version treats how", responses=_REFUSED)
    def get_fairness(
        model: str, version: _Version = None, since: _Since = None, until: _Until = None
    ) -> Annotated[FairnessView, WIRE]:
        """Selection and error rates of the parts of each slice with their intervals, and the gaps between."""
        seen = seen_of(model, version, since, until)
        return FairnessView(
            model=model, version=seen.version, start=seen.start, end=seen.end,
            slices=fairness_of(seen), findings=_of(seen, performing.rules(model), "fairness"),
        )  # fmt: skip

    return routes


def serving(registry: Registry, model: str, version: str | None) -> str:
    """The version that is meant: by name or alias, else the one in production, else the newest."""
    if version is not None:
        return registry.resolve(model, version)
    held = registry.model(model)
    if held.production is None and not held.versions:
        raise VersionNotFound(f"Model {model!r} has no version.", remedy="Register one.", model=model)
    return held.production or held.versions[-1]


def _of(seen: Seen, rules: Rules, *kinds: str) -> list[Finding]:
    return [finding for finding in findings_of(seen, rules) if finding.kind in kinds]
