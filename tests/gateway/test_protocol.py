"""The protocol over real sockets: what it answers, what it refuses, and what it never does."""

import asyncio
import socket
import time

import pytest

from tests.gateway.plain_server import Running, get, hear, limits, post
from tests.waiting import wait_until

LIMITS = limits()


@pytest.fixture(scope="module")
def running():
    server = Running(LIMITS)
    yield server
    server.stop()


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


def test_draining_answers_what_is_under_way_and_closes():
    server = Running(LIMITS)
    with server.connect() as caller:
        caller.sendall(get("/slow"))
        wait_until(lambda: any(c.busy for c in server.server.connections), 5)
        draining = asyncio.run_coroutine_threadsafe(server.server.drain(5), server.loop)
        heard = hear(caller, 1.0)
        assert heard.endswith(b"/slow ")
        assert b"connection: close" in heard
        assert draining.result(5) == 0
    server.stop()
