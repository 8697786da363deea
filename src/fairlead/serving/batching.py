"""Joining rows for one version: those that arrive in one turn of the event loop travel together, and those of
all gateways that wait for the model form its next run, in the worker.

Nothing waits for company here: a lone row leaves at the end of the turn that brought it. Identical rows in
flight share a run. What cannot be answered before its deadline is refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

from fairlead.engine.base import Engine, Ticket
from fairlead.errors import DeadlineExceeded, FairleadError, Overloaded, RuntimeFailed
from fairlead.runtimes.base import Array
from fairlead.runtimes.binding import Binding, Prediction, Row
from fairlead.serving.costs import RunCosts
from fairlead.serving.turns import Halt, Sink, Turns

__all__ = ["Batcher", "Bounds"]

_MARGIN = 0.8
"""Share of the time left that the estimated wait may take: an answer must still travel back."""
_STALE_SECONDS = 1.0
"""What the worker said of other gateways' rows counts for so long."""
_LATER_SECONDS = 0.001

Answered = Prediction | FairleadError


class Bounds:
    """How much may wait, and for how long: seconds, rows, bytes; rows of one run; runs at a time; the latency
    in seconds that batches are sized for, if any."""

    __slots__ = ("instances", "latency_target", "max_batch_rows", "max_bytes", "max_rows", "timeout")

    def __init__(
        self,
        *,
        timeout: float,
        max_batch_rows: int = 1_000,
        max_rows: int = 10_000,
        max_bytes: int = 256 * 2**20,
        latency_target: float | None = None,
        instances: int = 1,
    ) -> None:
        self.timeout = timeout
        self.max_batch_rows = max_batch_rows
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.latency_target = latency_target
        self.instances = instances


class _Rows(Ticket):
    """Rows under way, and who waits for them. Once settled they have answers or an error."""

    __slots__ = ("answers", "bytes", "error", "expected", "key", "settled", "since", "values", "waits")

    def __init__(
        self, batcher: Batcher, values: Sequence[Row], deadline: float, priority: int, key: bytes | None
    ) -> None:
        super().__init__(batcher, len(values), deadline, priority)
        self.values = values
        self.key = key
        self.waits: list[_Wait] = []
        self.settled = False
        self.answers: list[Answered] = []
        self.error: FairleadError | None = None
        self.bytes = 0
        self.since = 0.0
        self.expected = 0.0


class _Wait(Halt):
    """One caller's wait for rows, until a moment of his own. He may share them with others."""

    __slots__ = ("_batcher", "_future", "_sink", "_turns", "_walk", "late", "ticket", "until")

    def __init__(self, batcher: Batcher, ticket: _Rows, until: float) -> None:
        self._batcher = batcher
        self.ticket = ticket
        self.until = until
        self.late = False
        self._turns: Turns | None = None
        self._walk: Coroutine[Any, Any, bytes] | None = None
        self._sink: Sink | None = None
        self._future: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, list[Answered]]:
        ticket = self.ticket
        if not ticket.settled:
            ticket.waits.append(self)
            try:
                if Turns.stepping:
                    yield self
                else:
                    self._future = asyncio.get_running_loop().create_future()
                    yield from self._future
            except BaseException:
                self._batcher.left(self)
                raise
        if self.late:
            raise DeadlineExceeded(
                "The model did not answer in time.",
                remedy="Raise timeout_ms of the version, or make the model faster.",
            )
        if ticket.error is not None:
            raise ticket.error
        return ticket.answers

    def park(self, turns: Turns, walk: Coroutine[Any, Any, bytes], sink: Sink) -> None:
        """The walk goes on when the rows are settled, or the caller's time is over."""
        self._turns, self._walk, self._sink = turns, walk, sink
        sink.task = self

    def cancel(self) -> None:
        """The caller went away."""
        if self._turns is not None and self._walk is not None:
            walk, self._walk = self._walk, None
            self._turns.cancel(walk)

    def wake(self) -> None:
        """It is over."""
        if self._walk is not None and self._turns is not None and self._sink is not None:
            walk, self._walk = self._walk, None
            self._sink.task = None
            self._turns.start(walk, self._sink)
        elif self._future is not None and not self._future.done():
            self._future.set_result(None)


