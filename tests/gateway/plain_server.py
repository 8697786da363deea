"""The connection layer by itself, in a thread, with an app that echoes; and a caller that speaks bytes."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import httptools
import uvloop

from fairlead.errors import FairleadError
from fairlead.gateway.connection import HttpConnection
from fairlead.gateway.messages import Gatekeeper
from fairlead.gateway.protocol import HttpServer, Limits, Request, response
from fairlead.gateway.statuses import problem, status_of
from fairlead.serving.envelope import encode
from fairlead.serving.turns import Turns
from tests.waiting import wait_until

Handle = Callable[[Request], Coroutine[Any, Any, bytes]]


async def echo(request: Request) -> bytes:
    """Answers path and body; `/slow` and `/slower` wait first."""
    if request.path == b"/slow":
        await asyncio.sleep(0.1)
    if request.path == b"/slower":
        await asyncio.sleep(0.3)
    if request.path == b"/large":
        return response(200, b"x" * 5_000_000)
    return response(200, request.path + b" " + request.body)


def refuse(error: FairleadError) -> bytes:
    """A problem document, as the gateway's."""
    return response(status_of(error), encode(problem(error)))


def limits(**changes: Any) -> Limits:
    """Small limits, with changes."""
    return Limits(
        **{"body_bytes": 2_000, "header_bytes": 1_000, "connections": 20, "idle_seconds": 0.5, **changes}
    )


class Running:
    """A server in a thread of its own."""

    def __init__(self, bounds: Limits, handle: Handle = echo, turn_away: Gatekeeper = lambda _: None) -> None:
        self.limits = bounds
        self.handle = handle
        self.turn_away = turn_away
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self.thread.start()
        assert self.started.wait(5)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        turns = Turns(lambda: None, lambda: None)
        self.server = HttpServer(self.handle, refuse, self.limits, turns, self.turn_away)
        self.listening = await self.loop.create_server(self.server, "127.0.0.1", 0, backlog=1024)
        self.port = self.listening.sockets[0].getsockname()[1]
        self.ended = asyncio.Event()
        sweeping = self.loop.create_task(self.server.sweep())
        self.started.set()
        await self.ended.wait()
        sweeping.cancel()
        self.listening.close()
        await self.server.drain(0.1)

    def connect(self, receive_bytes: int | None = None) -> socket.socket:
        """A caller; `receive_bytes` is the size of its receive buffer."""
        caller = socket.socket()
        if receive_bytes is not None:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        caller.settimeout(5)
        caller.connect(("127.0.0.1", self.port))
        return caller

    def say(self, data: bytes) -> bytes:
        """Everything the server answers to the bytes until it closes or falls silent."""
        with self.connect() as caller:
            caller.sendall(data)
            return hear(caller)

    def exchange(self, *pieces: bytes) -> list[Answer]:
        """The answers to the bytes, of which no more will come, until the server closes."""
        with self.connect() as caller:
            return exchange(caller, *pieces)

    def rested(self) -> bool:
        """Whether nothing is left of any caller."""
        return not self.server.connections and self.server.held == 0

    def recovers(self) -> None:
        """Returns when nothing is left of the callers before and an ordinary one is served."""
        wait_until(self.rested, 5)
        with self.connect() as caller:
            (answer,) = exchange(caller, post("/fine", b"ok", "Connection: close"), end=False)
        assert answer.status == 200
        assert self.handle is not echo or answer.body == b"/fine ok"
        wait_until(self.rested, 5)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(5)


def connections_in_memory() -> int:
    """Connections that anything in this process still refers to."""
    gc.collect()
    return sum(type(each) is HttpConnection for each in gc.get_objects())


class Answer:
    """A response as a caller reads it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:60]!r}>"


class Answers:
    """Parses responses strictly; what is no response is an error."""

    def __init__(self) -> None:
        self.found: list[Answer] = []
        self.whole = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.found.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found[-1].headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.found[-1].status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.found[-1].body += body

    def on_message_complete(self) -> None:
        if self.found[-1].status == 100:
            self.found.pop()
        else:
            self.whole += 1


def exchange(caller: socket.socket, *pieces: bytes, end: bool = True) -> list[Answer]:
    """Sends the pieces one by one and reads answers until the server closes; `end` closes our half before."""
    try:
        for piece in pieces:
            caller.sendall(piece)
        if end:
            caller.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the server has closed already
    return read_all(caller)


def read_all(caller: socket.socket) -> list[Answer]:
    """Whole answers until the server closes."""
    answers = Answers()
    try:
        while data := caller.recv(65536):
            answers.feed(data)
    except ConnectionResetError:
        pass
    assert answers.whole == len(answers.found), "the server broke off within an answer"
    return answers.found


def read_some(caller: socket.socket, number: int) -> list[Answer]:
    """So many whole answers."""
    answers = Answers()
    while answers.whole < number:
        data = caller.recv(65536)
        assert data, f"the server closed after {answers.whole} of {number} answers"
        answers.feed(data)
    return answers.found


def hear(caller: socket.socket, quiet: float = 0.25) -> bytes:
    """What comes until the server closes or is quiet for so long."""
    caller.settimeout(quiet)
    heard = b""
    try:
        while piece := caller.recv(65536):
            heard += piece
    except TimeoutError:
        pass
    except ConnectionResetError:
        heard += b"<reset>"
    return heard


def get(path: str = "/", *headers: str, version: str = "1.1", host: str = "h") -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/{version}", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A POST request with a length."""
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def chunked(path: str, chunks: Iterable[bytes], trailers: str = "") -> bytes:
    """A POST request in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + body + b"0\r\n" + trailers.encode() + b"\r\n"
