"""A gateway's side of the model host: which workers it needs, kept alive over the host's restarts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from fairlead.engine.frames import (
    Broken,
    Failed,
    FrameError,
    Frames,
    Lease,
    Lost,
    Measure,
    Measurement,
    Message,
    Release,
    There,
    encode,
)
from fairlead.engine.paths import connected
from fairlead.errors import InvalidModelFile, NotReady
from fairlead.runtimes.placement import Measured, MeasureTask

__all__ = ["Leases"]

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0

Heard = Callable[[There | Failed | Lost], None]


class Leases:
    """One connection to the host of this machine, made when it is needed first. Belongs to one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers = itertools.count(1)
        self._leases: dict[int, tuple[Lease, Heard]] = {}
        self._measuring: dict[int, asyncio.Future[Measured]] = {}
        self._connection: _Connection | None = None
        self._returning: asyncio.Task[None] | None = None
        self._closed = False

    def reachable(self) -> bool:
        """Whether there is a host: under a supervisor there always is, if only one that is being replaced."""
        if self._connection is not None or self._returning is not None:
            return True
        try:
            connected(self._path).close()
        except OSError:
            return False
        return True

    async def measure(self, task: MeasureTask) -> Measured:
        """What a row of that version costs here.

        Raises `InvalidModelFile` when it cannot be tried, `NotReady` when the host goes away meanwhile.
        """
        await self._connect()
        number = next(self._numbers)
        answer = self._measuring[number] = asyncio.get_running_loop().create_future()
        self._send(Measure(number, msgspec.json.encode(task)))
        try:
            found: Measured = await answer
            return found
        finally:
            del self._measuring[number]

    async def lease(self, lease: Lease, heard: Heard) -> int:
        """Asks for a worker and returns the lease's number; `heard` is called with what happens to it, also
        after the host was replaced. Raises `NotReady` when there is no host."""
        await self._connect()
        number = next(self._numbers)
        lease = msgspec.structs.replace(lease, id=number)
        self._leases[number] = (lease, heard)
        self._send(lease)
        return number

    def change(self, number: int, *, memory_limit: int, timeout: float) -> None:
        """Changes a lease's bounds."""
        lease, heard = self._leases[number]
        lease = msgspec.structs.replace(lease, memory_limit=memory_limit, timeout=timeout)
        self._leases[number] = (lease, heard)
        self._send(lease)

    def broken(self, number: int, pid: int, reason: str) -> None:
        """Tells the host that the worker of a lease sends garbage."""
        self._send(Broken(number, pid, reason))

    def release(self, number: int) -> None:
        """Ends a lease; a second call does nothing."""
        if self._leases.pop(number, None) is not None:
            self._send(Release(number))

    async def close(self) -> None:
        """Ends every lease."""
        self._closed = True
        self._leases.clear()
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.wait([self._returning])
        if self._connection is not None:
            self._connection.close()

    # --- the connection -------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        if self._connection is not None:
            return
        try:
            ours = connected(self._path)
        except OSError as error:
            raise NotReady(
                f"No model host can be asked for a worker: {error.strerror}.",
                remedy="It is started by `fairlead up` and by `python -m fairlead.supervise`.",
            ) from error
        ours.setblocking(False)
        connection = _Connection(self)
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
        self._adopt(connection)

    def _adopt(self, connection: _Connection) -> None:
        if self._connection is None:
            self._connection = connection
        else:  # somebody else was first
            connection.close()

    def _send(self, message: Message) -> None:
        if self._connection is not None:
            self._connection.send(message)

    def hear(self, message: Message) -> None:
        """The host says something."""
        if isinstance(message, There | Failed | Lost):
            found = self._leases.get(message.id)
            if isinstance(message, Failed):
                self._leases.pop(message.id, None)
            if found is not None:
                found[1](message)
        elif isinstance(message, Measurement):
            answer = self._measuring.get(message.id)
            if answer is None or answer.done():
                return
            if message.found is None:
                answer.set_exception(InvalidModelFile(message.refusal[0], remedy=message.refusal[1]))
            else:
                answer.set_result(msgspec.json.decode(message.found, type=Measured))
        else:
            raise FrameError("That is nothing that a host says.")

    def hung_up(self, connection: _Connection) -> None:
        """The host is gone. Workers are not: what is leased is leased again of the next one."""
        if connection is not self._connection:
            return
        self._connection = None
        for answer in self._measuring.values():
            if not answer.done():
                answer.set_exception(
                    NotReady("The model host was replaced.", remedy="Try again in a moment.")
                )
        if not self._closed and self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(self._return())

    async def _return(self) -> None:
        pause = FIRST_PAUSE
        try:
            while self._leases and self._connection is None:
                with contextlib.suppress(NotReady, OSError):
                    await self._connect()
                    for lease, _ in self._leases.values():
                        self._send(lease)
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._returning = None


class _Connection(asyncio.Protocol):
    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def send(self, message: Message) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(encode(message)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._leases.hung_up(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._leases.hear(frame.message)
        except FrameError:
            self.close()