class Batcher:
    """The way to one version's engine (a `Sink`), for one gateway.

    With a latency target it tells the engine how many rows a run may have.
    """

    def __init__(self, engine: Engine, binding: Binding, bounds: Bounds) -> None:
        self._engine = engine
        self._binding = binding
        self._bounds = bounds
        self.ran: Callable[[int, float], None] = lambda rows, seconds: None
        """Called after each run with its rows and seconds; the live model counts there."""
        self.costs = RunCosts()
        self._batch_rows = bounds.max_batch_rows
        self._pending: list[_Rows] = []
        self._under_way: dict[_Rows, None] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._in_flight: dict[bytes, _Rows] = {}
        self._rows = 0
        self._bytes = 0
        self._others = 0
        self._others_at = 0.0

    @property
    def waiting(self) -> int:
        """Rows of this gateway that have not been answered."""
        return self._rows

    async def predict(
        self, row: Row, key: bytes | None, deadline: float | None = None, priority: int = 0
    ) -> Prediction:
        """The prediction for a row. Rows with the same key that are under way share one run.

        `deadline` (on `time.monotonic()`'s clock) may shorten the version's timeout; `priority` 1 goes first,
        and 0 after all others. Raises `Overloaded` when too much waits or the wait would be too long,
        `DeadlineExceeded`, and whatever the engine raises.
        """
        until = self._until(deadline)
        while True:
            ticket = None if key is None else self._in_flight.get(key)
            if ticket is None:
                ticket = self._admit([row], until, priority, key)
            self._watch(until)
            try:
                (answer,) = await _Wait(self, ticket, until)
            except DeadlineExceeded:
                # It was another caller's, who had less time.
                if ticket.deadline < until - _LATER_SECONDS and time.monotonic() < until:
                    continue
                raise
            if isinstance(answer, FairleadError):
                raise answer
            return answer

    async def submit_rows(
        self, rows: Sequence[Row], deadline: float | None = None, priority: int = 0
    ) -> list[Answered]:
        """The predictions of rows that came together, in their order; in place of each that failed by itself,
        its error. Raises, for all of them, what `predict` raises; `RuntimeFailed` only of a single row's run.
        """
        until = self._until(deadline)
        try:
            ticket = self._admit(rows, until, priority)
            self._watch(until)
            return await _Wait(self, ticket, until)
        except RuntimeFailed as error:
            if len(rows) == 1:
                return [error]
        # Perhaps one row is to blame. Each as a job of its own fails or succeeds for itself.
        return [
            answer if isinstance(answer, FairleadError) else answer[0]
            for answer in await asyncio.gather(*(self._alone(row, until, priority) for row in rows))
        ]

    async def _alone(self, row: Row, until: float, priority: int) -> list[Prediction] | FairleadError:
        try:
            ticket = self._admit([row], until, priority)
            self._watch(until)
            (answer,) = await _Wait(self, ticket, until)
        except FairleadError as error:
            return error
        return answer if isinstance(answer, FairleadError) else [answer]

    def _until(self, deadline: float | None) -> float:
        until = time.monotonic() + self._bounds.timeout
        return until if deadline is None else min(until, deadline)

    # --- in and out -----------------------------------------------------------------------------------------

    def _admit(
        self, values: Sequence[Row], deadline: float, priority: int, key: bytes | None = None
    ) -> _Rows:
        """Takes rows in, unless too much waits already or they could not be answered in time."""
        bounds = self._bounds
        count = len(values)
        # The worker bounds what waits, of all gateways; this bounds what is on the way there.
        if self._rows and self._rows + count > bounds.max_rows + bounds.max_batch_rows * bounds.instances:
            raise Overloaded(f"{self._rows} rows wait for the model already.", remedy="Try again later.")
        if self._rows and self._bytes > bounds.max_bytes:
            raise Overloaded(f"{self._bytes} bytes wait for the model already.", remedy="Try again later.")
        now = time.monotonic()
        if deadline <= now:
            raise DeadlineExceeded("The request's deadline has passed.", remedy="Allow more time.")
        wait = self.expected_wait(count, now)
        if wait > _MARGIN * (deadline - now):
            raise Overloaded(
                f"The answer would take about {wait:.2g} s and may take {max(0.0, deadline - now):.2g} s.",
                remedy="Try again later.",
            )
        ticket = _Rows(self, values, deadline, priority, key)
        ticket.since, ticket.expected = now, wait / self.costs.slip
        self._rows += count
        self._under_way[ticket] = None
        if key is not None:
            self._in_flight[key] = ticket
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(ticket)
        return ticket

    def expected_wait(self, rows: int, now: float) -> float:
        """Seconds until so many more rows would be answered, as far as is known: 0 while nothing waits."""
        if not self.costs.known or self._engine.inline:
            return 0.0
        others = self._others if now - self._others_at < _STALE_SECONDS else 0
        ahead = self._rows + others
        if not ahead:
            return 0.0
        costs = self.costs
        return costs.slip * costs.seconds(ahead + rows, self._batch_rows) / self._bounds.instances

    def left(self, wait: _Wait) -> None:
        """A caller gives up. Rows that nobody waits for any more leave the worker's queue."""
        ticket = wait.ticket
        if wait in ticket.waits:
            ticket.waits.remove(wait)
        if not ticket.waits and not ticket.settled:
            self._engine.cancel([ticket])
            self._settle(ticket)

    def _settle(self, ticket: _Rows) -> None:
        """The rows are answered, have failed, or nobody wants them."""
        ticket.settled = True
        ticket.values = ()
        self._rows -= ticket.rows
        self._bytes -= ticket.bytes
        del self._under_way[ticket]
        if ticket.key is not None:
            self._in_flight.pop(ticket.key, None)
        waits, ticket.waits = ticket.waits, []
        for wait in waits:
            wait.wake()

    # --- time -----------------------------------------------------------------------------------------------

    def _watch(self, until: float) -> None:
        """Has those who wait looked at when that moment has come: one alarm serves all."""
        if self._alarm is None or until < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = until
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(0.0, until - time.monotonic()), self._look)

    def _look(self) -> None:
        """Tells those whose time is over."""
        self._alarm = None
        now = time.monotonic()
        late = [wait for ticket in self._under_way for wait in ticket.waits if wait.until <= now]
        for wait in late:
            if wait in wait.ticket.waits:
                wait.late = True
                self.left(wait)
                wait.wake()
        still = [wait.until for ticket in self._under_way for wait in ticket.waits]
        if still:
            self._watch(max(min(still), now + _LATER_SECONDS))

    # --- to the engine and back -----------------------------------------------------------------------------

    def _flush(self) -> None:
        tickets, self._pending = [ticket for ticket in self._pending if not ticket.settled], []
        if tickets:
            self._post(tickets)

    def _post(self, tickets: list[_Rows]) -> None:
        try:
            feed = self._binding.encode([row for ticket in tickets for row in ticket.values])
            size = self._engine.post(feed, tickets)
        except FairleadError as error:
            if isinstance(error, RuntimeFailed) and len(tickets) > 1:
                # Rows with lists of different lengths make no tensor together; the worker joins what fits.
                for ticket in tickets:
                    self._post([ticket])
            else:
                self.failed(tickets, error)
            return
        share = size // len(tickets)
        for ticket in tickets:
            if not ticket.settled:
                ticket.bytes = share
                self._bytes += share

    def answered(self, tickets: Sequence[Ticket], outputs: dict[str, Array]) -> None:
        """The engine has outputs: they become predictions, of which a bad one fails alone."""
        count = sum(ticket.rows for ticket in tickets)
        answers: list[Answered]
        try:
            answers = [*self._binding.decode(outputs, count)]
        except RuntimeFailed as error:
            answers = [error] if count == 1 else self._decoded_alone(outputs, count)
        start = 0
        now = time.monotonic()
        for ticket in tickets:
            assert isinstance(ticket, _Rows)
            if not ticket.settled:
                if ticket.expected > 0.0:
                    self.costs.waited(ticket.expected, now - ticket.since)
                ticket.answers = answers[start : start + ticket.rows]
                self._settle(ticket)
            start += ticket.rows

    def _decoded_alone(self, outputs: dict[str, Array], count: int) -> list[Answered]:
        found: list[Answered] = []
        for index in range(count):
            try:
                part = {name: array[index : index + 1] for name, array in outputs.items()}
                found += self._binding.decode(part, 1)
            except RuntimeFailed as error:
                found.append(error)
        return found

    def failed(self, tickets: Sequence[Ticket], error: FairleadError) -> None:
        """The engine has no outputs for these."""
        for ticket in tickets:
            assert isinstance(ticket, _Rows)
            if not ticket.settled:
                ticket.error = error
                self._settle(ticket)

    def observed(self, rows: int, seconds: float, waiting: int, counted: bool) -> None:
        """A run has ended: counts it, learns what a run costs, and how much other gateways have waiting."""
        if counted:
            self.ran(rows, seconds)
        self.costs.observe(rows, seconds)
        self._others = max(0, waiting - self._rows)
        self._others_at = time.monotonic()
        target = self._bounds.latency_target
        if target is not None and self.costs.known:
            # A row waits at most for the run before its own: each may take half.
            fitting = self.costs.rows_within(target / 2.0, self._bounds.max_batch_rows)
            if abs(fitting - self._batch_rows) > 0.1 * self._batch_rows:
                self._batch_rows = fitting
                self._engine.resize(fitting)
