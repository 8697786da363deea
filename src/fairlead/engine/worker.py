"""A model in a worker process that the gateways of the machine share, as one gateway sees it.

The host says where the worker is; requests go there directly. A worker that is lost takes with it what it was
asked; the host replaces it, and until then requests are refused at once.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from fairlead.engine.base import Sink, Ticket
from fairlead.engine.frames import (
    Answer,
    Cancel,
    Failed,
    FrameError,
    Jobs,
    Lease,
    Lost,
    Terms,
    There,
    WorkerSpec,
    encode,
    pack,
    unpack,
)
from fairlead.engine.leases import Leases
from fairlead.engine.link import Link
from fairlead.engine.paths import connected
from fairlead.errors import (
    DeadlineExceeded,
    FairleadError,
    InvalidModelFile,
    NotReady,
    Overloaded,
    PayloadTooLarge,
    RuntimeFailed,
)
from fairlead.runtimes.base import Array, Tensors
from fairlead.runtimes.machine import resident_bytes

__all__ = ["WorkerEngine"]

_REASON_SECONDS = 0.5
"""How long a lost worker's requests wait for the host to say why."""
_FOREVER = 3_600.0


class WorkerEngine:
    """One version in a shared worker (an `Engine`). It belongs to the event loop that starts it.

    `timeout` is the version's, in seconds: a run that takes longer hangs, and its worker is killed.
    `memory_limit_mb` bounds its resident memory, `load_timeout` its start.
    """

    inline = False

    def __init__(
        self,
        leases: Leases,
        spec: WorkerSpec,
        *,
        memory_limit_mb: int = 2_048,
        timeout: float = 10.0,
        load_timeout: float = 60.0,
        terms: Terms | None = None,
    ) -> None:
        self._leases = leases
        self._lease = Lease(0, spec, memory_limit_mb * 1_000_000, timeout, load_timeout)
        self._terms = terms or Terms()
        self._number: int | None = None
        self._first: asyncio.Future[None] | None = None
        self._connection: Link | None = None
        self._place: There | None = None
        self._tickets: dict[int, Ticket] = {}
        self._cancelled: set[int] = set()
        self._numbers = itertools.count(1)
        self._trouble = "it has not been started"
        self._stopped = False

    @property
    def healthy(self) -> bool:
        """Whether a loaded worker is there."""
        return self._connection is not None

    @property
    def pid(self) -> int:
        """The worker's process id; 0 before there was one."""
        return self._place.pid if self._place is not None else 0

    def memory_bytes(self) -> int:
        """Resident memory of the worker, which all gateways of the machine share."""
        return resident_bytes(self.pid) if self.healthy else 0

    async def start(self) -> None:
        """Returns once the worker has loaded the model.

        Raises `InvalidModelFile` when it cannot, `NotReady` when there is no host, or no worker in time.
        """
        if self._first is None:
            self._first = asyncio.get_running_loop().create_future()
            self._number = await self._leases.lease(self._lease, self._heard)
        try:
            # The host bounds the loading; what comes on top is its own restart.
            async with asyncio.timeout(self._lease.load_timeout + 30.0):
                await asyncio.shield(self._first)
        except TimeoutError:
            raise self._not_ready() from None

    async def stop(self) -> None:
        """Ends the lease; the worker goes when no other gateway has one. Requests under way fail."""
        self._stopped = True
        if self._number is not None:
            self._leases.release(self._number)
            self._number = None
        self._trouble = "it was unloaded"
        self._disconnect()
        self._fail_all(self._not_ready())
        if self._first is not None and not self._first.done():
            self._first.cancel()

    def adapt(self, terms: Terms, *, memory_limit_mb: int, timeout: float) -> None:
        """Changes bounds without loading anything again."""
        if terms != self._terms:
            self._terms = terms
            if self._connection is not None:
                self._connection.send(encode(terms))
        memory = memory_limit_mb * 1_000_000
        if self._number is not None and (memory, timeout) != (self._lease.memory_limit, self._lease.timeout):
            self._lease.memory_limit, self._lease.timeout = memory, timeout
            self._leases.change(self._number, memory_limit=memory, timeout=timeout)

    def resize(self, rows: int) -> None:
        """From now on the worker's runs have at most so many rows."""
        self._terms = msgspec.structs.replace(self._terms, max_batch_rows=rows)
        if self._connection is not None:
            self._connection.send(encode(self._terms))

    def run_now(self, feed: Tensors) -> dict[str, Array]:
        """Never possible: the model is in another process."""
        raise NotReady("This version runs in a worker, which cannot answer at once.", remedy="Use submit().")

    async def submit(
        self,
        feed: Tensors,
        rows: int,
        timeout: float | None,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> dict[str, Array]:
        """The wanted outputs.

        Raises `NotReady` while there is no worker, `Overloaded` when too many wait, `DeadlineExceeded`
        after `timeout` seconds or past the deadline, `PayloadTooLarge`, and `RuntimeFailed` when the model
        raised or its worker died.
        """
        now = time.monotonic()
        until = now + (_FOREVER if timeout is None else timeout)
        until = until if deadline is None else min(until, deadline)
        whole = _Whole()
        ticket = Ticket(whole, rows, until, priority)
        self.post(feed, [ticket])
        try:
            async with asyncio.timeout(until - now):
                return await whole.future
        except TimeoutError:
            raise DeadlineExceeded(
                f"The model did not answer {rows} rows within {until - now:g} s.",
                remedy="Raise timeout_ms of the version, or make the model faster.",
            ) from None
        finally:
            self.cancel([ticket])

    def post(self, feed: Tensors, tickets: Sequence[Ticket]) -> int:
        """Sends the rows to the worker, where they wait for the next run. Bytes of the frame."""
        connection = self._connection
        if connection is None:
            raise self._not_ready()
        jobs = []
        for ticket in tickets:
            ticket.id = next(self._numbers)
            jobs.append((ticket.id, ticket.rows, ticket.deadline, ticket.priority))
        try:
            described, numbers = pack(feed, nulls=True)
            buffers = encode(Jobs(jobs, described), numbers)
        except FrameError as error:
            raise PayloadTooLarge(str(error), remedy="Send fewer rows at a time.") from error
        for ticket in tickets:
            self._tickets[ticket.id] = ticket
        connection.send(buffers)
        return sum(map(len, buffers))

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Takes from the worker's queue what still waits there."""
        ids = [ticket.id for ticket in tickets if ticket.id in self._tickets]
        new = [number for number in ids if number not in self._cancelled]
        if new and self._connection is not None:
            self._cancelled.update(new)
            self._connection.send(encode(Cancel(new)))

    # --- what the worker answers ----------------------------------------------------------------------------

    def answered(self, answer: Answer, payload: memoryview) -> None:
        """Takes an answer; `FrameError` when nobody asked for it or it makes no sense."""
        try:
            tickets = [self._tickets[number] for number in answer.ids]
        except KeyError:
            raise FrameError("An answer came that nobody asked for.") from None
        outputs = unpack(answer.tensors, payload)
        count = 0
        for ticket in tickets:
            count += ticket.rows
        for array in outputs.values():
            if answer.error is None and array.shape[:1] != (count,):
                raise FrameError(f"An answer came that does not have {count} rows.")
        for ticket in tickets:
            del self._tickets[ticket.id]
        error = _error(answer)
        start = 0
        told: list[object] = []
        for sink, owned in _by_sink(tickets):
            end = start
            for ticket in owned:
                end += ticket.rows
            if answer.rows and sink not in told:
                sink.observed(answer.rows, answer.seconds, answer.waiting, answer.counted and not told)
                told.append(sink)
            if self._cancelled and not self._cancelled.isdisjoint(ticket.id for ticket in owned):
                # Seldom: what nobody waits for any more lies among the others.
                for ticket in owned:
                    if ticket.id not in self._cancelled:
                        part = {name: array[start : start + ticket.rows] for name, array in outputs.items()}
                        _tell(sink, [ticket], part, error)
                    start += ticket.rows
                self._cancelled.difference_update(ticket.id for ticket in owned)
                continue
            whole = start == 0 and end == count
            part = outputs if whole else {name: array[start:end] for name, array in outputs.items()}
            _tell(sink, owned, part, error)
            start = end

    def garbage(self, reason: str) -> None:
        """The worker sent what is no answer: it is of no use any more."""
        if self._number is not None and self._place is not None:
            self._leases.broken(self._number, self._place.pid, reason)
        self._lose(reason)

    def hung_up(self, connection: Link) -> None:
        """The worker closed the connection. Why, the host will say."""
        if connection is self._connection:
            self._connection = None
            self._trouble = "it closed its socket"
            asyncio.get_running_loop().call_later(_REASON_SECONDS, self._unexplained, list(self._tickets))

    def _unexplained(self, ids: list[int]) -> None:
        error = self._lost_error()
        for number in ids:
            ticket = self._tickets.pop(number, None)
            if ticket is not None and number not in self._cancelled:
                ticket.sink.failed([ticket], error)
            self._cancelled.discard(number)
        if self._connection is None and self._place is not None and not self._stopped:
            self._connect_soon(self._place)  # it may live: then only the connection was lost

    # --- where the worker is --------------------------------------------------------------------------------

    def _heard(self, message: There | Failed | Lost) -> None:
        if isinstance(message, There):
            known = self._place
            self._place = message
            if self._connection is None or known is None or known.pid != message.pid:
                self._connect_soon(message)
        elif isinstance(message, Lost):
            self._lose(message.reason)
        else:
            self._number = None
            self._trouble = message.reason
            if self._first is not None and not self._first.done():
                self._first.set_exception(
                    InvalidModelFile(
                        f"Model file {self._lease.spec.entry!r} cannot be loaded: {message.reason}.",
                        remedy="Save it again with this server's libraries; classes must be importable here.",
                    )
                )

    def _connect_soon(self, place: There) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(place))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _connect(self, place: There) -> None:
        self._disconnect()
        try:
            ours = connected(Path(place.socket))
        except OSError as error:
            self._trouble = f"it cannot be reached: {error.strerror}"
            return  # the host notices, and says when it is back
        ours.setblocking(False)
        connection = Link(self, ours)
        await asyncio.get_running_loop().create_unix_connection(lambda: connection, sock=ours)
        if self._stopped:
            connection.close()
            return
        self._connection = connection
        connection.send(encode(self._terms))
        if self._first is not None and not self._first.done():
            self._first.set_result(None)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _lose(self, reason: str) -> None:
        self._trouble = reason
        self._disconnect()
        self._fail_all(self._lost_error())

    def _fail_all(self, error: FairleadError) -> None:
        tickets, self._tickets = self._tickets, {}
        cancelled, self._cancelled = self._cancelled, set()
        for ticket in tickets.values():
            if ticket.id not in cancelled:
                ticket.sink.failed([ticket], error)

    def _lost_error(self) -> RuntimeFailed:
        return RuntimeFailed(
            f"The model's worker was lost: {self._trouble}.", remedy="Try again in a moment."
        )

    def _not_ready(self) -> NotReady:
        return NotReady(
            f"The model's worker is not there: {self._trouble}.",
            remedy="It is restarted; try again in a moment.",
        )


