"""An engine whose model is in memory while it is used: the first request loads it, and it may be evicted.

While it is cold, rows wait here until the model is loaded; one load serves all who wait. Afterwards it is as
quick as the engine within: an inline model is run by the turn, like any other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from fairlead.engine.base import Engine, Ticket
from fairlead.errors import DeadlineExceeded, FairleadError, NotReady, RuntimeFailed
from fairlead.runtimes.base import Array, Tensors
from fairlead.serving.breaker import Breaker

__all__ = ["OnDemand"]

logger = logging.getLogger(__name__)

_SLICE_SECONDS = 0.002
"""Rows that waited for the model are run for so long at a time; then others get their turn."""


class OnDemand:
    """An `Engine` around one that `load` makes whenever it is needed. Belongs to one event loop.

    A model that cannot be loaded is left alone for a while, longer after each failure; until then every
    request is refused at once with what went wrong.
    """

    def __init__(self, name: str, load: Callable[[], Awaitable[Engine]], inner: Engine | None = None) -> None:
        self._name = name
        self._load = load
        self.inner: Engine | None = inner
        self.inline = inner is not None and inner.inline
        self.used = time.monotonic()
        """When it was asked last, on the monotonic clock."""
        self._submitted = 0
        self._waiting: list[tuple[Tensors, list[Ticket]]] = []
        self._loading: asyncio.Task[Engine] | None = None
        self._breaker = Breaker(failures=1)
        self._trouble: FairleadError | None = None
        self._rows: int | None = None
        self._stopped = False

    @property
    def resident(self) -> bool:
        """Whether the model is in memory."""
        return self.inner is not None

    @property
    def busy(self) -> bool:
        """Whether rows wait for the model, or are with it by `submit`."""
        return bool(self._submitted or self._waiting)

    @property
    def healthy(self) -> bool:
        """Whether a request would reach the model: also while it is cold, unless it could not be loaded."""
        if self._stopped:
            return False
        return self._trouble is None if self.inner is None else self.inner.healthy

    async def start(self) -> None:
        """Returns once the model is loaded; see `wake`."""
        await self.wake()

    async def wake(self) -> None:
        """Returns once the model is loaded, however its last loading went. Raises what loading raises."""
        if self.inner is not None:
            return
        loading = self._loading or self._begin()
        try:
            await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled():  # it was, and not who waits for it
                raise self._unloaded() from None
            raise

    def sleep(self) -> Engine | None:
        """Lets go of the model; the caller stops what this returns. Never while anything is `busy`."""
        inner, self.inner, self.inline = self.inner, None, False
        return inner

    async def stop(self) -> None:
        """Gives everything back. Rows that wait fail; a second call does nothing."""
        self._stopped = True
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        self._fail_waiting(self._unloaded())
        inner = self.sleep()
        if inner is not None:
            await inner.stop()

    # --- requests -------------------------------------------------------------------------------------------

    def run_now(self, feed: Tensors) -> dict[str, Array]:
        """As the engine within; `NotReady` while the model is not in memory."""
        inner = self.inner
        if inner is None:
            raise NotReady(f"{self._name} is not in memory.", remedy="Try again.")
        self.used = time.monotonic()
        return inner.run_now(feed)

    async def submit(
        self,
        feed: Tensors,
        rows: int,
        timeout: float | None,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> dict[str, Array]:
        """As the engine within, after the model was loaded if it was cold; the time for that counts."""
        ends = [] if deadline is None else [deadline]
        ends += [] if timeout is None else [time.monotonic() + timeout]
        until = min(ends, default=None)
        self._submitted += 1
        try:
            if self.inner is None:
                self._require_hope()
                try:
                    left = None if until is None else max(0.0, until - time.monotonic())
                    async with asyncio.timeout(left):
                        await self._awake()
                except TimeoutError:
                    raise DeadlineExceeded(
                        f"{self._name} was not in memory, and could not be loaded in time.",
                        remedy="Try again: it goes on loading. Raise memory_budget_mb if this happens often.",
                    ) from None
            inner = self.inner
            if inner is None:
                raise self._unloaded()
            self.used = time.monotonic()
            if inner.inline:
                return inner.run_now(feed)
            left = None if until is None else until - time.monotonic()
            return await inner.submit(feed, rows, left, deadline=deadline, priority=priority)
        finally:
            self._submitted -= 1

    def post(self, feed: Tensors, tickets: Sequence[Ticket]) -> int:
        """As the engine within; while the model is cold the rows wait here until it is loaded."""
        self.used = time.monotonic()
        inner = self.inner
        if inner is not None:
            return inner.post(feed, tickets)
        self._require_hope()
        self._waiting.append((feed, list(tickets)))
        if self._loading is None:
            self._begin()
        return sum(array.nbytes for array in feed.values())

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Nobody wants these any more, wherever they are."""
        gone = set(map(id, tickets))
        kept = []
        for feed, waiting in self._waiting:
            if not gone.isdisjoint(map(id, waiting)):
                kept += [pair for pair in _apart(feed, waiting) if id(pair[1][0]) not in gone]
            else:
                kept.append((feed, waiting))
        self._waiting = kept
        if self.inner is not None:
            self.inner.cancel(tickets)

    def resize(self, rows: int) -> None:
        """As the engine within, also after it was loaded again."""
        self._rows = rows
        if self.inner is not None:
            self.inner.resize(rows)

    def memory_bytes(self) -> int:
        """Memory that the model takes at the moment."""
        return 0 if self.inner is None else self.inner.memory_bytes()

    # --- loading --------------------------------------------------------------------------------------------

    def _require_hope(self) -> None:
        """Raises what went wrong, unless it is time to try once more."""
        if self._stopped:
            raise self._unloaded()
        trouble = self._trouble
        if trouble is not None and self._loading is None and not self._breaker.allows(time.monotonic()):
            raise self._cannot(trouble)

    async def _awake(self) -> None:
        try:
            await self.wake()
        except FairleadError as error:
            raise self._cannot(error) from error

    def _begin(self) -> asyncio.Task[Engine]:
        self._loading = asyncio.get_running_loop().create_task(self._bring())
        self._loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._loading

    async def _bring(self) -> Engine:
        try:
            inner = await self._load()
        except BaseException as error:
            known = error if isinstance(error, FairleadError) else self._unexpected(error)
            self._loading = None
            if not self._stopped:
                self._trouble = known
                self._breaker.failed(time.monotonic())
                self._fail_waiting(self._cannot(known))
            if known is error or isinstance(error, asyncio.CancelledError):
                raise
            raise known from error
        self._trouble = None
        self._breaker.succeeded()
        self.used = time.monotonic()
        self.inner, self.inline = inner, inner.inline
        self._loading = None
        if self._rows is not None:
            inner.resize(self._rows)
        await self._hand_over(inner)
        return inner

    async def _hand_over(self, inner: Engine) -> None:
        """Gives the rows that waited to the engine, and others their turn in between."""
        began = time.monotonic()
        while self._waiting:
            feed, tickets = self._waiting.pop(0)
            try:
                inner.post(feed, tickets)
            except FairleadError as error:
                _fail(tickets, error)
            if self._waiting and time.monotonic() - began > _SLICE_SECONDS:
                await asyncio.sleep(0)
                began = time.monotonic()

    def _fail_waiting(self, error: FairleadError) -> None:
        waiting, self._waiting = self._waiting, []
        for _, tickets in waiting:
            _fail(tickets, error)

    def _cannot(self, error: FairleadError) -> NotReady:
        """What a caller is told: that the file is broken is no fault of his request."""
        return NotReady(
            f"{self._name} cannot be loaded: {error.message}",
            remedy=error.remedy or "Try again in a moment.",
        )

    def _unexpected(self, error: BaseException) -> FairleadError:
        if not isinstance(error, asyncio.CancelledError):
            logger.error("%s cannot be loaded", self._name, exc_info=error)
        return RuntimeFailed(f"{self._name} could not be loaded.")

    def _unloaded(self) -> NotReady:
        return NotReady(f"{self._name} was unloaded.", remedy="Try again.")


def _apart(feed: Tensors, tickets: Sequence[Ticket]) -> list[tuple[Tensors, list[Ticket]]]:
    """Each ticket with its own rows of the feed."""
    found: list[tuple[Tensors, list[Ticket]]] = []
    start = 0
    for ticket in tickets:
        end = start + ticket.rows
        found.append(({name: array[start:end] for name, array in feed.items()}, [ticket]))
        start = end
    return found


def _fail(tickets: Sequence[Ticket], error: FairleadError) -> None:
    for ticket in tickets:
        ticket.sink.failed([ticket], error)
