"""Everything at a glance: traffic, how versions do, gateways; and whether control itself is well."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter

from fairlead import __version__
from fairlead.admin.problems import refusals
from fairlead.admin.rollouts import rollout_view
from fairlead.admin.sampler import Sampler
from fairlead.admin.status_schemas import (
    Firing,
    GatewayView,
    Health,
    ModelStatus,
    OverrideView,
    Status,
    VersionStatus,
)
from fairlead.admin.traffic import arms_of, plan_view
from fairlead.admin.wire import WIRE, StrictRoute
from fairlead.alerts import ledger as alerts
from fairlead.alerts.following import Following
from fairlead.errors import FairleadError, NotReady, StoreUnavailable
from fairlead.predictions.ask import IngestClient
from fairlead.rollouts import ledger
from fairlead.rollouts.fleet import Gateway, fleet
from fairlead.routing import plans
from fairlead.stores.database import Database
from fairlead.stores.tables import versions

__all__ = ["health_routes", "status_routes"]


def status_routes(
    database: Database,
    sampler: Sampler,
    ingest: IngestClient,
    following: Following,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> APIRouter:
    """The routes `/status` and `/gateways`."""
    routes = APIRouter(tags=["status"], route_class=StrictRoute)

    @routes.get("/status", summary="Everything at a glance", responses=refusals(StoreUnavailable))
    def get_status() -> Annotated[Status, WIRE]:
        """Per model and version: stage, weight, rate, latencies, errors, cache; per gateway what it serves.

        Rates and latencies are those of this machine's gateways.
        """
        lacking = []
        try:
            ingested = ingest.call("status")
            lacking += [
                f"Of {model} only the later part of the log is counted: fairlead monitoring rebuild {model}."
                for model in ingested.get("uncounted", ())
            ]
        except FairleadError as error:
            ingested = None
            lacking.append(str(error))
        source = following.source
        if source.problem is not None:
            lacking.append(f"{source.path} is not followed, what was in force stays so: {source.problem}")
        with database.read() as connection:
            known = fleet(connection)
            fires = alerts.firing(connection)
            models = [
                _model(connection, model, staged, known, sampler)
                for model, staged in _stages(connection).items()
            ]
        return Status(
            at=clock(),
            fairlead=__version__,
            models=models,
            gateways=[_gateway(gateway, clock()) for gateway in known],
            ingest=ingested,
            lacking=lacking,
            alerts=[
                Firing(
                    id=one.id, rule=one.rule, severity=one.severity, model=one.finding.model,
                    sentence=one.finding.sentence, since=one.state.since,
                )
                for one in fires
            ],
        )  # fmt: skip

    @routes.get("/gateways", summary="The gateways", responses=refusals(StoreUnavailable))
    def list_gateways() -> list[Annotated[GatewayView, WIRE]]:
        """All that were heard of within the hour, and how far each is with each model."""
        with database.read() as connection:
            return [_gateway(gateway, clock()) for gateway in fleet(connection)]

    return routes


def health_routes(database: Database) -> APIRouter:
    """The routes below `/health`."""
    routes = APIRouter(prefix="/health", tags=["status"], route_class=StrictRoute)

    @routes.get("/live", summary="Whether control lives")
    def live() -> Annotated[Health, WIRE]:
        """Answers as long as the process does."""
        return Health(status="live")

    @routes.get("/ready", summary="Whether control can work", responses=refusals(StoreUnavailable, NotReady))
    def ready() -> Annotated[Health, WIRE]:
        """Answers 200 when the database is there and has this release's schema."""
        if not database.is_current():
            raise NotReady(
                "The database does not have this release's schema.", remedy="Run `fairlead migrate`."
            )
        return Health(status="ready")

    return routes


def _stages(connection: sa.Connection) -> dict[str, dict[str, str]]:
    """Per model the stage of each version that is not archived, oldest first."""
    found: dict[str, dict[str, str]] = {}
    columns = versions.c
    query = sa.select(columns.model, columns.version, columns.stage)
    for model, version, stage in connection.execute(
        query.order_by(columns.model, columns.created_at, columns.version)
    ):
        held = found.setdefault(model, {})
        if stage != "archived":
            held[version] = stage
    return found


def _model(
    connection: sa.Connection, model: str, staged: dict[str, str], known: list[Gateway], sampler: Sampler
) -> ModelStatus:
    plan = plans.active(connection, model)
    waiting = plans.pending(connection, model)
    under_way = ledger.active(connection, model)
    weights = plan.weights() if plan else {}
    arms = arms_of(plan) if plan else []
    found = []
    for version, stage in staged.items():
        pulse = sampler.pulse(model, version)
        found.append(
            VersionStatus(
                version=version,
                stage=stage,
                weight=weights.get(version, 0.0),
                arms=[arm for arm in arms if arm.version == version],
                rate_10s=pulse.rate_10s,
                rate_60s=pulse.rate_60s,
                p50_ms=pulse.p50_ms,
                p99_ms=pulse.p99_ms,
                error_rate=pulse.error_rate,
                rejected_rate=pulse.rejected_rate,
                cache_hit_rate=pulse.cache_hit_rate,
            )
        )
    overrides = [
        OverrideView(gateway=gateway.name, version=override)
        for gateway in known
        if (override := gateway.of(model).override) is not None
    ]
    return ModelStatus(
        name=model,
        generation=plan.generation if plan else 0,
        production=plan.stable() if plan else None,
        preparing=plan_view(waiting) if waiting else None,
        overrides=overrides,
        versions=found,
        rollout=None if under_way is None else rollout_view(under_way),
    )


def _gateway(gateway: Gateway, now: datetime) -> GatewayView:
    return GatewayView(
        name=gateway.name,
        host=gateway.host,
        pid=gateway.pid,
        slot=gateway.slot,
        address=gateway.address,
        live=gateway.live(now),
        started_at=gateway.started_at,
        heartbeat_at=gateway.heartbeat_at,
        models=gateway.models,
    )
