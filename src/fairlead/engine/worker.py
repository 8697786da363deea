"""A model in a process of its own, watched by the gateway that owns it.

One request is with the model at a time, and a bounded number wait. A worker that crashes, hangs past the
version's timeout, outgrows its memory or talks garbage is killed; what was with it fails at once, and another
is started after a pause that doubles. Nothing of this touches another version.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from fairlead.engine.child import Child
from fairlead.engine.frames import Answer, FrameError, Request, Setup, encode, pack, unpack
from fairlead.errors import (
    DeadlineExceeded,
    FairleadError,
    InvalidModelFile,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    RuntimeFailed,
)
from fairlead.runtimes.base import Array, RuntimeSpec, Tensors
from fairlead.runtimes.machine import resident_bytes

__all__ = ["WorkerEngine"]

_log = logging.getLogger(__name__)

WATCH_SECONDS = 0.2
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
HEALTHY_SECONDS = 30.0


class _Job:
    """One request: its frame, and where its answer goes."""

    __slots__ = ("answer", "frame", "id")

    def __init__(self, number: int, frame: tuple[bytes, bytes]) -> None:
        self.id = number
        self.frame = frame
        self.answer: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)
            self.answer.exception()  # seen, also when nobody waits any more


class WorkerEngine:
    """One version in one worker process (an `Engine`). It belongs to the event loop that starts it.

    `timeout` is the version's, in seconds: a model that takes longer hangs and is killed. `max_waiting`
    bounds the queue before it, `memory_limit_mb` its resident memory, `load_timeout` the start.
    """

    inline = False

    def __init__(
        self,
        folder: Path | str,
        spec: RuntimeSpec,
        *,
        memory_limit_mb: int = 2_048,
        timeout: float = 10.0,
        feature_names: Sequence[str] = (),
        max_waiting: int = 64,
        load_timeout: float = 60.0,
        threads: int = 1,
        python: str = sys.executable,
    ) -> None:
        self._folder = Path(folder).resolve()
        self._entry = spec.entry
        parts = {part: getattr(spec.outputs, part) for part in spec.outputs.__struct_fields__}
        self._setup = Setup(
            path=str(self._folder / spec.entry),
            outputs={part: name for part, name in parts.items() if name is not None},
            names=tuple(feature_names) or tuple(tensor.name for tensor in spec.inputs),
        )
        self._memory_limit = memory_limit_mb * 1_000_000
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._load_timeout = load_timeout
        self._threads = threads
        self._python = python
        self._child: Child | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._waiting: deque[_Job] = deque()
        self._running: _Job | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._next_id = 0
        self._trouble = "it has not been started"

    @property
    def healthy(self) -> bool:
        """Whether a loaded worker is there."""
        return self._child is not None and self._child.alive

    def memory_bytes(self) -> int:
        """Resident memory of the worker."""
        return resident_bytes(self._child.pid) if self._child is not None else 0

    async def start(self) -> None:
        """Returns once the worker has loaded the model.

        `InvalidModelFile` says what loading raised; nothing is left running then.
        """
        if self._keeper is None:
            self._child = await self._launch()
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Kills the worker and waits until it is gone. Requests under way fail with `NotReady`."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        child, self._child = self._child, None
        self._trouble = "it was unloaded"
        self._fail_all(self._not_ready(), self._not_ready())
        if child is not None:
            await child.end(self._trouble)

    def run_now(self, feed: Tensors) -> dict[str, Array]:
        """Never possible: the model is in another process."""
        raise NotReady("This version runs in a worker, which cannot answer at once.", remedy="Use submit().")

    async def submit(self, feed: Tensors, rows: int, timeout: float | None) -> dict[str, Array]:
        """The wanted outputs.

        Raises `NotReady` while there is no worker, `Overloaded` when too many wait, `DeadlineExceeded` after
        `timeout` seconds, `PayloadTooLarge`, and `RuntimeFailed` when the model raised or its worker died.
        """
        if not self.healthy:
            raise self._not_ready()
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} requests wait for the model already.", remedy="Try again later."
            )
        self._next_id += 1
        tensors = {name: pack(array, nulls=True) for name, array in feed.items()}
        try:
            job = _Job(self._next_id, encode(Request(self._next_id, tensors)))
        except FrameError as error:
            raise PayloadTooLarge(str(error), remedy="Send fewer rows at a time.") from error
        self._waiting.append(job)
        self._advance()
        try:
            async with asyncio.timeout(timeout):
                return await job.answer
        except TimeoutError:
            raise DeadlineExceeded(
                f"The model did not answer {rows} rows within {timeout:g} s.",
                remedy="Raise timeout_ms of the version, or make the model faster.",
            ) from None
        finally:
            if job in self._waiting:
                self._waiting.remove(job)

    # --- one request at a time ------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Gives the worker the next request that somebody still waits for."""
        while self._running is None and self._waiting and self._child is not None and self._child.alive:
            job = self._waiting.popleft()
            if not job.answer.done():
                self._running = job
                self._child.send(job.frame)
                self._alarm = asyncio.get_running_loop().call_later(self._timeout, self._hangs)

    def _answered(self, answer: Answer) -> None:
        """Takes an answer; `FrameError` when nobody asked for it or it makes no sense."""
        job = self._running
        if job is None or answer.id != job.id:
            raise FrameError("An answer came that nobody asked for.")
        outputs = {name: unpack(cell) for name, cell in answer.tensors.items()}
        self._settle()
        if answer.error is not None:
            job.fail(RuntimeFailed(f"The model raised {answer.error}"))
        elif not job.answer.done():
            job.answer.set_result(outputs)
        self._advance()

    def _settle(self) -> None:
        self._running = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _hangs(self) -> None:
        if self._child is not None:
            trouble = f"it did not answer within {self._timeout:g} s"
            error = DeadlineExceeded(
                f"The model's worker was stopped: {trouble}.",
                remedy="Raise timeout_ms of the version, or make the model faster.",
            )
            self._lose(trouble, error)

    def _lose(self, trouble: str, error: Exception | None = None) -> None:
        """The worker is of no use any more: kill it, and let nobody wait for it."""
        if self._child is not None:
            self._child.kill(trouble)
        self._trouble = trouble
        failed = RuntimeFailed(f"The model's worker was lost: {trouble}.", remedy="Try again in a moment.")
        self._fail_all(error or failed, self._not_ready())

    def _fail_all(self, running: Exception, waiting: Exception) -> None:
        job = self._running
        self._settle()
        if job is not None:
            job.fail(running)
        while self._waiting:
            self._waiting.popleft().fail(waiting)

    def _not_ready(self) -> NotReady:
        return NotReady(
            f"The model's worker is not there: {self._trouble}.",
            remedy="It is restarted; try again in a moment.",
        )

    # --- the worker's life ----------------------------------------------------------------------------------

    async def _launch(self) -> Child:
        child = Child(self._answered, self._lose)
        try:
            await child.start(self._python, self._folder, self._threads)
            child.send(encode(self._setup))
            trouble = await self._loaded(child)
        except BaseException as error:
            await child.end("its start was given up")
            if isinstance(error, OSError):
                raise NotReady(f"The model's worker could not be started: {error}.") from error
            raise
        if trouble is not None:
            await child.end(trouble)
            raise InvalidModelFile(
                f"Model file {self._entry!r} cannot be loaded: {trouble}.",
                remedy="Pickle it again with the libraries of this server; classes must be importable here.",
            )
        return child

    async def _loaded(self, child: Child) -> str | None:
        """None once the worker has loaded the model, else what is in the way."""
        clock = asyncio.get_running_loop().time
        patience = clock() + self._load_timeout
        while not child.ready.done():
            await asyncio.wait([child.ready], timeout=min(WATCH_SECONDS, self._load_timeout))
            if child.ready.done():
                break
            if clock() >= patience:
                return f"loading took longer than {self._load_timeout:g} s"
            if (excess := self._excess(child)) is not None:
                return excess
        return child.ready.result()

    async def _keep(self) -> None:
        """Watches the worker, and replaces it when it is lost."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while True:
            born = clock()
            child = self._child
            assert child is not None
            while child.alive:
                await asyncio.wait([child.gone], timeout=WATCH_SECONDS)
                self._examine(child)
            await child.end(self._trouble)
            self._child = None
            _log.warning("the worker of %s was lost: %s", self._entry, self._trouble)
            if clock() - born >= HEALTHY_SECONDS:
                pause = FIRST_PAUSE
            while self._child is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                try:
                    self._child = await self._launch()
                except (FairleadError, OSError) as error:
                    self._trouble = str(error)
                    _log.warning("the worker of %s did not start: %s", self._entry, error)

    def _examine(self, child: Child) -> None:
        if child.alive and child.exited:
            self._lose(child.death())
        elif child.alive and (excess := self._excess(child)) is not None:
            self._lose(excess)

    def _excess(self, child: Child) -> str | None:
        held = resident_bytes(child.pid)
        if held <= self._memory_limit:
            return None
        allowed = self._memory_limit // 1_000_000
        return f"it took {held // 1_000_000} MB of memory and {allowed} MB are allowed"
