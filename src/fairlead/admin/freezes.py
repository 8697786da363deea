"""Freeze windows: times in which no version gets more traffic."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Body
from msgspec import Meta

from fairlead.admin.callers import Who
from fairlead.admin.moments import in_utc
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.errors import FreezeNotFound, InvalidFreeze, ModelNotFound
from fairlead.rollouts import freezes
from fairlead.rollouts.freezes import Freeze
from fairlead.stores.database import Database

__all__ = ["freeze_routes"]


class FreezeStart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window in which traffic stays as it is: of one model or, without, of all. `weekly` ones come again
    every week at the same time."""

    starts_at: Annotated[datetime, Meta(tz=True)]
    ends_at: Annotated[datetime, Meta(tz=True)]
    reason: Annotated[str, Meta(max_length=1_000, description="Why; who is held up reads it.")]
    model: str | None = None
    weekly: bool = False


def freeze_routes(database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> APIRouter:
    """The routes below `/freezes`."""
    routes = APIRouter(prefix="/freezes", tags=["traffic"], route_class=StrictRoute)

    @routes.post("", summary="Freeze traffic", responses=refusals(ModelNotFound, InvalidFreeze))
    def start_freeze(body: Annotated[FreezeStart, WIRE, Body()], who: Who) -> Annotated[Freeze, WIRE]:
        """Begins, or announces, a window in which no rollout starts, widens or promotes and no command moves
        traffic to another version. What brings traffic back is never hindered."""
        with database.write() as connection:
            return freezes.add(
                connection,
                model=body.model,
                starts_at=in_utc(body.starts_at),
                ends_at=in_utc(body.ends_at),
                weekly=body.weekly,
                reason=body.reason,
                who=who,
                now=clock(),
            )

    @routes.get("", summary="Freeze windows")
    def list_freezes(model: str | None = None, over: bool = False) -> list[Annotated[Freeze, WIRE]]:
        """The windows that hold or will, the earliest first; of those that concern a model, or all. `over`
        adds those that are over."""
        with database.read() as connection:
            return freezes.every(connection, model, clock(), over=over)

    @routes.delete("/{freeze}", summary="End a freeze", responses=refusals(FreezeNotFound))
    def end_freeze(freeze: str, who: Who, why: str = "") -> Annotated[Freeze, WIRE]:
        """Ends a window before its time."""
        with database.write() as connection:
            return freezes.end(connection, freeze, who=who, why=why, now=clock())

    return routes
