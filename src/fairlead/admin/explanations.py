"""Explanations: why a logged request was answered as it was, and what a version goes by."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from fairlead.admin.moments import period, since_of
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    MalformedRequest,
    ModelNotFound,
    NotExplainable,
    Overloaded,
    RecordNotFound,
    RuntimeFailed,
    StoreUnavailable,
    TrustRequired,
    VersionNotFound,
)
from fairlead.explanations.explaining import Explaining, Explanation
from fairlead.explanations.leaning import ImportanceReport, Leaning

__all__ = ["explanation_routes", "importance_routes"]

_LEAST = timedelta(minutes=1)


def explanation_routes(explaining: Explaining) -> APIRouter:
    """The route that explains what lies in the log."""
    routes = APIRouter(tags=["predictions"], route_class=StrictRoute)

    @routes.get(
        "/predictions/{request_id:path}/explanation",
        summary="Why a request was answered as it was",
        responses=refusals(
            RecordNotFound, MalformedRequest, NotExplainable, VersionNotFound, TrustRequired, Overloaded,
            RuntimeFailed, DeadlineExceeded, StoreUnavailable,
        ),
    )  # fmt: skip
    def explain_request(
        request_id: str,
        row: Annotated[int | None, Query(ge=0, description="Which row, where there are several.")] = None,
    ) -> Annotated[Explanation, WIRE]:
        """How much each feature of the row moved the answer, by the version that answered, in a process of
        its own. It takes seconds the first time; what was found is kept and is the same ever after."""
        return explaining.explain(request_id, row)

    return routes


def importance_routes(leaning: Leaning) -> APIRouter:
    """The route below `/models/{model}` that says what a version goes by."""
    routes = APIRouter(prefix="/models/{model}", tags=["monitoring"], route_class=StrictRoute)

    @routes.get(
        "/importance",
        summary="Which features a version goes by, on its training data and in traffic",
        responses=refusals(
            ModelNotFound, VersionNotFound, MalformedRequest, NotExplainable, TrustRequired, Overloaded,
            RuntimeFailed, DeadlineExceeded, StoreUnavailable,
        ),
    )  # fmt: skip
    def report_importance(
        model: str,
        version: Annotated[str | None, Query(description="Which one; else that in production.")] = None,
        since: Annotated[
            str, Query(description="A span such as 24h, or a time with an offset: the beginning.")
        ] = "24h",
        until: Annotated[datetime | None, Query(description="The end; now unless given.")] = None,
    ) -> Annotated[ImportanceReport, WIRE]:
        """The share of each feature in what moves the answers, over up to 100 rows, in a process of its own;
        beside the shares on the training data, where the version brought them."""
        _, end = period(None, until, _LEAST)
        begin, end = period(since_of(since, end), end, _LEAST)
        return leaning.report(model, begin, end, version=version)

    return routes
