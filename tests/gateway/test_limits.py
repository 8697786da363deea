"""What callers may cost: bytes held, time, connections; and what the kernel is told."""

import asyncio
import socket
import time

import pytest

from fairlead.gateway.limits import watch_for_the_vanished
from fairlead.gateway.protocol import Request, response
from tests.gateway.nasty_requests import CHUNKED, head
from tests.gateway.plain_server import Running, exchange, get, limits, post, read_all, read_some
from tests.waiting import wait_until

MIB = 2**20


@pytest.fixture
def serve():
    """Starts servers with limits of the test's own."""
    started = []

    def start(handle=None, **changes):
        bounds = limits(**{"idle_seconds": 30.0, **changes})
        server = Running(bounds) if handle is None else Running(bounds, handle)
        started.append(server)
        return server

    yield start
    for server in started:
        server.recovers()
        server.stop()


# --- bytes --------------------------------------------------------------------------------------------------


def test_a_body_for_which_there_is_no_room_is_refused_before_it_is_read(serve):
    server = serve(body_bytes=MIB, buffered_bytes=100_000)
    with server.connect() as caller:
        (answer,) = exchange(caller, head(b"Content-Length: 100001", b"Expect: 100-continue"), end=False)
    assert answer.status == 503
    assert answer.headers["connection"] == "close"
    assert b'"code":"overloaded"' in answer.body


def test_what_all_connections_hold_together_is_bounded(serve):
    server = serve(body_bytes=MIB, buffered_bytes=100_000)
    callers = [server.connect() for _ in range(4)]
    for caller in callers[:3]:
        caller.sendall(head(b"Content-Length: 35000") + b"x" * 30_000)
    wait_until(lambda: server.server.held > 80_000, 5)
    # One that says how much will come is refused at once; one that does not, when it has come.
    (answer,) = exchange(callers[3], head(b"Content-Length: 50000"), end=False)
    assert answer.status == 503
    with server.connect() as caller:
        (answer,) = exchange(caller, head(CHUNKED), b"7530\r\n", b"x" * 30_000, end=False)
        assert answer.status == 503
    # Small requests, whole in one piece, are served all the same.
    with server.connect() as caller:
        assert exchange(caller, post("/a", b"x"))[0].status == 200
    # Who goes away makes room.
    for caller in callers:
        caller.close()
    wait_until(server.rested, 5)
    assert [a.status for a in server.exchange(head(b"Content-Length: 50000"), b"x" * 50_000)] == [200]


def test_a_body_counts_until_it_is_answered(serve):
    ready = asyncio.Event()

    async def wait(request: Request) -> bytes:
        if request.path == b"/a":
            await ready.wait()
        return response(200, b"%d" % len(request.body))

    server = serve(wait, body_bytes=MIB)
    with server.connect() as caller:
        for _ in range(3):
            caller.sendall(head(b"Content-Length: 400000"))
            caller.sendall(b"x" * 400_000)
        wait_until(lambda: server.server.held > 1_100_000, 5)
        server.loop.call_soon_threadsafe(ready.set)
        assert [answer.body for answer in read_some(caller, 3)] == [b"400000"] * 3
        wait_until(lambda: server.server.held == 0, 5)


def test_many_large_bodies_one_after_the_other_are_all_taken(serve):
    server = serve(body_bytes=MIB, buffered_bytes=2 * MIB)
    body = bytes(range(256)) * 4000
    with server.connect() as caller:
        for number in range(8):
            caller.sendall(post(f"/{number}", body))
            (answer,) = read_some(caller, 1)
            assert answer.body == b"/%d " % number + body


def test_a_body_in_tiny_chunks_is_whole(serve):
    server = serve(body_bytes=MIB)
    data = head(CHUNKED) + b"2\r\nab\r\n" * 50_000 + b"0\r\n\r\n"
    (answer,) = server.exchange(data)
    assert answer.body == b"/a " + b"ab" * 50_000


def test_a_chunk_extension_without_an_end_is_refused(serve):
    server = serve(body_bytes=MIB)
    with server.connect() as caller:
        pieces = [head(CHUNKED) + b"3;a="] + [b"b" * 10_000] * 1000
        (answer,) = exchange(caller, *pieces, end=False)
    assert answer.status == 400


# --- time ---------------------------------------------------------------------------------------------------


def drip(caller: socket.socket, byte: bytes = b"x") -> list:
    """Sends a byte now and then until the server answers or closes."""
    caller.settimeout(0.05)
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            caller.send(byte)
            if not caller.recv(1, socket.MSG_PEEK):
                return []
            break
        except TimeoutError:
            continue
        except OSError:
            return []
    caller.settimeout(5)
    return read_all(caller)


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\nX: ", b"GET /", head(b"Content-Length: 1000"), head(CHUNKED) + b"1;"],
    ids=["head", "target", "body", "chunk extension"],
)  # fmt: skip
def test_a_request_that_drips_in_is_refused_with_408(serve, start):
    server = serve(request_seconds=0.3)
    with server.connect() as caller:
        caller.sendall(start)
        answers = drip(caller)
    assert [answer.status for answer in answers] == [408]
    assert b'"code":"request_timeout"' in answers[0].body


def test_a_second_request_that_drips_in_is_refused_after_the_answer_to_the_first(serve):
    server = serve(request_seconds=0.3)
    with server.connect() as caller:
        caller.sendall(get("/slow") + b"GET / HT")
        assert [answer.status for answer in read_all(caller)] == [200, 408]


