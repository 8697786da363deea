"""One connection of the data plane: begins requests as they are whole, writes answers in their order.

An ordinary request, whole in one read with few others before it, passes few checks. Whatever else there is to
see to (a body that comes in pieces, a caller that does not read, many requests at once, draining) makes the
connection `_careful`, and only then it is looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from fairlead.errors import FairleadError
from fairlead.gateway.limits import SLICE
from fairlead.gateway.messages import Request
from fairlead.gateway.reader import CLOSE, KEEP_ALIVE, RequestReader
from fairlead.gateway.refusals import (
    full_of_connections,
    not_whole,
)
from fairlead.gateway.slots import CarefulSlot, Slot, with_line

if TYPE_CHECKING:
    from fairlead.gateway.protocol import HttpServer

__all__ = ["HttpConnection"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIVE = ord("5")
_MAX_PIPELINED = 32
_FULL_READ = 200_000
"""A read of so many bytes may have left some that are just as old."""


class HttpConnection(RequestReader):
    """A connection, made by `HttpServer`."""

    __slots__ = (
        "_answers", "_deferred", "_flushes", "_gathers", "_last", "_owes_continue", "_read_before",
        "_turns", "_unread",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._turns = server.turns
        self._answers: deque[Slot] = deque()
        self._deferred: deque[CarefulSlot] = deque()  # those of `_answers` that have not begun
        self._unread: memoryview | None = None  # arrived, and to be parsed when there is room
        self._last = False  # the caller sends nothing more
        self._gathers = False  # answers that are there leave a little later, together
        self._flushes = False  # and will be told to
        self._owes_continue = False

    # --- the connection -------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._answers)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by closing it."""
        return not self._answers and not self.began and not self._unsent()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport offers the interface without inheriting it.
        self._transport = cast("asyncio.Transport", transport)
        if self._server.admits(self):
            self._careful = self._server.draining
            self._begin_reading()
        elif self._server.dismisses(self):
            limit = self._server.limits.connections
            self._write(with_line(CLOSE, self._server.refuse(full_of_connections(limit))))
            self._close_gently()
        else:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._begin_closing()
        self._server.lost(self)
        self._give_up()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._read_before, self._read_at = self._read_at, time.perf_counter()
        self._late = self._unread_since
        self._unread_since = 0.0 if len(data) < _FULL_READ else self._late or self._read_before
        if len(data) > SLICE:
            self._feed_slices(memoryview(data))
            self._turns.relieve()
            return
        self._gathers = True
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._broken(error)
        else:
            if self.began:
                self._unfinished(len(data))
        self._gathers = False
        if self._answers and self._answers[0].answer is not None:
            self._settle()
        self._turns.relieve()

    def eof_received(self) -> bool:
        """The caller sends nothing more. What this turn answers still leaves.

        Whoever would have to wait for longer is taken to be gone: a caller that closes its connection looks
        no different, and its requests are cancelled.
        """
        if not self._deaf and self._answers:
            if all(slot.task is None or slot.answer is not None for slot in self._answers):
                self._last = self._careful = True
                return True
            self._begin_closing()
            self._give_up()
        return False

    def pause_writing(self) -> None:
        """The caller reads slowly: nothing more is read or begun until it has taken its answers."""
        self._stuck = self._careful = True
        self._mark_unsent()
        self._stop_reading()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        self._stuck = False
        self._settle()

    def heed(self) -> None:
        """Has the connection look at what changed about the server."""
        self._careful = True

    def tend(self, now: float) -> None:
        """Closes the connection when it has been silent, sending or taking its answers for too long.

        To be called about once a second, with `time.perf_counter()`.
        """
        limits = self._server.limits
        if self._closing or self._stuck:
            if self._takes_nothing(now, limits.write_seconds):
                self.abort()
        elif self._answers:
            self.active = now
        elif self.active < now - limits.idle_seconds:
            self.close()
        if 0 < self.began < now - limits.request_seconds and self._reading and not self._deaf:
            self._refuse(not_whole(limits.request_seconds))

    # --- requests -------------------------------------------------------------------------------------------

    def on_message_complete(self) -> None:
        self.began = 0.0
        body = self._body
        path = self._url.partition(b"?")[0]
        whole = body if type(body) is bytes else bytes(body)
        request = Request(self._method, path, self._headers, whole, self._read_before, self._late)
        if self._careful:
            if not self._server.full or not self._turned_away(request):
                self._take(request)
            return
        slot = Slot(self, self._ending)
        answers = self._answers
        answers.append(slot)
        self._server.start(self._server.handle(request), slot)
        if len(answers) >= _MAX_PIPELINED:
            self._careful = True
            self._stop_reading()

    def _turned_away(self, request: Request) -> bool:
        """Whether there is no room for a request, which is answered so without a walk.

        Refusing is most of what an overloaded gateway does, and must cost a small part of an answer.
        """
        if self._deaf or self._ending or self._deferred or self._crowded():
            return False
        answer = self._server.turn_away(request)
        if answer is None:
            return False
        self._server.held -= self._held
        self._held = 0
        slot = Slot(self, b"")
        slot.answer = answer
        self._answers.append(slot)
        self.flush()
        return True

    def _take(self, request: Request) -> None:
        """Begins a request, or has it wait for room."""
        if self._deaf:
            return
        slot = CarefulSlot(self, self._ending, request, self._held)
        self._held = 0
        self._answers.append(slot)
        if self._deferred or self._crowded():
            if not request.arrived:
                request.arrived = self._turns.pace.arrival(request.received, request.since)
            self._deferred.append(slot)
        else:
            self._server.start(self._server.handle(request), slot)
        if self._crowded():
            self._stop_reading()

    def _crowded(self) -> bool:
        under_way = len(self._answers) - len(self._deferred)
        return self._stuck or under_way >= _MAX_PIPELINED

    def _feed_slices(self, view: memoryview) -> None:
        """Parses a long read piece by piece, until the connection has as much to answer as it may."""
        start = 0
        while start < len(view) and not self._deaf:
            if not self._reading:
                self._unread = view[start:]
                # Whoever is parsed later has waited since now, and does not show it otherwise.
                self._late = self._late or self._turns.pace.arrival(time.perf_counter(), self._read_before)
                self._hold(len(view) - start)
                return
            piece = view[start : start + SLICE]
            start += len(piece)
            try:
                self._feed(piece)
            except httptools.HttpParserError as error:
                self._broken(error)
            else:
                if self.began:
                    self._unfinished(len(piece))

    def _expected(self) -> None:
        if self._headers[b"expect"].lower() != b"100-continue" or self._parser.get_http_version() == "1.0":
            return
        if self._answers:
            self._owes_continue = self._careful = True
        else:
            self._write(_CONTINUE)

    def _refuse(self, error: FairleadError) -> None:
        """Answers an error and closes: after a broken request nothing on this connection can be trusted."""
        self._refused = error
        self._deaf = True
        self._let_go()
        slot = Slot(self, CLOSE)
        self._answers.append(slot)
        slot.fill(self._server.refuse(error))

    # --- answers --------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes the answers that are there, as far as none is missing before them.

        Of several requests under way more may be answered at this moment: theirs leave in one write.
        """
        if self._gathers:
            return
        answers = self._answers
        if len(answers) > 1:
            if not self._flushes:
                self._flushes = True
                self._server.flush_later(self)
        elif self._careful:
            self._settle()
        elif answers and (answer := answers[0].answer) is not None and not self._closing:
            slot = answers.popleft()
            if slot.ending:
                self._write_ending(slot, answer)
            elif answer[9] == _FIVE:
                self._write_answers([answer])
            elif (transport := self._transport) is not None and not transport.is_closing():
                transport.write(answer)

    def flush_now(self) -> None:
        """What `flush` has put off."""
        self._flushes = False
        self._settle()

    def _settle(self) -> None:
        """Does what can be done now: answers, then requests that waited for room, then what is unread."""
        if self._gathers:
            return  # whoever gathers goes on with it
        self._gathers = True
        answers, deferred = self._answers, self._deferred
        while not self._closing:
            if answers and answers[0].answer is not None:
                self._write_ready()
            elif self._crowded():
                break
            elif deferred:
                slot = deferred.popleft()
                slot.request.received = time.perf_counter()
                self._server.start(self._server.handle(slot.request), slot)
            elif self._unread is not None:
                self._read_on(self._unread)
            else:
                break
        self._gathers = False
        if self._closing:
            return
        if not answers and self._last:
            self.close()
            return
        if not answers and self._owes_continue:
            self._owes_continue = False
            self._write(_CONTINUE)
        if not self._reading and not self._resting and not self._crowded():
            self._go_on_reading()
        self._careful = bool(
            answers
            or self._held
            or self._last
            or self._owes_continue
            or self._resting
            or self._stuck
            or self._server.draining
            or self._server.full
        )

    def _write_ready(self) -> None:
        """Writes, in one go, the answers that come next and are there, up to one that ends the connection."""
        server, answers = self._server, self._answers
        ready: list[bytes] = []
        while answers and (answer := answers[0].answer) is not None:
            slot = answers.popleft()
            if isinstance(slot, CarefulSlot):
                server.held -= slot.held
            if server.draining and not answers:
                slot.ending = CLOSE
            if slot.ending:
                self._write_answers(ready)
                self._write_ending(slot, answer)
                return
            ready.append(answer)
        self._write_answers(ready)

    def go_on(self) -> None:
        """Reads on after a refusal."""
        self._resting = False
        self._settle()

    def _write_ending(self, slot: Slot, answer: bytes) -> None:
        """Writes an answer that says what becomes of the connection, and has it become so."""
        self._write(with_line(slot.ending, answer))
        if slot.ending != KEEP_ALIVE:
            if self._refused is not None:
                self._close_gently()
            else:
                self.close()

    # --- reading and closing --------------------------------------------------------------------------------

    def _read_on(self, view: memoryview) -> None:
        self._unread = None
        self._server.held -= len(view)
        self._held -= len(view)
        self._reading = True  # as far as `_feed_slices` is concerned
        self._feed_slices(view)
        self._reading = False

    def _go_on_reading(self) -> None:
        if self.began:
            self.began = time.perf_counter()  # nobody could go on sending meanwhile
        super()._go_on_reading()

    def _begin_closing(self) -> None:
        if not self._closing:
            self._deaf = True
            self._let_go()
            super()._begin_closing()

    def _let_go(self) -> None:
        """Drops what is held of what has not begun."""
        self._server.held -= self._held
        self._held = 0
        self.began = 0.0
        self._body = b""
        self._unread = None

    def _give_up(self) -> None:
        """Nobody waits for the answers any more."""
        for slot in self._answers:
            if slot.task is not None:
                slot.task.cancel()
            if isinstance(slot, CarefulSlot):
                self._server.held -= slot.held
        self._answers.clear()
        self._deferred.clear()
