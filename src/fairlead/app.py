"""Control as a process: the admin API over registry and traffic, until it is told to stop.

Everything heavy is imported when control runs, so that importing this file costs nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairlead.settings import Settings

__all__ = ["run_control", "verify_configured"]

logger = logging.getLogger(__name__)

_LAST_ANSWERS_SECONDS = 5
_SETTLE_SECONDS = 5.0
"""Control and the agent start together; the first commands wait so long for the first gateway's report."""


def verify_configured(settings: Settings) -> None:
    """Refuses what control would not start with, before a process is begun that ends with it again and again.

    Raises `InvalidRetraining` for trainers and policies, `InvalidAlerts` for alerts.toml.
    """
    if settings.trainers or settings.retraining:
        from fairlead.retraining.reading import read_policies, read_trainers

        read_policies(settings.retraining, read_trainers(settings.trainers))
    from pathlib import Path

    if settings.alerts_file or Path("alerts.toml").exists():
        from fairlead.alerts.reading import read_file

        read_file(settings.alerts_file)


def run_control(settings: Settings) -> None:
    """Migrates, ends what a killed control left behind, and serves until SIGTERM or SIGINT.

    Raises `PortInUse` when another program listens there, `StoreUnavailable` without a database,
    `InvalidAlerts` for an alerts.toml that cannot be followed.
    """
    import os
    import shutil
    import signal
    import socket
    from datetime import timedelta

    import msgspec
    import uvicorn

    from fairlead.admin.api import create_app
    from fairlead.admin.blobs import UPLOADS
    from fairlead.admin.versions import PROBES
    from fairlead.alerts.alerting import Alerting
    from fairlead.alerts.delivery import Deliveries
    from fairlead.alerts.following import Following
    from fairlead.alerts.happenings import Happenings, LogHealth
    from fairlead.contracts.structs import prepare_structs
    from fairlead.errors import PortInUse
    from fairlead.evaluation.scoring import SCORING
    from fairlead.explanations.door import Door
    from fairlead.explanations.explaining import Explaining
    from fairlead.explanations.leaning import Leaning
    from fairlead.gate.runs import GATES, Gates
    from fairlead.monitoring.adapting import AdaptingLooker
    from fairlead.monitoring.drift_looker import DriftLooker
    from fairlead.monitoring.drifting import Drifting
    from fairlead.monitoring.importance import ImportanceLooker
    from fairlead.monitoring.loop import Looker, Loop
    from fairlead.monitoring.performing import PerformingLooker
    from fairlead.monitoring.places import Everywhere
    from fairlead.monitoring.pulse import Pulse
    from fairlead.predictions.ask import IngestClient
    from fairlead.registry.registry import Registry
    from fairlead.retraining.runner import Retraining
    from fairlead.rollouts.commands import Rollouts
    from fairlead.rollouts.controller import Controller
    from fairlead.rollouts.traffic import Traffic
    from fairlead.serving.folder import DataFolder
    from fairlead.stores.blobs import Blobs
    from fairlead.stores.database import Database
    from fairlead.syncs.runner import Syncs

    alerts = Following(settings.alerts_file)
    address = (settings.admin_host, settings.admin_port)
    listener = socket.socket(socket.AF_INET6 if ":" in settings.admin_host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"Cannot listen on {settings.admin_host}:{settings.admin_port}: {error.strerror}.",
            remedy="Stop the program that does, or choose another port with --admin-port.",
            port=settings.admin_port,
        ) from error

    folder = DataFolder(settings.folder).make()
    leftovers = (UPLOADS, PROBES, SCORING, GATES)
    for left in (path for prefix in leftovers for path in folder.run.glob(f"{prefix}*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    database = Database(settings.database)
    registry = Registry(database, Blobs(settings.artifacts))
    traffic = Traffic(database, registry, settings, settle_seconds=_SETTLE_SECONDS)
    with listener:
        database.migrate()
        traffic.recover()
        ingest = IngestClient(folder.ingest_socket, timeout=settings.query_seconds + 5)
        name = f"control-{socket.gethostname()}-{os.getpid()}"
        controller = Controller(database, traffic, folder.counters, name=name, ask=ingest.rows)
        syncs = Syncs(database, folder.log, name=name)
        gates = Gates(registry, folder, ingest, settings)
        recent = timedelta(days=settings.return_days)
        rollouts = Rollouts(database, folder.counters, ask=ingest.rows, registry=registry, recent=recent)
        port = listener.getsockname()[1]  # where 0 was asked for, another
        retraining = Retraining(
            registry, gates, rollouts, ingest, folder, msgspec.structs.replace(settings, admin_port=port),
            name=name,
        )  # fmt: skip
        deliveries = Deliveries(database, alerts.config, name=name)
        alerting = Alerting(database, alerts.config, queued=deliveries.wake, shown=folder.firing)
        pulse = Pulse(folder.counters, lambda model: alerts.config.limits_for(model))
        host = socket.gethostname()
        lookers: list[Looker] = [
            Everywhere(pulse, database, place=folder.place, host=host, tells_of_missing=True),
            Everywhere(LogHealth(ingest, folder.root), database, place=folder.place, host=host),
            Happenings(database),
            PerformingLooker(registry, ingest),
            AdaptingLooker(registry, ingest),
            DriftLooker(Drifting(registry, ingest), registry, seconds=settings.drift_look_seconds),
            ImportanceLooker(Leaning(registry, ingest, folder, trust_pickle=settings.trust_pickle), registry),
        ]
        loop = Loop(database, lookers, [alerting, retraining.told], name=name)
        explaining = Explaining(
            registry, ingest, folder, trust_pickle=settings.trust_pickle, days=settings.explanation_days
        )
        app = create_app(
            settings, database, registry, traffic, ingest, folder, syncs, deliveries, gates, rollouts,
            retraining, explaining, alerts,
        )  # fmt: skip
        door = Door(explaining, folder.explaining_socket)

        class Server(uvicorn.Server):
            def handle_exit(self, *arguments: Any) -> None:
                traffic.stop()  # commands that wait give up, so that their callers get an answer
                self.should_exit = True

        server = Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, server.handle_exit)
        signal.signal(signal.SIGHUP, lambda *_: alerts.ask())
        logger.info("control answers on %s:%d", *listener.getsockname()[:2])
        prepare_structs()
        controller.start()
        syncs.start()
        deliveries.start()
        alerts.start(alerting.follow, deliveries.follow)
        loop.start()
        retraining.start()
        door.start()
        try:
            server.run(sockets=[listener])
        finally:
            door.stop()
            retraining.stop()
            loop.stop()
            alerts.stop()
            deliveries.stop()
            syncs.stop()
            controller.stop()
    database.close()
