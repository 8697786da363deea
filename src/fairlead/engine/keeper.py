"""Keeps one worker alive for as long as somebody leases it: starts or adopts it, watches it, replaces it.

A worker that crashes, hangs past the version's timeout, outgrows its memory or talks garbage is killed, and
another is started after a pause that doubles. Nothing of this touches another version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fairlead.engine.child import Child
from fairlead.engine.frames import Failed, Lease, Lost, There, WorkerSpec
from fairlead.runtimes.machine import resident_bytes

__all__ = ["Keeper"]

_log = logging.getLogger(__name__)

WATCH_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
HEALTHY_SECONDS = 30.0
LINGER_SECONDS = 3.0
"""How long a worker stays that nobody leases any more: a gateway that is replaced needs it again."""

Tell = Callable[[There | Failed | Lost], None]


class Keeper:
    """One worker and its lessees. `ended` is called when it is over: nobody leases it, or it cannot load."""

    def __init__(
        self, spec: WorkerSpec, path: Path, ended: Callable[[], None], python: str = sys.executable
    ) -> None:
        self.spec = spec
        self._path = path
        self._ended = ended
        self._python = python
        self._leases: dict[object, tuple[Lease, Tell]] = {}
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._trouble: str | None = None
        self._ending = False
        self._stopped = False

    @property
    def child(self) -> Child | None:
        """The process, while there is one."""
        return self._child

    def lease(self, holder: object, lease: Lease, tell: Tell) -> None:
        """Adds a lessee, or changes its bounds; `tell` is called with what happens to the worker."""
        self._leases[holder] = (lease, tell)
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())
        elif self._ending:
            pass  # the worker is going; another is started for this lease
        elif self._child is not None and self._child.alive:
            tell(There(lease.id, str(self._path), self._child.pid))
        elif self._trouble is not None:
            tell(Lost(lease.id, self._trouble))

    def release(self, holder: object) -> None:
        """Takes a lessee away; without any the worker ends in a few seconds."""
        self._leases.pop(holder, None)
        if not self._leases and self._linger is None and self._task is not None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._leave)

    def _leave(self) -> None:
        self._linger = None
        self._ending = True
        if self._task is not None:
            self._task.cancel()

    def broken(self, pid: int, reason: str) -> None:
        """A gateway says that this process sends garbage."""
        if self._child is not None and self._child.pid == pid:
            self._child.kill(reason)

    async def stop(self) -> None:
        """Ends the worker now."""
        self._stopped = True
        if self._linger is not None:
            self._linger.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # --- its life -------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            await self._serve()
            if self._stopped or not self._leases:
                break
            # Somebody came while it was being ended because everybody had gone.
        self._ended()

    async def _serve(self) -> None:
        self._ending = False
        try:
            if not await self._adopted() and (failure := await self._launch()) is not None:
                self._tell(lambda lease: Failed(lease.id, failure))
                self._leases.clear()
                return
            await self._follow()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()  # nobody leased it any more
        finally:
            child, self._child = self._child, None
            if child is not None:
                await child.end("it was unloaded")
            self._path.unlink(missing_ok=True)

    async def _follow(self) -> None:
        """Watches the worker, and replaces it when it is lost."""
        pause = FIRST_PAUSE
        while True:
            born = time.monotonic()
            child = self._child
            assert child is not None
            await self._watch(child)
            self._lost(child.gone.result())
            await child.end("")
            self._child = None
            if time.monotonic() - born >= HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            while self._child is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                if (failure := await self._launch()) is not None:
                    self._lost(failure)

    async def _adopted(self) -> bool:
        """Whether an earlier host left this worker: then it is this one's now."""
        child = Child()
        try:
            await child.adopt(self._path)
        except OSError:
            child.let_go()
            return False
        self._child = child
        _log.info("adopted the worker of %s (process %d)", self.spec.digest[:12], child.pid)
        self._is_there(child)
        return True

    async def _launch(self) -> str | None:
        """Starts a process. None once it has loaded the model, else what is in the way."""
        child = Child()
        try:
            await child.start(self.spec, self._path, self._python)
            trouble = await self._loaded(child)
        except OSError as error:
            trouble = f"its process could not be started: {error}"
        except BaseException:
            await child.end("its start was given up")
            raise
        if trouble is not None:
            await child.end(trouble)
            return trouble
        self._child = child
        self._is_there(child)
        return None

    async def _loaded(self, child: Child) -> str | None:
        started = time.monotonic()
        while not child.ready.done():
            limit = max((lease.load_timeout for lease, _ in self._leases.values()), default=60.0)
            await asyncio.wait([child.ready], timeout=min(WATCH_SECONDS, limit))
            if child.ready.done():
                break
            if time.monotonic() - started >= limit:
                return f"loading took longer than {limit:g} s"
            if (excess := self._excess(child)) is not None:
                return excess
        return child.ready.result()

    async def _watch(self, child: Child) -> None:
        """Returns when it is of no use any more."""
        child.heard = time.monotonic()
        while not child.gone.done():
            child.ping()
            await asyncio.wait([child.gone], timeout=WATCH_SECONDS)
            if child.gone.done():
                return
            trouble = self._excess(child) or self._hang(child)
            if trouble is not None:
                child.kill(trouble)

    def _hang(self, child: Child) -> str | None:
        timeout = max((lease.timeout for lease, _ in self._leases.values()), default=60.0)
        silent = time.monotonic() - child.heard
        # A model may hold the interpreter for as long as a run may take; a worker that says nothing for
        # longer hangs just as one whose run does not end.
        if child.running > timeout or silent > timeout + 5 * WATCH_SECONDS:
            return f"it did not answer within {timeout:g} s"
        return None

    def _excess(self, child: Child) -> str | None:
        limit = max((lease.memory_limit for lease, _ in self._leases.values()), default=None)
        held = resident_bytes(child.pid)
        if limit is None or held <= limit:
            return None
        return f"it took {held // 1_000_000} MB of memory and {limit // 1_000_000} MB are allowed"

    def _is_there(self, child: Child) -> None:
        self._trouble = None
        self._tell(lambda lease: There(lease.id, str(self._path), child.pid))

    def _lost(self, reason: str) -> None:
        self._trouble = reason
        _log.warning("the worker of %s is lost: %s", self.spec.digest[:12], reason)
        self._tell(lambda lease: Lost(lease.id, reason))

    def _tell(self, message: Callable[[Lease], There | Failed | Lost]) -> None:
        for lease, tell in list(self._leases.values()):
            with contextlib.suppress(OSError):
                tell(message(lease))
