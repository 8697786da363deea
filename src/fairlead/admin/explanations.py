"""Explanations: why a logged request was answered as it was."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    DeadlineExceeded,
    MalformedRequest,
    NotExplainable,
    Overloaded,
    RecordNotFound,
    RuntimeFailed,
    StoreUnavailable,
    TrustRequired,
    VersionNotFound,
)
from fairlead.explanations.explaining import Explaining, Explanation

__all__ = ["explanation_routes"]


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
