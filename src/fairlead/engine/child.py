"""One worker process and the socket to it, as the gateway's event loop sees them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from fairlead.engine.frames import Answer, FrameError, Frames, Ready, decode_answer
from fairlead.runtimes.isolation import scrubbed_environment

__all__ = ["Child"]

_POLL_SECONDS = 0.005
_LAST_MOMENT_SECONDS = 0.02


class Child(asyncio.Protocol):
    """A worker process from its start to its end.

    `answered` is called with each answer and may raise `FrameError`; `lost` is called once, with the reason,
    when the process died or talked garbage. `ready` becomes None, or what went wrong while loading; `gone`
    becomes true when the worker is of no use any more.
    """

    def __init__(self, answered: Callable[[Answer], None], lost: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[str | None] = loop.create_future()
        self.gone: asyncio.Future[bool] = loop.create_future()
        self._answered = answered
        self._lost = lost
        self._frames = Frames()
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def alive(self) -> bool:
        """Whether it has loaded its model and can be asked."""
        return self.ready.done() and not self.gone.done()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def exited(self) -> bool:
        """Whether the process has ended by itself."""
        return self._status() is not None

    async def start(self, python: str, folder: Path, threads: int) -> None:
        """Starts the process in that folder, in a session of its own, with a scrubbed environment."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = _spawn(python, folder, threads, theirs)
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise

    def send(self, frame: tuple[bytes, bytes]) -> None:
        """Sends a frame; what the socket does not take at once waits in memory."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(frame)

    def kill(self, reason: str) -> None:
        """Ends the process and all that it started, at once. `end` then clears up."""
        if not self.ready.done():
            self.ready.set_result(reason)
        if not self.gone.done():
            self.gone.set_result(True)
        if self._process is not None and self._process.returncode is None:
            # The session is its own, so its number is the group's, and nobody else's until it is waited for.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._transport is not None:
            self._transport.abort()

    async def end(self, reason: str) -> None:
        """Kills the process if it lives, and waits until the system has forgotten it."""
        self.kill(reason)
        while self._process is not None and self._process.poll() is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_POLL_SECONDS)

    def death(self) -> str:
        """How the process ended, in words."""
        # A dying process closes its socket a moment before it can be asked how it died.
        patience = time.monotonic() + _LAST_MOMENT_SECONDS
        while (status := self._status()) is None and time.monotonic() < patience:
            time.sleep(0.001)
        if status is None:
            return "it closed its socket"
        if status < 0:
            return f"it died of {signal.Signals(-status).name}"
        return f"it ended with status {status}"

    def _status(self) -> int | None:
        """Exit status or negative signal number, without waiting and without freeing the process's number."""
        if self._process is None or self._process.returncode is not None:
            return None if self._process is None else self._process.returncode
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    # --- asyncio.Protocol -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio connected the socket."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """asyncio has bytes of the worker."""
        try:
            for body in self._frames.feed(data):
                message = decode_answer(body)
                if isinstance(message, Answer):
                    self._answered(message)
                elif not self.ready.done():
                    self._is_ready(message)
        except FrameError as error:
            self._fail(f"it sent what is no answer ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio sees that the worker closed its end."""
        if not self.gone.done():
            self._fail(self.death())

    def _is_ready(self, message: Ready) -> None:
        self.ready.set_result(message.error)

    def _fail(self, reason: str) -> None:
        if self.alive:
            self._lost(reason)
        self.kill(reason)


def _spawn(python: str, folder: Path, threads: int, theirs: socket.socket) -> subprocess.Popen[bytes]:
    fd = theirs.fileno()
    # The folder's files are those of the manifest: compiled modules must not be written beside them.
    environment = scrubbed_environment(os.environ, threads) | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [python, "-m", "fairlead.engine.worker_main", str(fd), str(os.getpid())],
        cwd=folder,
        env=environment,
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a model prints must not get among a program's output
        start_new_session=True,
    )
