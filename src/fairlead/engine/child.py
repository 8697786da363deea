"""One worker process as its host sees it: started or adopted, asked how it is, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

from fairlead.engine.frames import FrameError, Frames, Loaded, Ping, Pong, Setup, WorkerSpec, encode
from fairlead.engine.paths import connected
from fairlead.runtimes.isolation import start_bound

__all__ = ["Child"]

_WORKER = "fairlead.engine.worker_main"
_POLL_SECONDS = 0.005
_LAST_MOMENT_SECONDS = 0.05
"""A dying process closes its socket a moment before it can be asked how it died."""


class Child(asyncio.Protocol):
    """A worker process from its start to its end.

    `ready` becomes None, or what went wrong while loading; `gone` becomes the reason why it is of no use any
    more. `running` is how long its oldest run had taken when it last told, which was at `heard`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[str | None] = self._loop.create_future()
        self.gone: asyncio.Future[str] = self._loop.create_future()
        self.pid = 0
        self.heard = time.monotonic()
        self.running = 0.0
        self.waiting = 0
        self._frames = Frames()
        self._handle: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        """Whether it has loaded its model and can be asked."""
        return self.ready.done() and self.ready.result() is None and not self.gone.done()

    async def start(self, spec: WorkerSpec, path: Path, python: str = sys.executable) -> None:
        """Starts a process in the version's folder, in a session of its own, with a scrubbed environment."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = start_bound(_WORKER, spec.folder, theirs, python=python, threads=spec.threads)
            self._watch(self._process.pid)
            await self._talk(ours)
        except BaseException:
            ours.close()
            raise
        self._send(Setup(spec, str(path)))

    async def adopt(self, path: Path) -> None:
        """Takes over the worker that listens there; OSError when none does."""
        ours = connected(path)
        try:
            size = struct.calcsize("3i")
            credentials = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            self._watch(struct.unpack("3i", credentials)[0])
            await self._talk(ours)
        except BaseException:
            ours.close()
            raise
        self.ready.set_result(None)

    def ping(self) -> None:
        """Asks how it is; the answer shows in `heard` and `running`."""
        self._send(Ping())

    def kill(self, reason: str) -> None:
        """Ends the process and all that it started, at once. `end` then clears up."""
        if not self.ready.done():
            self.ready.set_result(reason)
        if not self.gone.done():
            self.gone.set_result(reason)
        if self._handle is not None:
            # The session is its own, so its number is the group's. While a process has not been waited for,
            # its number is nobody else's; an adopted one is asked for by its handle first.
            with contextlib.suppress(ProcessLookupError):
                if self._process is None:
                    signal.pidfd_send_signal(self._handle, 0)
                if self._process is None or self._process.returncode is None:
                    os.killpg(self.pid, signal.SIGKILL)
        if self._transport is not None:
            self._transport.abort()

    async def end(self, reason: str) -> None:
        """Kills the process if it lives, and waits until the system has forgotten it."""
        self.kill(reason)
        while self._process is not None and self._process.poll() is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_POLL_SECONDS)
        self._unwatch()

    def let_go(self) -> None:
        """Leaves the process to itself."""
        self._unwatch()
        if self._transport is not None:
            self._transport.abort()

    # --- what happens to it ---------------------------------------------------------------------------------

    def _watch(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._loop.add_reader(self._handle, self._exited)

    def _unwatch(self) -> None:
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None

    def _exited(self) -> None:
        if self._handle is not None:
            self._loop.remove_reader(self._handle)
        self.kill(self._death())

    def _death(self) -> str:
        """How the process ended, in words."""
        status = None
        with contextlib.suppress(ChildProcessError):  # an adopted one is another's child
            # The number stays reserved until `end`, since what it started must still be found by it.
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        if status is None:
            return "it died"
        return (
            f"it died of {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"
        )

    async def _talk(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        await self._loop.create_unix_connection(lambda: self, sock=ours)

    def _send(self, message: Setup | Ping) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(encode(message)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio connected the socket."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """asyncio has bytes of the worker."""
        try:
            for frame in self._frames.feed(data):
                message = frame.message
                if isinstance(message, Pong):
                    self.heard, self.running, self.waiting = (
                        time.monotonic(),
                        message.running,
                        message.waiting,
                    )
                elif not isinstance(message, Loaded):
                    raise FrameError("That is no answer to a host.")
                elif not self.ready.done():
                    self.ready.set_result(message.error)
        except FrameError as error:
            self.kill(f"it sent what is no answer ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio sees that the worker closed its end."""
        if not self.gone.done():
            self._loop.call_later(_LAST_MOMENT_SECONDS, self._closed)

    def _closed(self) -> None:
        if not self.gone.done():
            self.kill("it closed its socket")
