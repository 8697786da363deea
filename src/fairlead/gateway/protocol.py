"""HTTP/1.1 for the data plane: a thin asyncio protocol over llhttp (by httptools).

llhttp refuses what is malformed; what it lets through and we do not want (several hosts, other transfer
codings, upgrades, absolute targets, any size) is refused here. Requests are walked by `serving/turns.py`, and
pipelined answers leave in the order of their requests.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

import httptools

from fairlead.errors import FairleadError, MalformedRequest, PayloadTooLarge
from fairlead.serving.turns import Turns

__all__ = ["HttpServer", "Limits", "Request", "response"]

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MAX_PIPELINED = 32
_LINGER_SECONDS = 1.0
_HOLD_SECONDS = 0.02
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_UNAVAILABLE = b"HTTP/1.1 503"


class Limits:
    """What one connection may cost."""

    __slots__ = ("body_bytes", "connections", "header_bytes", "idle_seconds")

    def __init__(self, *, body_bytes: int, header_bytes: int, connections: int, idle_seconds: float) -> None:
        self.body_bytes = body_bytes
        self.header_bytes = header_bytes
        self.connections = connections
        self.idle_seconds = idle_seconds


class Request:
    """A whole request: header names in lower case, the body in one piece, and when it was read.

    It arrived after `since`, when its connection was read before.
    """

    __slots__ = ("body", "headers", "method", "path", "received", "since")

    def __init__(
        self, method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes, since: float = 0.0
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.received = time.perf_counter()
        self.since = since

    def header(self, name: bytes) -> str | None:
        """A header's value, None when it is absent or empty."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else None


Handler = Callable[[Request], Coroutine[Any, Any, bytes]]
Refusal = Callable[[FairleadError], bytes]


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def __call__(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._line


_date = _Date()


def response(
    status: int, body: bytes, headers: bytes = b"", content_type: bytes = b"application/json"
) -> bytes:
    """The bytes of a response; `headers` are whole lines that end in CRLF."""
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        _STATUS_LINES[status], _date(), content_type, len(body), headers, body,
    )  # fmt: skip


class HttpServer:
    """All connections of one gateway worker: makes their protocols, closes idle ones, and drains."""

    def __init__(self, handle: Handler, refuse: Refusal, limits: Limits, turns: Turns) -> None:
        self.handle = handle
        self.start = turns.start
        self.refuse = refuse
        self.limits = limits
        self.draining = False
        self.connections: set[HttpConnection] = set()
        self._held: list[HttpConnection] = []

    def hold(self, connection: HttpConnection) -> None:
        """Reads on from that connection a moment later."""
        if not self._held:
            asyncio.get_running_loop().call_later(_HOLD_SECONDS, self._release)
        self._held.append(connection)

    def _release(self) -> None:
        held, self._held = self._held, []
        for connection in held:
            connection.release()

    def __call__(self) -> HttpConnection:
        return HttpConnection(self)

    async def sweep(self) -> None:
        """Closes, once a second, connections that have been silent too long; runs until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            eldest = time.perf_counter() - self.limits.idle_seconds
            for connection in list(self.connections):
                if connection.overdue(eldest):
                    connection.close()

    async def drain(self, seconds: float) -> int:
        """Lets answers under way leave and closes every connection; returns how many had to be cut."""
        self.draining = True
        until = time.monotonic() + seconds
        while True:
            for connection in list(self.connections):
                if not connection.busy:
                    connection.close()
            if not self.connections or time.monotonic() > until:
                break
            await asyncio.sleep(0.01)
        cut = list(self.connections)
        for connection in cut:
            connection.abort()
        return len(cut)


class _Slot:
    """An answer's place among those of its connection (a `Sink`)."""

    __slots__ = ("answer", "close", "connection", "task")

    def __init__(self, connection: HttpConnection, close: bool) -> None:
        self.connection = connection
        self.close = close
        self.answer: bytes | None = None
        self.task: asyncio.Task[bytes] | None = None

    def fill(self, answer: bytes) -> None:
        """Takes the answer, which leaves once those before it have."""
        self.answer = answer
        self.connection.flush()


