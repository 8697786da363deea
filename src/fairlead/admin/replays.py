"""Replays: a logged request again, or logged traffic by another version."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body
from msgspec import Meta

from fairlead.admin.moments import in_utc, period, since_of
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import (
    MalformedRequest,
    ModelNotFound,
    Overloaded,
    RecordNotFound,
    ReplayNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.evaluation.jobs import ReplayJob, ReplayOrder, Replays
from fairlead.evaluation.replay import Replayed

__all__ = ["replay_routes"]


class RequestReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which request, and which row of it; all unless given."""

    request_id: Annotated[str, Meta(min_length=1, max_length=1_000)]
    row: Annotated[int, Meta(ge=0)] | None = None


class TrafficReplay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which requests, and by which version: the latest `limit` between `since` (a span such as 24h before
    `until`, or a time) and `until` (now), on which the SQL condition `where` holds. So many `examples` of
    each kind of change are named."""

    version: Annotated[str, Meta(min_length=1, max_length=100, description="A version, or an alias of one.")]
    since: Annotated[str, Meta(max_length=100)] = "24h"
    until: datetime | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    where: Annotated[str, Meta(max_length=10_000)] = ""
    examples: Annotated[int, Meta(ge=0, le=1_000)] = 20


def replay_routes(replays: Replays) -> APIRouter:
    """The routes that replay what lies in the log."""
    routes = APIRouter(tags=["replays"], route_class=StrictRoute)

    @routes.post(
        "/predictions/replay",
        summary="Replay a request",
        responses=refusals(RecordNotFound, MalformedRequest, Overloaded, StoreUnavailable),
    )
    def replay_request(body: Annotated[RequestReplay, WIRE, Body()]) -> list[Annotated[Replayed, WIRE]]:
        """Asks the version that answered with the same features, in a process of its own, and tells for each
        row whether the same comes out, or why it cannot be replayed. Nothing is written to the log."""
        return replays.request(body.request_id, body.row)

    @routes.post(
        "/models/{model}/replays",
        status_code=202,
        summary="Replay traffic by another version",
        responses=refusals(ModelNotFound, VersionNotFound, MalformedRequest, Overloaded),
    )
    def start_replay(model: str, body: Annotated[TrafficReplay, WIRE, Body()]) -> Annotated[ReplayJob, WIRE]:
        """Begins to ask a version what others have answered. It goes on whether anybody waits or not; its
        report stands in `/replays/{replay}` once it is done."""
        until = in_utc(body.until or datetime.now(UTC))
        since, until = period(since_of(body.since, until), until, timedelta(0))
        return replays.start(
            ReplayOrder(
                model=model,
                version=body.version,
                since=since,
                until=until,
                limit=body.limit,
                where=body.where,
                examples=body.examples,
            )
        )

    @routes.get("/replays/{replay}", summary="One replay", responses=refusals(ReplayNotFound))
    def get_replay(replay: str) -> Annotated[ReplayJob, WIRE]:
        """How far it is; its report once it is done. Control remembers the last fifty, until it restarts."""
        return replays.get(replay)

    @routes.delete("/replays/{replay}", summary="Cancel a replay", responses=refusals(ReplayNotFound))
    def cancel_replay(replay: str) -> Annotated[ReplayJob, WIRE]:
        """Ends it unless it has ended."""
        return replays.cancel(replay)

    return routes
