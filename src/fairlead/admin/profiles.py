"""Profiles: a model's traffic, counted field by field."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from fairlead.admin.moments import period
from fairlead.admin.problems import refusals
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.contracts.profile import ReferenceProfile
from fairlead.errors import (
    BinsNotFound,
    InvalidQuery,
    ModelNotFound,
    StoreUnavailable,
    VersionNotFound,
)
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.binning import Binning
from fairlead.predictions.counted import (
    CountedWindow,
    Rebuild,
    binning,
    counted_windows,
    rebuild_profiles,
)
from fairlead.predictions.record import Source
from fairlead.registry.lookup import require_model
from fairlead.registry.references import first_reference
from fairlead.registry.registry import Registry

__all__ = ["profile_routes"]


def profile_routes(ingest: IngestClient, registry: Registry) -> APIRouter:
    """The routes below `/models/{model}/profiles`. `StoreUnavailable` while ingest is away."""
    routes = APIRouter(prefix="/models/{model}/profiles", tags=["monitoring"], route_class=StrictRoute)

    @routes.get(
        "",
        summary="What came, counted field by field",
        responses=refusals(ModelNotFound, VersionNotFound, InvalidQuery, StoreUnavailable),
    )
    def list_profiles(
        model: str,
        since: Annotated[datetime | None, Query(description="Beginning, with its time zone.")] = None,
        until: Annotated[datetime | None, Query(description="End; now when it is left out.")] = None,
        step: Annotated[
            int | None, Query(ge=60, description="Seconds, in whole minutes; one window without it.")
        ] = None,
        version: Annotated[str | None, Query(description="What answered: a version or an alias.")] = None,
        arm: Annotated[str | None, Query(description="Only that arm.")] = None,
        slice: Annotated[str, Query(description="A slice such as country=DE; all traffic without it.")] = "",
        slices: Annotated[bool, Query(description="All traffic and every slice of it.")] = False,
        source: Annotated[Source | None, Query(description="Else all but shadows and replays.")] = None,
    ) -> list[Annotated[CountedWindow, WIRE]]:
        """Counts per contract, bins and step: every field on its bins, with nulls, misfits, moments and new
        categories, and broken rules; of the last hour by default."""
        _require(registry, model)
        begin, end = period(since, until, timedelta(hours=1))
        return counted_windows(
            ingest,
            model,
            begin,
            end,
            step=step,
            version=None if version is None else registry.resolve(model, version),
            arm=arm,
            slice=None if slices else slice,
            source=source,
        )

    @routes.get(
        "/bins/{bins}",
        summary="The bins that counts lie on",
        responses=refusals(ModelNotFound, BinsNotFound, StoreUnavailable),
    )
    def get_bins(model: str, bins: str) -> Annotated[Binning, WIRE]:
        """The edges or categories of every field, with the reference's own counts, and how traffic is cut
        into slices."""
        _require(registry, model)
        found = binning(ingest, model, bins)
        if found is None:
            raise BinsNotFound(
                f"Model {model!r} has no bins {bins!r}.", remedy="A window names those that it lies on."
            )
        return found

    @routes.get(
        "/reference/{contract_id}",
        summary="The reference of a contract",
        responses=refusals(ModelNotFound, BinsNotFound, StoreUnavailable),
    )
    def get_reference(model: str, contract_id: str) -> Annotated[ReferenceProfile, WIRE]:
        """The profile of the first version under that contract that has one: later versions are profiled on
        its bins."""
        _, found = first_reference(registry, model, contract_id)
        if found is None:
            raise BinsNotFound(
                f"No version of {model!r} under contract {contract_id!r} has a reference.",
                remedy="Register one with a reference.",
            )
        return found

    @routes.post(
        "/rebuild",
        summary="Count a model's traffic anew",
        status_code=202,
        responses=refusals(ModelNotFound, StoreUnavailable),
    )
    def start_rebuild(model: str) -> Annotated[Rebuild, WIRE]:
        """Begins to count every row of the log again, on the bins that hold now; goes on by itself."""
        _require(registry, model)
        started = rebuild_profiles(ingest, model, start=True)
        return started or Rebuild(model=model, rows=0, under_way=False)

    @routes.get(
        "/rebuild",
        summary="How far counting anew is",
        responses=refusals(ModelNotFound, StoreUnavailable),
    )
    def get_rebuild(model: str) -> Annotated[Rebuild, WIRE]:
        """The last one since ingest started; no rows when there was none."""
        _require(registry, model)
        return rebuild_profiles(ingest, model) or Rebuild(model=model, rows=0, under_way=False)

    return routes


def _require(registry: Registry, model: str) -> None:
    with registry.database.read() as connection:
        require_model(connection, model)
