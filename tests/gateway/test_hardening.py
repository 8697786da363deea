"""Malformed, smuggled, truncated, split and pipelined requests: no crash, no hang, no wrong answer."""

import random
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.nasty_requests import REFUSED, SMUGGLED, TAKEN, TOO_LARGE, head
from tests.gateway.plain_server import (
    Answers,
    Running,
    chunked,
    connections_in_memory,
    exchange,
    get,
    limits,
    post,
    read_all,
    read_some,
)
from tests.waiting import wait_until

LIMITS = limits(idle_seconds=5.0, connections=64)
HOST = b"Host: h\r\n"


@pytest.fixture(scope="module")
def running():
    server = Running(LIMITS)
    yield server
    server.stop()
    wait_until(lambda: connections_in_memory() == 0, 5)


@pytest.fixture(autouse=True)
def undisturbed(running):
    yield
    running.recovers()


def test_a_header_without_an_end_is_refused_before_it_is_whole(running):
    with running.connect() as caller:
        pieces = [b"GET / HTTP/1.1\r\nHost: h\r\nX: "] + [b"a" * 500] * 100
        assert [answer.status for answer in exchange(caller, *pieces, end=False)] == [413]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trusted_is_refused_and_nothing_behind_it_answered(running, name):
    with running.connect() as caller:
        answers = exchange(caller, REFUSED[name] + SMUGGLED, end=False)
    assert [answer.status for answer in answers] == [400]
    assert answers[0].headers["connection"] == "close"
    assert answers[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_with_413(running, name):
    with running.connect() as caller:
        answers = exchange(caller, TOO_LARGE[name], end=False)
    assert [answer.status for answer in answers] == [413]
    assert answers[0].headers["connection"] == "close"


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_allowed_is_answered_and_what_follows_as_well(running, name):
    data, body = TAKEN[name]
    answers = running.exchange(data + post("/next", b"1", "Connection: close"))
    assert [(answer.status, answer.body) for answer in answers] == [(200, body), (200, b"/next 1")]


# --- cut, split, pipelined ----------------------------------------------------------------------------------

WHOLE = [
    post("/a", b"hello", "X-Unit: u", "Expect: 100-continue"),
    chunked("/a", [b"hel", b"lo"], "X: y\r\n"),
    b"GET /a HTTP/1.0\r\n\r\n",
]


@pytest.mark.parametrize("whole", WHOLE, ids=["with a length", "in chunks", "HTTP/1.0"])
def test_a_request_cut_off_at_any_byte_is_not_answered_and_its_connection_closed(running, whole):
    for cut in range(len(whole)):
        assert running.exchange(whole[:cut]) == [], cut


@pytest.mark.parametrize("whole", WHOLE, ids=["with a length", "in chunks", "HTTP/1.0"])
def test_a_request_split_at_any_byte_is_whole(running, whole):
    body = b"/a hello" if b"hel" in whole else b"/a "
    for cut in range(1, len(whole)):
        (answer,) = running.exchange(whole[:cut], whole[cut:])
        assert (answer.status, answer.body) == (200, body), cut


def test_nothing_behind_a_bad_request_is_answered_however_it_arrives(running):
    for bad in (REFUSED["no host"], REFUSED["coding, then length"], REFUSED["NUL in a header"]):
        data = post("/good", b"1") + bad + SMUGGLED * 3
        for cut in range(1, len(data), 7):
            with running.connect() as caller:
                answers = exchange(caller, data[:cut], data[cut:], end=False)
            assert [answer.status for answer in answers] == [200, 400], cut


def test_a_bad_request_behind_a_slow_one_is_refused_in_its_turn(running):
    with running.connect() as caller:
        caller.sendall(get("/slow") + get("/now") + REFUSED["two hosts"] + SMUGGLED)
        answers = read_all(caller)
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert [answer.body for answer in answers[:2]] == [b"/slow ", b"/now "]


def test_nothing_behind_a_request_that_closes_is_answered(running):
    with running.connect() as caller:
        answers = exchange(caller, get("/a", "Connection: close") + SMUGGLED, end=False)
    assert [answer.body for answer in answers] == [b"/a "]


def test_what_is_sent_while_a_refusal_waits_for_its_turn_is_thrown_away(running):
    with running.connect() as caller:
        caller.sendall(get("/slow") + REFUSED["two hosts"])
        answers = exchange(caller, *[b"\0garbage" * 100] * 50, end=False)
    assert [answer.status for answer in answers] == [200, 400]


def test_thousands_of_tiny_requests_at_once_are_all_answered_in_their_order(running):
    number = 5_000
    with running.connect() as caller:
        sending = threading.Thread(
            target=lambda: caller.sendall(b"".join(get(f"/{n}") for n in range(number)))
        )
        sending.start()
        answers = read_some(caller, number)
        sending.join()
    assert [answer.body for answer in answers] == [b"/%d " % n for n in range(number)]


def test_slow_and_quick_requests_at_once_are_answered_in_their_order(running):
    paths = ["/slow" if n % 10 == 0 else f"/{n}" for n in range(300)]
    with running.connect() as caller:
        caller.sendall(b"".join(map(get, paths)))
        answers = read_some(caller, len(paths))
    assert [answer.body.decode() for answer in answers] == [f"{path} " for path in paths]


def test_http_1_0_closes_after_its_answer_unless_it_asks_to_stay(running):
    with running.connect() as caller:
        (answer,) = exchange(caller, b"GET /a HTTP/1.0\r\n\r\n", end=False)
    assert answer.headers["connection"] == "close"
    with running.connect() as caller:
        caller.sendall(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        (answer,) = read_some(caller, 1)
        assert answer.headers["connection"] == "keep-alive"
        (answer,) = exchange(caller, get("/b", "Connection: close"), end=False)
        assert answer.body == b"/b "


def test_leave_to_send_a_body_comes_after_the_answers_before(running):
    with running.connect() as caller:
        caller.sendall(get("/slow") + head(b"Content-Length: 2", b"Expect: 100-Continue"))
        heard = b""
        while b"100 Continue" not in heard:
            heard += caller.recv(65536)
        assert heard.index(b"200 OK") < heard.index(b"100 Continue")
        caller.sendall(b"ok")
        assert read_some(caller, 1)[0].body == b"/a ok"


def test_many_connections_at_once_each_get_their_answer(running):
    callers = [running.connect() for _ in range(LIMITS.connections)]
    for number, caller in enumerate(callers):
        caller.sendall(post("/a", b"%d" % number, "Connection: close"))
    for number, caller in enumerate(callers):
        assert [answer.body for answer in read_all(caller)] == [b"/a %d" % number]
        caller.close()


# --- anything at all ----------------------------------------------------------------------------------------

ANYTHING = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
WORDS = st.sampled_from(
    [b"GET ", b"POST ", b"/a", b" HTTP/1.1", b"\r\n", b"\n", b"\r", HOST, b"Host", b": ", b"Content-Length: ",
     b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"Expect: 100-continue\r\n", b"\0",
     b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: x\r\n", b"5", b"99999", b"\r\n\r\n",
     get("/b"), post("/c", b"hello")]
)  # fmt: skip


@ANYTHING
@given(st.lists(st.one_of(WORDS, st.binary(max_size=30)), max_size=30).map(b"".join))
def test_whatever_is_sent_gets_answers_and_an_end(running, data):
    for answer in running.exchange(data):
        assert answer.status in (200, 400, 413)


@ANYTHING
@given(st.data())
def test_a_request_with_a_few_bytes_changed_is_answered_or_refused(running, data):
    request = bytearray(data.draw(st.sampled_from([*WHOLE, post("/a", b"x" * 40)])))
    for _ in range(data.draw(st.integers(1, 4))):
        request[data.draw(st.integers(0, len(request) - 1))] = data.draw(st.integers(0, 255))
    answers = running.exchange(bytes(request) + get("/after"))
    assert [a.status for a in answers if a.status not in (200, 400, 413)] == []
    assert sum(a.status != 200 for a in answers) <= 1


def test_a_flood_of_garbage_leaves_nothing_behind(running):
    chance = random.Random(7)
    for _ in range(60):
        with running.connect() as caller:
            caller.settimeout(5)
            exchange(caller, chance.randbytes(chance.randrange(1, 100_000)), end=False)
    answers = Answers()
    answers.feed(running.say(post("/a", b"x")))
    assert [answer.status for answer in answers.found] == [200]