class _Whole:
    """The sink of one `submit`."""

    def __init__(self) -> None:
        self.future: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()

    def answered(self, tickets: Sequence[Ticket], outputs: dict[str, Array]) -> None:
        if not self.future.done():
            self.future.set_result(outputs)

    def failed(self, tickets: Sequence[Ticket], error: FairleadError) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # seen, also when nobody waits any more

    def observed(self, rows: int, seconds: float, waiting: int, counted: bool) -> None:
        pass


def _by_sink(tickets: list[Ticket]) -> list[tuple[Sink, list[Ticket]]]:
    """The tickets in their order, those that follow each other and have one sink together."""
    if len(tickets) == 1:
        return [(tickets[0].sink, tickets)]
    return [(sink, list(group)) for sink, group in itertools.groupby(tickets, key=lambda ticket: ticket.sink)]


def _tell(sink: Sink, tickets: list[Ticket], outputs: dict[str, Array], error: FairleadError | None) -> None:
    if error is None:
        sink.answered(tickets, outputs)
    else:
        sink.failed(tickets, error)


def _error(answer: Answer) -> FairleadError | None:
    match answer.error:
        case None:
            return None
        case "expired":
            return DeadlineExceeded(
                "The request's deadline passed before the model was free for it.",
                remedy="Raise timeout_ms of the version, or make the model faster.",
            )
        case "full":
            return Overloaded(answer.message, remedy="Try again later.")
        case _:
            return RuntimeFailed(f"The model raised {answer.message}")
