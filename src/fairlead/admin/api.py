"""The admin API: every route, put together.

Under `/api/v1` each noun has a file of its own. All routes translate and nothing else: what they do is done
by `registry`, `rollouts`, `syncs` and ingest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline

from fairlead import __version__
from fairlead.admin.alerts import alert_routes
from fairlead.admin.blobs import blob_routes
from fairlead.admin.cost import cost_routes
from fairlead.admin.drift import drift_routes
from fairlead.admin.experiments import experiment_routes
from fairlead.admin.explanations import explanation_routes, importance_routes
from fairlead.admin.freezes import freeze_routes
from fairlead.admin.gates import gate_routes
from fairlead.admin.models import model_routes
from fairlead.admin.performance import performance_routes
from fairlead.admin.predictions import prediction_routes
from fairlead.admin.problems import Edge, refuse_as_problems
from fairlead.admin.profiles import profile_routes
from fairlead.admin.replays import replay_routes
from fairlead.admin.reports import report_routes
from fairlead.admin.retraining import retraining_routes
from fairlead.admin.rollouts import rollout_routes
from fairlead.admin.sampler import Sampler
from fairlead.admin.status import health_routes, status_routes
from fairlead.admin.syncs import sync_routes
from fairlead.admin.targeting import layer_routes, targeting_routes
from fairlead.admin.traffic import traffic_routes
from fairlead.admin.versions import version_routes
from fairlead.admin.wire import Json, describe
from fairlead.alerts.delivery import Deliveries
from fairlead.alerts.following import Following
from fairlead.evaluation.jobs import Replays
from fairlead.explanations.explaining import Explaining
from fairlead.explanations.leaning import Leaning
from fairlead.gate.runs import Gates
from fairlead.monitoring.costing import Costing
from fairlead.monitoring.drifting import Drifting
from fairlead.monitoring.performing import Performing
from fairlead.monitoring.report import Reports
from fairlead.monitoring.separating import Separating
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.retraining.runner import Retraining
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.experiments import Experiments
from fairlead.rollouts.traffic import Traffic
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores.database import Database
from fairlead.syncs.runner import Syncs

__all__ = ["create_app"]

_PREFIX = "/api/v1"
_TAGS = [
    {"name": "models", "description": "Models, aliases, stages, settings, contracts, audit."},
    {"name": "versions", "description": "Versions and their files."},
    {"name": "traffic", "description": "Who gets what, and the commands that change it."},
    {
        "name": "rollouts",
        "description": "Versions widened, held or rolled back by what is seen of them.",
    },
    {"name": "experiments", "description": "What split traffic has found out about a version."},
    {"name": "gates", "description": "Versions judged before they get traffic."},
    {"name": "retraining", "description": "Models trained anew, by the clock, an alarm or hand."},
    {"name": "predictions", "description": "The prediction log and what became of predictions."},
    {
        "name": "monitoring",
        "description": "Whether what comes is as it was, how versions do by their labels, "
        "whom they treat how, and what they cost.",
    },
    {"name": "replays", "description": "Logged requests again, by the version that answered or another."},
    {"name": "alerts", "description": "What is wrong, who is told, and what to do about it."},
    {"name": "status", "description": "What goes on now."},
]


def create_app(
    settings: Settings,
    database: Database,
    registry: Registry,
    traffic: Traffic,
    ingest: IngestClient,
    folder: DataFolder,
    syncs: Syncs,
    deliveries: Deliveries,
    gates: Gates,
    rollouts: Rollouts,
    retraining: Retraining,
    explaining: Explaining,
    alerts: Following,
) -> FastAPI:
    """The admin API as an ASGI application. It opens nothing: what it is given must be there."""
    sampler = Sampler(folder.counters)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        sampler.start()
        gates.start()
        yield
        gates.stop()
        sampler.stop()

    app = FastAPIOffline(  # the documentation's scripts come from this server, not from somebody else's
        docs_url="/docs",
        redoc_url=None,
        title="Fairlead admin API",
        version=__version__,
        description="Registry, traffic and prediction log. Errors are RFC 9457 problem documents.",
        openapi_tags=_TAGS,
        default_response_class=Json,
        generate_unique_id_function=lambda route: route.name,
        lifespan=life,
    )
    routes = APIRouter(prefix=_PREFIX)
    routes.include_router(model_routes(registry))
    routes.include_router(version_routes(registry, traffic, settings, folder.run))
    routes.include_router(blob_routes(registry.blobs, folder.run))
    routes.include_router(traffic_routes(traffic))
    routes.include_router(targeting_routes(traffic))
    routes.include_router(layer_routes(traffic))
    routes.include_router(rollout_routes(rollouts))
    routes.include_router(experiment_routes(Experiments(database, ingest)))
    routes.include_router(freeze_routes(database))
    routes.include_router(profile_routes(ingest, registry))
    drifting = Drifting(registry, ingest)
    routes.include_router(drift_routes(drifting, Separating(registry, ingest)))
    routes.include_router(gate_routes(gates))
    routes.include_router(explanation_routes(explaining))  # before the route that takes every path
    routes.include_router(prediction_routes(ingest, registry))
    leaning = Leaning(registry, ingest, folder, trust_pickle=settings.trust_pickle)
    routes.include_router(importance_routes(leaning))
    performing = Performing(registry, ingest)
    routes.include_router(performance_routes(registry, performing))
    routes.include_router(report_routes(registry, Reports(performing, drifting)))
    routes.include_router(cost_routes(Costing(registry, ingest, settings)))
    replays = Replays(registry, ingest, folder, trust_pickle=settings.trust_pickle)
    routes.include_router(replay_routes(replays))
    routes.include_router(retraining_routes(retraining))
    routes.include_router(sync_routes(syncs))
    routes.include_router(alert_routes(database, deliveries, alerts))
    routes.include_router(status_routes(database, sampler, ingest, alerts))
    routes.include_router(health_routes(database))
    app.include_router(routes)
    app.include_router(health_routes(database), include_in_schema=False)  # where orchestrators look
    refuse_as_problems(app)
    app.add_middleware(
        Edge,
        largest=settings.max_body_bytes,
        large_paths=(f"{_PREFIX}/blobs/", settings.max_artifact_bytes),
    )
    describe(app)
    return app
