"""Syncs of outcomes: reading them from somebody else's database, again and again."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Body
from msgspec import Meta

from fairlead.admin.callers import Who
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import InvalidName, InvalidSync, ModelNotFound, SyncNotFound
from fairlead.syncs.runner import Syncs
from fairlead.syncs.sync import Sync, SyncState

__all__ = ["sync_routes"]


class SyncBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A query that answers unit or request_id, metric, value, at, and if wanted outcome_id, row and mode.

    The database's URL lies in control's environment under `url_env`, or on its machine in `url_file`; it is
    not kept and not shown. `every` and `overlap` are seconds.
    """

    model: str
    sql: Annotated[str, Meta(min_length=1, max_length=100_000)]
    every: float = 900.0
    url_env: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    url_file: Annotated[str, Meta(min_length=1, max_length=4_000)] | None = None
    overlap: float = 600.0


def sync_routes(syncs: Syncs) -> APIRouter:
    """The routes below `/outcomes/syncs`."""
    routes = APIRouter(prefix="/outcomes/syncs", tags=["predictions"], route_class=StrictRoute)

    @routes.get("", summary="The syncs of outcomes")
    def list_syncs() -> list[Annotated[SyncState, WIRE]]:
        """All syncs and how they fare: how far they have read, and the error of those that fail."""
        return syncs.all()

    @routes.put(
        "/{name}",
        summary="Make or change a sync",
        responses=refusals(ModelNotFound, InvalidName, InvalidSync),
    )
    def put_sync(name: str, body: Annotated[SyncBody, WIRE, Body()], who: Who) -> Annotated[SyncState, WIRE]:
        """Reads outcomes by that query from now on, once the database has answered with the right columns.
        With another query or model it begins at the first row."""
        return syncs.put(Sync(name=name, **msgspec.structs.asdict(body)), who=who)

    @routes.post("/{name}/run", summary="Run a sync now", responses=refusals(SyncNotFound, InvalidSync))
    def run_sync(name: str) -> Annotated[SyncState, WIRE]:
        """Reads until nothing waits there, and answers how it fares."""
        return syncs.run_now(name)

    @routes.delete("/{name}", summary="Remove a sync", responses=refusals(SyncNotFound))
    def remove_sync(name: str, who: Who) -> Annotated[SyncState, WIRE]:
        """Takes a sync away; the outcomes that it has brought stay."""
        return syncs.remove(name, who=who)

    return routes
