"""The protocol over real sockets: what it answers, what it refuses, and what it never does."""

import asyncio
import socket
import threading
import time

import pytest
import uvloop

from fairlead.errors import FairleadError
from fairlead.gateway.protocol import HttpServer, Limits, Request, response
from fairlead.gateway.statuses import problem, status_of
from fairlead.serving.envelope import encode
from fairlead.serving.turns import Turns
from tests.waiting import wait_until

LIMITS = Limits(body_bytes=2_000, header_bytes=1_000, connections=20, idle_seconds=0.5)


async def echo(request: Request) -> bytes:
    """Answers the body; `/slow` and `/slower` wait first."""
    if request.path == b"/slow":
        await asyncio.sleep(0.1)
    if request.path == b"/slower":
        await asyncio.sleep(0.3)
    if request.path == b"/large":
        return response(200, b"x" * 5_000_000)
    return response(200, request.path + b" " + request.body)


def refuse(error: FairleadError) -> bytes:
    return response(status_of(error), encode(problem(error)))


class Running:
    def __init__(self) -> None:
        self.started = threading.Event()
        self.thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)
        self.thread.start()
        assert self.started.wait(5)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.server = HttpServer(echo, refuse, LIMITS, Turns(lambda: None, lambda: None))
        self.listening = await self.loop.create_server(self.server, "127.0.0.1", 0)
        self.port = self.listening.sockets[0].getsockname()[1]
        self.ended = asyncio.Event()
        sweeping = self.loop.create_task(self.server.sweep())
        self.started.set()
        await self.ended.wait()
        sweeping.cancel()
        self.listening.close()
        await self.server.drain(0.1)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5)

    def say(self, data: bytes) -> bytes:
        """Everything the server answers to the bytes until it closes or falls silent."""
        with self.connect() as caller:
            caller.sendall(data)
            return hear(caller)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.ended.set)
        self.thread.join(5)


def hear(caller: socket.socket, quiet: float = 0.25) -> bytes:
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


@pytest.fixture(scope="module")
def running():
    server = Running()
    yield server
    server.stop()


def get(path: str = "/", *headers: str, version: str = "1.1", host: str = "h") -> bytes:
    lines = [f"GET {path} HTTP/{version}", f"Host: {host}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def test_a_request_is_answered_with_its_body(running):
    heard = running.say(post("/a", b"hello"))
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert heard.endswith(b"\r\n\r\n/a hello")
    assert b"\r\ndate: " in heard


def test_a_request_that_comes_byte_by_byte_is_whole(running):
    with running.connect() as caller:
        for byte in post("/a", b"hi"):
            caller.send(bytes([byte]))
        assert hear(caller).endswith(b"/a hi")


def test_pipelined_answers_leave_in_the_order_of_their_requests(running):
    with running.connect() as caller:
        caller.sendall(get("/slower") + get("/slow") + get("/now") + post("/last", b"x"))
        heard = hear(caller, 1.0)
    order = [heard.index(path) for path in (b"/slower ", b"/slow ", b"/now ", b"/last x")]
    assert order == sorted(order)
    assert heard.count(b"200 OK") == 4


def test_a_hundred_pipelined_requests_are_all_answered(running):
    with running.connect() as caller:
        caller.sendall(get("/slow") * 3 + get("/now") * 97)
        heard = b""
        until = time.monotonic() + 5
        while heard.count(b"200 OK") < 100 and time.monotonic() < until:
            heard += hear(caller, 0.1)
        assert heard.count(b"200 OK") == 100


def test_a_chunked_body_is_read(running):
    body = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert running.say(head + body).endswith(b"/a abcdefg")


def test_a_caller_who_expects_100_continue_is_told_to_go_on(running):
    with running.connect() as caller:
        caller.sendall(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert hear(caller) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(b"ok")
        assert hear(caller).endswith(b"/a ok")


def test_http_1_0_and_connection_close_are_closed_after_the_answer(running):
    for data in (get("/a", version="1.0"), get("/a", "Connection: close")):
        with running.connect() as caller:
            caller.sendall(data)
            heard = hear(caller, 2.0)
            assert b"connection: close" in heard
            assert caller.recv(1) == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"400"),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nHost: a\n\n\x00", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", b"4"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2001\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7d1\r\n" + b"x" * 2001, b"413"),
        (b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-Y: 123456789\r\n" * 100 + b"\r\n", b"413"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_trusted_is_refused_and_the_connection_closed(running, data, status):
    with running.connect() as caller:
        caller.sendall(data)
        heard = hear(caller, 2.0)
        assert heard.startswith(b"HTTP/1.1 " + status), heard
        assert heard.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in heard


def test_nothing_after_a_broken_request_is_answered(running):
    heard = running.say(b"GET / HTTP/1.1\r\n\r\n" + get("/smuggled"))
    assert b"smuggled" not in heard


def test_a_slow_sender_is_cut_off(running):
    with running.connect() as caller:
        caller.sendall(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
        until = time.monotonic() + 5
        closed = False
        caller.settimeout(0.1)
        while not closed and time.monotonic() < until:
            try:
                caller.send(b"x")
                closed = caller.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
        assert closed


def test_a_silent_connection_is_closed(running):
    with running.connect() as caller:
        caller.settimeout(5)
        assert caller.recv(1) == b""


def test_a_caller_that_goes_away_while_its_answer_is_made_harms_nobody(running):
    for _ in range(5):
        caller = running.connect()
        caller.sendall(get("/slow"))
        caller.close()
    assert running.say(get("/fine")).endswith(b"/fine ")
    wait_until(lambda: len(running.server.connections) == 0, 5)


def test_a_caller_that_has_closed_its_half_still_gets_what_needs_no_waiting(running):
    with running.connect() as caller:
        caller.sendall(get("/a") + get("/b"))
        caller.shutdown(socket.SHUT_WR)
        heard = hear(caller, 2.0)
        assert heard.count(b"200 OK") == 2
        assert heard.endswith(b"/b ")


def test_a_caller_that_reads_slowly_gets_everything(running):
    with running.connect() as caller:
        caller.sendall(get("/large"))
        time.sleep(0.2)
        heard = b""
        while len(heard) < 5_000_000:
            piece = caller.recv(1 << 20)
            assert piece
            heard += piece
        assert heard.endswith(b"x" * 1000)


def test_connections_beyond_the_limit_are_turned_away():
    server = Running()
    try:
        held = [server.connect() for _ in range(LIMITS.connections)]
        wait_until(lambda: len(server.server.connections) == LIMITS.connections, 5)
        with server.connect() as extra:
            assert hear(extra, 1.0) in (b"", b"<reset>")
        for caller in held:
            caller.close()
    finally:
        server.stop()


def test_draining_answers_what_is_under_way_and_closes():
    server = Running()
    with server.connect() as caller:
        caller.sendall(get("/slow"))
        wait_until(lambda: any(c.busy for c in server.server.connections), 5)
        draining = asyncio.run_coroutine_threadsafe(server.server.drain(5), server.loop)
        heard = hear(caller, 1.0)
        assert heard.endswith(b"/slow ")
        assert b"connection: close" in heard
        assert draining.result(5) == 0
    server.stop()
