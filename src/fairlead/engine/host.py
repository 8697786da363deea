"""The model host: one process per machine that keeps the workers which all gateways of the machine share.

Gateways say which workers they need and get the paths of their sockets; requests then go to the workers
directly. So a host that dies fails no request: gateways and workers go on, and the next host adopts them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import socket
import sys
from pathlib import Path
from typing import cast

import msgspec

from fairlead.engine.frames import (
    Broken,
    FrameError,
    Frames,
    Lease,
    Measure,
    Measurement,
    Message,
    Release,
    WorkerSpec,
    encode,
)
from fairlead.engine.keeper import Keeper
from fairlead.errors import FairleadError
from fairlead.runtimes.placement import measure_task

__all__ = ["ModelHost", "run_host"]

_log = logging.getLogger(__name__)

_PROBES_AT_ONCE = 2


def run_host(run: Path, listener: socket.socket) -> None:
    """Serves leases on an inherited listening socket until SIGTERM or SIGINT, then ends every worker.

    `run` is the data folder's `run/`: sockets of workers and measurements lie there.
    """
    asyncio.run(_serve(run, listener))


async def _serve(run: Path, listener: socket.socket) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host = ModelHost(run)
    await host.start(listener)
    await stop.wait()
    await host.stop()


class ModelHost:
    """The workers of one machine, by what they hold."""

    def __init__(self, run: Path, python: str = sys.executable) -> None:
        self._folder = run / "models"
        self._measured = run / "measured"
        self._python = python
        self._keepers: dict[str, Keeper] = {}
        self._gateways: set[_Gateway] = set()
        self._probes = asyncio.Semaphore(_PROBES_AT_ONCE)
        self._probing: dict[bytes, asyncio.Task[bytes]] = {}
        self._server: asyncio.AbstractServer | None = None

    async def start(self, listener: socket.socket) -> None:
        """Takes gateways from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Gateway(self), sock=listener)

    async def stop(self) -> None:
        """Ends every worker."""
        if self._server is not None:
            self._server.close()
        for gateway in list(self._gateways):
            gateway.close()
        await asyncio.gather(*(keeper.stop() for keeper in list(self._keepers.values())))

    @property
    def keepers(self) -> list[Keeper]:
        """Who keeps a worker at the moment."""
        return list(self._keepers.values())

    def keeper(self, spec: WorkerSpec) -> Keeper:
        """Who keeps that worker."""
        key = hashlib.sha256(msgspec.json.encode(spec, order="sorted")).hexdigest()[:24]
        found = self._keepers.get(key)
        if found is None:
            path = self._folder / f"{key}.sock"
            found = Keeper(spec, path, lambda: self._forget(key, found), self._python)
            self._keepers[key] = found
        return found

    async def measure(self, task: bytes) -> bytes:
        """What a row of that version costs: measured once, whoever asks."""
        running = self._probing.get(task)
        if running is None:
            running = asyncio.get_running_loop().create_task(self._probe(task))
            self._probing[task] = running
            running.add_done_callback(lambda _: self._probing.pop(task, None))
        return await asyncio.shield(running)

    async def _probe(self, task: bytes) -> bytes:
        async with self._probes:
            return await asyncio.to_thread(measure_task, task, self._measured)

    def _forget(self, key: str, keeper: Keeper | None) -> None:
        if self._keepers.get(key) is keeper:
            del self._keepers[key]


class _Gateway(asyncio.Protocol):
    """One gateway's connection, and what it leases: when it closes, nothing."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self._frames = Frames()
        self._leases: dict[int, Keeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio accepted a gateway."""
        self._transport = cast("asyncio.Transport", transport)
        self._host._gateways.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """The gateway is gone, and needs nothing any more."""
        self._host._gateways.discard(self)
        for number in list(self._leases):
            self._release(number)

    def data_received(self, data: bytes) -> None:
        """asyncio has bytes of the gateway."""
        try:
            for frame in self._frames.feed(data):
                self._understand(frame.message)
        except FrameError as error:
            _log.error("a gateway talks garbage: %s", error)
            self.close()

    def _understand(self, message: Message) -> None:
        if isinstance(message, Lease):
            keeper = self._host.keeper(message.spec)
            if self._leases.get(message.id, keeper) is not keeper:
                self._release(message.id)
            self._leases[message.id] = keeper
            keeper.lease((self, message.id), message, self._send)
        elif isinstance(message, Release):
            self._release(message.id)
        elif isinstance(message, Broken):
            if (keeper_of := self._leases.get(message.id)) is not None:
                keeper_of.broken(message.pid, message.reason)
        elif isinstance(message, Measure):
            task = asyncio.get_running_loop().create_task(self._measure(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            raise FrameError("That is no request to a host.")

    def _release(self, number: int) -> None:
        keeper = self._leases.pop(number, None)
        if keeper is not None:
            keeper.release((self, number))

    async def _measure(self, message: Measure) -> None:
        try:
            answer = Measurement(message.id, await self._host.measure(message.task))
        except FairleadError as error:
            answer = Measurement(message.id, None, (error.message, error.remedy))
        self._send(answer)

    def _send(self, message: Message) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(encode(message)))
