"""A gateway worker as a process: binds everything together, serves until told to stop, drains."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from typing import TYPE_CHECKING

import uvloop

from fairlead.contracts.structs import prepare_structs
from fairlead.errors import MissingExtra
from fairlead.gateway.faces import Faces
from fairlead.gateway.inference.repository import Repository
from fairlead.gateway.limits import room_for_files, watch_for_the_vanished
from fairlead.gateway.names import gateway_name
from fairlead.gateway.protocol import HttpServer, Limits
from fairlead.gateway.rest import RestApp
from fairlead.predictions.segments import SegmentWriter
from fairlead.serving.cache import PredictionCache
from fairlead.serving.caches import Caches
from fairlead.serving.dataplane import DataPlane
from fairlead.serving.folder import DataFolder
from fairlead.serving.journal import Journal
from fairlead.serving.leaders import Leaders
from fairlead.serving.near import SLOT_BYTES, NearCache
from fairlead.serving.refresh import Refresher
from fairlead.serving.shared import open_shared
from fairlead.settings import Settings
from fairlead.telemetry.counters import ArmKey, CounterBlock

if TYPE_CHECKING:
    from fairlead.gateway.inference.grpc_server import GrpcServer

__all__ = ["run_gateway"]

logger = logging.getLogger(__name__)

_BACKLOG_SECONDS = 0.1
"""How long a stopping gateway still accepts: callers who are already in its backlog get an answer."""


def run_gateway(settings: Settings, slot: int, listener: socket.socket) -> None:
    """Serves on an inherited listening socket until SIGTERM or SIGINT, then drains and returns."""
    prepare_structs()
    uvloop.run(_serve(settings, slot, listener))


async def _serve_grpc(
    settings: Settings, host: str, plane: DataPlane, folder: DataFolder, faces: Faces, limits: Limits
) -> GrpcServer:
    try:
        from fairlead.gateway.inference.grpc_server import GrpcServer  # takes time and memory
    except ImportError as error:
        raise MissingExtra(
            f"gRPC needs a library that is not installed: {error.name}.",
            remedy="Install protobuf, or set grpc_port = 0.",
        ) from error
    server = GrpcServer(plane, folder, faces, limits)
    await server.start(host, settings.grpc_port)
    return server


def _tame_collector() -> None:
    """Has the collector of cycles look less often, and never at what was there before the first request.

    Requests make next to no cycles, and looking for them costs every request and now and then a long pause.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _near_cache(settings: Settings, folder: DataFolder) -> NearCache | None:
    """The cache of this machine's workers; one worker alone has nobody to share with."""
    if settings.gateway_workers < 2 or settings.cache_max_bytes < SLOT_BYTES:
        return None
    return NearCache(folder.run / "cache", settings.gateway_workers * settings.cache_max_bytes)


async def _serve(settings: Settings, slot: int, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    name = gateway_name(slot)
    folder = DataFolder(settings.folder).make()
    counters = CounterBlock(folder.counters / name)
    writer = SegmentWriter(
        folder.log / name, segment_bytes=settings.log_segment_bytes, fsync=settings.log_fsync
    )
    plane = DataPlane(
        Journal(writer, settings.log_on_full),
        Caches(
            PredictionCache(settings.cache_max_bytes),
            near=_near_cache(settings, folder),
            shared=open_shared(settings.cache_url),
        ),
        name,
        max_turn=settings.max_turn_ms / 1000,
        pins=settings.allow_pins,
        leaders=Leaders(folder.versions),
    )
    host, port = listener.getsockname()[:2]
    refresher = Refresher(
        plane,
        folder,
        counters,
        slot=slot,
        address=f"{host}:{port}",
        trust_pickle=settings.trust_pickle,
        memory_budget=int(settings.memory_budget_mb * 1e6),
    )
    repository = Repository(plane, folder, refresher.warm, control=settings.repository_control)
    faces = Faces(plane, folder, repository, body_bytes=settings.max_body_bytes)
    app = RestApp(
        plane,
        folder,
        counters.row(ArmKey()),
        faces,
        default_model=settings.default_model,
        price=settings.price_per_core_hour,
    )
    limits = Limits(
        body_bytes=settings.max_body_bytes,
        header_bytes=settings.max_header_bytes,
        connections=settings.max_connections,
        idle_seconds=settings.idle_seconds,
        request_seconds=settings.request_seconds,
        write_seconds=settings.write_seconds,
        buffered_bytes=settings.max_buffered_bytes,
    )
    server = HttpServer(app.handle, app.refuse, limits, plane.turns, app.turn_away)

    room_for_files(limits.connections)
    watch_for_the_vanished(listener, limits)

    # What lies in the plans folder is loaded before the first connection is taken; the kernel keeps those
    # who come meanwhile.
    await refresher.refresh()
    _tame_collector()
    listening = await loop.create_server(server, sock=listener, backlog=2048)
    calls = await _serve_grpc(settings, host, plane, folder, faces, limits) if settings.grpc_port else None
    following = [loop.create_task(refresher.run()), loop.create_task(server.sweep())]
    logger.info("gateway %s serves %d models on %s:%d", name, len(plane.models), host, port)

    await stop.wait()
    plane.draining = server.draining = True
    await asyncio.sleep(_BACKLOG_SECONDS)
    listening.close()
    for task in following:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    ending = asyncio.gather(*([] if calls is None else [calls.stop(settings.drain_seconds)]))
    cut = await server.drain(settings.drain_seconds)
    await ending
    await refresher.close(draining=True)
    await plane.caches.close()
    plane.journal.close()
    logger.info("gateway %s stopped; %d connections were cut", name, cut)
