"""Joining rows for one version: those that arrive in one turn of the event loop travel together, and those of
all gateways that wait for the model form its next run, in the worker.

Nothing waits for company here: a lone row leaves at the end of the turn that brought it. Identical rows in
flight share a run. What cannot be answered before its deadline is refused at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from fairlead.engine.base import Engine, Ticket
from fairlead.errors import DeadlineExceeded, FairleadError, Overloaded, RuntimeFailed
from fairlead.runtimes.base import Array
from fairlead.runtimes.binding import Binding, Prediction, Row
from fairlead.serving.costs import RunCosts

__all__ = ["Batcher", "Bounds"]

_MARGIN = 0.9
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
    """Rows under way, and who waits for them."""

    __slots__ = ("bytes", "callers", "expected", "future", "since", "values")

    def __init__(self, batcher: Batcher, values: Sequence[Row], deadline: float, priority: int) -> None:
        super().__init__(batcher, len(values), deadline, priority)
        self.values = values
        self.future: asyncio.Future[list[Answered]] = asyncio.get_running_loop().create_future()
        self.callers = 0
        self.bytes = 0
        self.since = 0.0
        self.expected = 0.0


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
                ticket = self._admit([row], until, priority)
                if key is not None:
                    self._in_flight[key] = ticket
                    ticket.future.add_done_callback(partial(self._landed, key))
            try:
                (answer,) = await self._wait(ticket, until)
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
            return await self._wait(self._admit(rows, until, priority), until)
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
            (answer,) = await self._wait(self._admit([row], until, priority), until)
        except FairleadError as error:
            return error
        return answer if isinstance(answer, FairleadError) else [answer]

    def _until(self, deadline: float | None) -> float:
        until = time.monotonic() + self._bounds.timeout
        return until if deadline is None else min(until, deadline)

    # --- in and out -----------------------------------------------------------------------------------------

    def _admit(self, values: Sequence[Row], deadline: float, priority: int) -> _Rows:
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
        ticket = _Rows(self, values, deadline, priority)
        ticket.since, ticket.expected = now, wait / self.costs.slip
        self._rows += count
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

    def _landed(self, key: bytes, _: object) -> None:
        self._in_flight.pop(key, None)

    async def _wait(self, ticket: _Rows, until: float) -> list[Answered]:
        ticket.callers += 1
        try:
            # One caller who gives up must not take the answer from those who share it: no cancelling here.
            done, _ = await asyncio.wait([ticket.future], timeout=until - time.monotonic())
            if not done:
                raise DeadlineExceeded(
                    "The model did not answer in time.",
                    remedy="Raise timeout_ms of the version, or make the model faster.",
                )
            return ticket.future.result()
        finally:
            ticket.callers -= 1
            if not ticket.callers and not ticket.future.done():
                self._abandon(ticket)

    def _abandon(self, ticket: _Rows) -> None:
        """Nobody waits for it any more: it leaves the worker's queue."""
        self._engine.cancel([ticket])
        self._left(ticket)
        ticket.future.cancel()

    def _left(self, ticket: _Rows) -> None:
        self._rows -= ticket.rows
        self._bytes -= ticket.bytes

    # --- to the engine and back -----------------------------------------------------------------------------

    def _flush(self) -> None:
        tickets, self._pending = [ticket for ticket in self._pending if not ticket.future.done()], []
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
            if not ticket.future.done():
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
            self._left(ticket)
            if ticket.expected > 0.0:
                self.costs.waited(ticket.expected, now - ticket.since)
            if not ticket.future.done():
                ticket.future.set_result(answers[start : start + ticket.rows])
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
            self._left(ticket)
            if not ticket.future.done():
                ticket.future.set_exception(error)
                ticket.future.exception()  # seen: a caller who gave up must not make a warning

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
