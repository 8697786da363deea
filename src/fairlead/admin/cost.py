"""What models, their versions and their callers cost."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from fairlead.admin.moments import period, since_of
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import DeadlineExceeded, MalformedRequest, ModelNotFound, StoreUnavailable
from fairlead.monitoring.cost import By
from fairlead.monitoring.costing import Costing, CostReport

__all__ = ["cost_routes"]

_LEAST = timedelta(minutes=1)


def cost_routes(costing: Costing) -> APIRouter:
    """The route `/cost`."""
    routes = APIRouter(tags=["monitoring"], route_class=StrictRoute)

    @routes.get(
        "/cost",
        summary="What versions or callers have used, and what it cost",
        responses=refusals(ModelNotFound, MalformedRequest, StoreUnavailable, DeadlineExceeded),
    )
    def report_cost(
        model: Annotated[str | None, Query(description="Of this model alone.")] = None,
        since: Annotated[
            str, Query(description="A span such as 30d, or a time with an offset: the beginning.")
        ] = "30d",
        until: Annotated[datetime | None, Query(description="The end; now unless given.")] = None,
        by: Annotated[
            By, Query(description="A line per version, or per caller by its use case.")
        ] = "version",
    ) -> Annotated[CostReport, WIRE]:
        """Compute seconds and, where there is a price, cost; in all and per thousand answers. Of whole hours:
        the one of the beginning and that of the end are in it."""
        _, end = period(None, until, _LEAST)
        begin, end = period(since_of(since, end), end, _LEAST)
        return costing.report(begin, end, model=model, by=by)

    return routes