def test_empty_lines_do_not_keep_a_connection_open(serve):
    server = serve(idle_seconds=0.3)
    with server.connect() as caller:
        assert drip(caller, b"\r\n") == []


def test_a_caller_that_waits_for_its_answer_is_not_idle(serve):
    server = serve(idle_seconds=0.1, request_seconds=0.1)
    with server.connect() as caller:
        caller.sendall(get("/slower"))
        assert [answer.status for answer in read_some(caller, 1)] == [200]


# --- callers that do not read -------------------------------------------------------------------------------


def test_of_a_caller_that_does_not_read_no_more_requests_are_begun(serve):
    began = 0

    async def count(request: Request) -> bytes:
        nonlocal began
        began += 1
        return response(200, b"x" * 100_000)

    server = serve(count)
    with server.connect(receive_bytes=4096) as caller:
        number = 400
        caller.sendall(get("/") * number)
        (connection,) = wait_until(lambda: list(server.server.connections), 5)
        wait_until(lambda: connection._stuck, 5)
        # What the kernel takes, what the transport likes to hold, and one answer: not 40 MB.
        assert began < number / 2
        assert connection._unsent() < 400_000
        assert len(read_some(caller, number)) == number
    assert began == number


def test_answers_that_come_while_a_caller_does_not_read_are_few(serve):
    began = 0

    async def wait(request: Request) -> bytes:
        nonlocal began
        began += 1
        await asyncio.sleep(0.05)
        return response(200, b"x" * 100_000)

    server = serve(wait)
    with server.connect(receive_bytes=4096) as caller:
        caller.sendall(get("/") * 300)
        (connection,) = wait_until(lambda: list(server.server.connections), 5)
        wait_until(lambda: connection._stuck and all(a.answer or a.task is None for a in connection._answers))
        assert began < 200
        assert connection._unsent() < 35 * 100_100
        assert len(read_some(caller, 300)) == 300


@pytest.mark.parametrize("closing", ["", "Connection: close"])
def test_a_caller_that_takes_nothing_of_its_answer_is_cut_off(serve, closing):
    server = serve(write_seconds=0.3)
    with server.connect(receive_bytes=4096) as caller:
        caller.sendall(get("/large", *([closing] if closing else [])))
        wait_until(lambda: server.server.connections, 5)
        wait_until(lambda: not server.server.connections, 5)


def test_a_caller_that_reads_slowly_but_steadily_is_not_cut_off(serve):
    server = serve(write_seconds=0.2)
    with server.connect(receive_bytes=65536) as caller:
        caller.sendall(get("/large", "Connection: close"))
        got = 0
        while piece := caller.recv(50_000):
            got += len(piece)
            time.sleep(0.005)  # the caller's own slowness
    assert got > 5_000_000


# --- connections --------------------------------------------------------------------------------------------


def test_a_newcomer_takes_the_place_of_the_connection_that_is_idle_for_longest(serve):
    server = serve(connections=5)
    callers = []
    for number in range(5):
        callers.append(server.connect())
        callers[-1].sendall(get(f"/{number}"))
        read_some(callers[-1], 1)
    callers[0].sendall(get("/again"))
    read_some(callers[0], 1)
    with server.connect() as newcomer:
        assert exchange(newcomer, get("/new"))[0].body == b"/new "
    gone = [caller for caller in callers if caller.fileno() >= 0 and closed(caller)]
    assert gone == [callers[1]]
    for caller in callers:
        caller.close()


def closed(caller: socket.socket) -> bool:
    caller.settimeout(0.1)
    try:
        return caller.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_when_every_connection_has_a_request_under_way_a_newcomer_is_told_so(serve):
    server = serve(connections=4)
    waiting = [server.connect() for _ in range(2)]
    arriving = [server.connect() for _ in range(2)]
    for caller in waiting:
        caller.sendall(get("/slower", "Connection: close"))
    for caller in arriving:
        caller.sendall(b"GET /")
    wait_until(lambda: all(not each.idle for each in server.server.connections), 5)
    wait_until(lambda: len(server.server.connections) == 4, 5)
    with server.connect() as newcomer:
        (answer,) = exchange(newcomer, get("/new"), end=False)
    assert answer.status == 503
    assert answer.headers["connection"] == "close"
    for caller in waiting:
        assert [answer.body for answer in read_all(caller)] == [b"/slower "]
    for caller in arriving:
        assert exchange(caller, b"a HTTP/1.1\r\nHost: h\r\n\r\n")[0].body == b"/a "
        caller.close()


def test_a_flood_of_newcomers_costs_neither_memory_nor_those_that_are_served(serve):
    server = serve(connections=10)
    with server.connect() as caller:
        caller.sendall(get("/slower"))
        wait_until(lambda: any(each.busy for each in server.server.connections), 5)
        flood = [server.connect() for _ in range(300)]
        assert read_some(caller, 1)[0].body == b"/slower "
        assert len(server.server.connections) <= 10
        for each in flood:
            each.close()


# --- the kernel ---------------------------------------------------------------------------------------------


def test_accepted_sockets_are_watched_by_the_kernel():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        watch_for_the_vanished(listener, limits(write_seconds=12.5))
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                found = [
                    accepted.getsockopt(level, option)
                    for level, option in (
                        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
                    )
                ]
    assert found == [1, 30, 12_500, 1]