class HttpConnection(asyncio.Protocol):
    """One connection: parses requests, runs the handler, writes answers in order."""

    __slots__ = (
        "_answers", "_body", "_body_bytes", "_closing", "_feed", "_head_bytes", "_headers", "_held",
        "_host_seen", "_keep_alive", "_method", "_parser", "_paused", "_read_before", "_refused", "_server",
        "_transport", "_url", "began",
        "silent_since",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._answers: deque[_Slot] = deque()
        self._closing = False
        self._paused = self._held = False
        self._refused: FairleadError | None = None
        self._keep_alive = True
        self.began = 0.0  # when the request that is arriving began; 0 between requests
        self.silent_since = self._read_before = time.perf_counter()

    # --- the connection -------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return bool(self._answers)

    def overdue(self, eldest: float) -> bool:
        """Whether the caller has been silent, or busy sending one request, since before `eldest`."""
        return not self._answers and (self.silent_since < eldest or 0 < self.began < eldest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport offers the interface without inheriting it.
        self._transport = cast("asyncio.Transport", transport)
        if len(self._server.connections) >= self._server.limits.connections:
            self._transport.abort()
            return
        self._server.connections.add(self)
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._closing = True
        for slot in self._answers:
            if slot.task is not None:
                slot.task.cancel()
        self._answers.clear()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return  # refused already: what still comes is thrown away
        self._read_before = self.silent_since
        self.silent_since = time.perf_counter()
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            self._refuse(MalformedRequest("Upgrades are not supported.", remedy="Speak HTTP/1.1."))
        except httptools.HttpParserError as error:
            self._refuse(self._refused or MalformedRequest(f"The request is not valid HTTP: {error}."))
        else:
            if self._refused is not None:
                self._refuse(self._refused)

    def eof_received(self) -> bool:
        # A caller that has closed its half may still wait for its answers.
        return bool(self._answers) and not self._closing

    def pause_writing(self) -> None:
        """The caller reads slowly: stop reading from it until it has taken its answers."""
        self._pause()

    def resume_writing(self) -> None:
        """The caller has caught up."""
        self._resume()

    def close(self) -> None:
        """Closes once what was written has left."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- parser callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.began = self.silent_since
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._host_seen = 0
        self._head_bytes = 0
        self._body: bytes | list[bytes] = b""
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url
        self._head_bytes += len(url)
        if self._head_bytes > self._server.limits.header_bytes:
            self._stop(_too_large("request head", self._server.limits.header_bytes))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._server.limits.header_bytes:
            self._stop(_too_large("request head", self._server.limits.header_bytes))
        name = name.lower()
        if name == b"host":
            self._host_seen += 1
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._method = parser.get_method()
        self._keep_alive = parser.should_keep_alive()
        version = parser.get_http_version()
        headers = self._headers
        if version not in ("1.1", "1.0"):
            self._stop(MalformedRequest(f"HTTP/{version} is not spoken here.", remedy="Speak HTTP/1.1."))
        if self._method not in _METHODS or parser.should_upgrade():
            self._stop(MalformedRequest("That method, or an upgrade, is not supported."))
        if self._host_seen != 1 and (version == "1.1" or self._host_seen):
            self._stop(MalformedRequest("A request has exactly one Host header."))
        if not self._url.startswith(b"/"):
            self._stop(MalformedRequest("The target is not a path.", remedy="Send a path from '/'."))
        coding = headers.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or version == "1.0"):
            self._stop(MalformedRequest("That transfer coding is not supported.", remedy="Use chunked."))
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._server.limits.body_bytes:
            self._stop(_too_large("body", self._server.limits.body_bytes))
        if headers.get(b"expect", b"").lower() == b"100-continue" and not self._answers:
            self._write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._server.limits.body_bytes:
            self._stop(_too_large("body", self._server.limits.body_bytes))
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytes):
            self._body = [self._body, body]
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self.began = 0.0
        if self._closing or self._refused is not None:
            return
        body = self._body if isinstance(self._body, bytes) else b"".join(self._body)
        path = self._url.partition(b"?")[0]
        request = Request(self._method, path, self._headers, body, self._read_before)
        slot = _Slot(self, not self._keep_alive)
        self._answers.append(slot)
        self._server.start(self._server.handle(request), slot)
        if len(self._answers) >= _MAX_PIPELINED:
            self._pause()

    # --- answers --------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Writes the answers that are there, as far as none is missing before them."""
        answers = self._answers
        while answers and not self._closing and answers[0].answer is not None:
            slot = answers.popleft()
            self._answer(slot.answer, slot.close)
        if self._paused and not self._held and not self._closing and len(answers) < _MAX_PIPELINED:
            self._resume()

    def _answer(self, answer: bytes | None, close: bool) -> None:
        assert answer is not None
        if close or self._server.draining:
            head, _, rest = answer.partition(b"\r\n")
            self._write(b"%b\r\nconnection: close\r\n%b" % (head, rest))
            if self._refused is not None:
                self._close_gently()
            else:
                self.close()
        else:
            self._write(answer)
            if answer.startswith(_UNAVAILABLE) and not self._held:
                # A caller who asks on at once must cost less than one who heeds Retry-After: what he sends
                # meanwhile is read in one go.
                self._held = True
                self._pause()
                self._server.hold(self)

    def release(self) -> None:
        """Reads on after a refusal."""
        self._held = False
        if not self._closing:
            self.flush()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _stop(self, error: FairleadError) -> None:
        """Refuses the request from within a parser callback."""
        if self._refused is None:
            self._refused = error
        raise error

    def _refuse(self, error: FairleadError) -> None:
        """Answers an error and closes: after a broken request nothing on this connection can be trusted."""
        self._refused = error
        slot = _Slot(self, True)
        self._answers.append(slot)
        slot.fill(self._server.refuse(error))

    def _close_gently(self) -> None:
        """Closes our half and reads on for a moment.

        A caller who is still sending would otherwise see a reset instead of the answer.
        """
        self._closing = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if not transport.can_write_eof():
            transport.close()
            return
        transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, transport.close)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()


def _too_large(what: str, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"The {what} is larger than {limit} bytes.",
        remedy="Send less, or raise the server's limit.",
        limit=limit,
    )
