"""Requests that arrive in one turn of the event loop walk together, and nobody waits for company.

A walk is a coroutine that answers one request. It stops at two gates. At `ran` all rows of this turn that
want the same light model have come together: they are run as one batch. At `written` all their records have:
they go to the log in one write, and only then the answers leave. A turn is what one look at the sockets
found, or as much of it as may wait for each other; a lone request passes both gates at once.

A walk that waits for anything else (a model in another process, a shared cache) becomes a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Protocol, TypeVar

from fairlead.serving.pace import Pace

__all__ = ["Canceller", "Halt", "Sink", "Turns"]

_T = TypeVar("_T")
_Walk = Coroutine[Any, Any, bytes]


class Canceller(Protocol):
    """Something under way that can be given up, such as a task."""

    def cancel(self) -> object:
        """Gives it up."""
        ...


class Sink(Protocol):
    """Where the answer of a walk goes."""

    task: Canceller | None
    """What to cancel when the answer is not wanted any more: the task that the walk became, or its waiting
    elsewhere; None while it cannot be cancelled."""

    def fill(self, answer: bytes) -> None:
        """Takes the answer."""
        ...


class Halt:
    """Something that a walk can wait for without becoming a task: its `__await__` yields itself when
    `Turns.stepping`, and it is then told who waits."""

    __slots__ = ()

    def park(self, turns: Turns, walk: _Walk, sink: Sink) -> None:
        """`walk` waits; once that is over, `turns.start(walk, sink)` goes on with it."""
        raise NotImplementedError


class _Gate(Halt):
    """A place where walks wait for the others of their turn. Awaiting it works in any task, too."""

    __slots__ = ("_turns", "waiting")

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.waiting: list[tuple[_Walk | None, Any]] = []

    def __await__(self) -> Generator[Any, None, None]:
        if Turns.stepping:
            yield self
        else:
            future = asyncio.get_running_loop().create_future()
            self.waiting.append((None, future))
            self._turns.schedule()
            yield from future

    def park(self, turns: Turns, walk: _Walk, sink: Sink) -> None:
        """The walk goes on when the gate opens."""
        self.waiting.append((walk, sink))
        if not turns.scheduled:
            turns.schedule()


class Turns:
    """Drives the walks of one gateway worker. Use from its event loop alone.

    `run` is called once in a turn when walks have come to the gate `ran`, `write` when they have come to
    `written`; neither may raise.
    """

    __slots__ = ("_run", "_write", "ended", "pace", "ran", "scheduled", "written")

    stepping = False
    """Whether a walk, not a task, is being driven at this moment. One for the process: so is the loop."""

    def __init__(self, run: Callable[[], None], write: Callable[[], None], max_turn: float = 0.02) -> None:
        self.ran = _Gate(self)
        self.written = _Gate(self)
        self.pace = Pace(max_turn)
        self.scheduled = False
        """Whether the gates will open once the sockets have been looked at."""
        self.ended = 0
        """How many passes with requests there were."""
        self._run = run
        self._write = write

    def start(self, walk: _Walk, sink: Sink) -> None:
        """Begins a walk; its answer goes to `sink`, perhaps before this returns. A walk never raises."""
        Turns.stepping = True
        try:
            waits_for = walk.send(None)
        except StopIteration as finished:
            Turns.stepping = False
            sink.fill(finished.value)
            return
        except BaseException:
            Turns.stepping = False
            raise
        Turns.stepping = False
        if isinstance(waits_for, Halt):
            waits_for.park(self, walk, sink)
        else:
            _become_task(walk, waits_for, sink)

    async def follow(self, walk: Coroutine[Any, Any, _T]) -> _T:
        """The result of a walk, for a task that waits for it: the walk itself is none, and costs less."""
        answer = _Answer()
        self.start(_never_raising(walk), answer)
        try:
            result: _T = await answer.future
        except asyncio.CancelledError:
            if answer.task is not None:
                answer.task.cancel()
            raise
        return result

    def cancel(self, walk: _Walk) -> None:
        """Ends a walk that waits somewhere: nobody wants its answer any more."""
        try:
            walk.throw(asyncio.CancelledError())
        except (StopIteration, asyncio.CancelledError):
            return

    @property
    def walks(self) -> int:
        """How many walks wait at the gates."""
        return len(self.ran.waiting) + len(self.written.waiting)

    def schedule(self) -> None:
        """Has the gates opened once this pass has looked at the sockets."""
        if not self.scheduled:
            self.scheduled = True
            self.pace.begin(time.perf_counter())
            asyncio.get_running_loop().call_soon(self._end)

    def relieve(self) -> None:
        """Opens the gates now, if those who wait there have waited for long enough.

        To be called between requests: who has more to read would keep them waiting.
        """
        if self.pace.is_enough(time.perf_counter(), self.walks):
            self._open()

    def _end(self) -> None:
        self.scheduled = False
        self.ended += 1
        self.pace.end(self._open())

    def _open(self) -> float:
        began = time.perf_counter()
        walks = self.walks
        gate = self.ran
        if gate.waiting:
            self._run()
            self._go_on(gate)
        gate = self.written
        if gate.waiting:
            self._write()
            self._go_on(gate)
        ended = time.perf_counter()
        self.pace.opened(began, ended, walks)
        return ended

    def _go_on(self, gate: _Gate) -> None:
        waiting, gate.waiting = gate.waiting, []
        for walk, sink in waiting:
            if walk is None:
                if not sink.done():
                    sink.set_result(None)
            else:
                self.start(walk, sink)


class _Answer:
    """A sink for whoever awaits the answer."""

    __slots__ = ("future", "task")

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.task: Canceller | None = None

    def fill(self, answer: Any) -> None:
        if self.future.done():
            return
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


async def _never_raising(walk: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await walk
    except Exception as error:
        return error


def _become_task(walk: _Walk, waits_for: Any, sink: Sink) -> None:
    task = asyncio.get_running_loop().create_task(_finish(walk, waits_for))
    sink.task = task
    task.add_done_callback(partial(_filled, sink, walk, waits_for))


def _filled(sink: Sink, walk: _Walk, waits_for: Any, task: asyncio.Task[bytes]) -> None:
    if not task.cancelled():
        sink.fill(task.result())
    elif inspect.getcoroutinestate(walk) == inspect.CORO_SUSPENDED:
        # The task was cancelled before its first step, and so the walk has not heard of it.
        if isinstance(waits_for, asyncio.Future):
            waits_for.cancel()
        with contextlib.suppress(StopIteration, asyncio.CancelledError):
            walk.throw(asyncio.CancelledError())


@types.coroutine
def _finish(coroutine: _Walk, waits_for: Awaitable[Any]) -> Generator[Any, Any, bytes]:
    """Goes on with a coroutine that was already begun: hands what it waits for to the task, and back."""
    while True:
        try:
            value = yield waits_for
        except BaseException as error:
            resume: Callable[[], Awaitable[Any]] = partial(coroutine.throw, error)
        else:
            resume = partial(coroutine.send, value)
        try:
            waits_for = resume()
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]
