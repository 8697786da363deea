"""A full server refuses without beginning a walk; nobody but who was refused may notice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.gateway.protocol import Request, response
from tests.gateway.plain_server import Answer, Running, echo, exchange, limits, post, read_some

FULL = b"/full"
walked: list[bytes] = []


async def handle(request: Request) -> bytes:
    """Echoes; what is for `/full` finds no room, and says so in a walk."""
    walked.append(request.path)
    if request.path == FULL:
        return response(503, b"walked " + request.body, b"retry-after: 1\r\n")
    return await echo(request)


def turn_away(request: Request) -> bytes | None:
    """The same answer to the same requests, without a walk."""
    if request.path != FULL:
        return None
    return response(503, b"turned away " + request.body, b"retry-after: 1\r\n")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    server = Running(limits(), handle, turn_away)
    yield server
    server.stop()


def told(answer: Answer) -> tuple[int, bytes]:
    """Status and the part of the body that does not say who refused."""
    return answer.status, answer.body.removeprefix(b"walked ").removeprefix(b"turned away ")


def expected(path: str, body: bytes) -> tuple[int, bytes]:
    return (503, body) if path == "/full" else (200, f"{path} ".encode() + body)


def test_after_the_first_refusal_no_walk_is_begun_for_what_is_refused(running: Running) -> None:
    with running.connect() as caller:
        caller.sendall(post("/full", b"0"))
        (first,) = read_some(caller, 1)
        walked.clear()
        caller.sendall(b"".join(post("/full", b"%d" % number) for number in range(1, 20)))
        later = read_some(caller, 19)
    assert told(first) == (503, b"0")
    assert [answer.body for answer in later] == [b"turned away %d" % number for number in range(1, 20)]
    assert all(answer.headers["retry-after"] == "1" for answer in later)
    assert not walked


def test_a_full_server_still_answers_what_it_has_room_for(running: Running) -> None:
    with running.connect() as crowd, running.connect() as caller:
        crowd.sendall(post("/full", b"") * 50)
        caller.sendall(post("/fine", b"me"))
        assert [told(answer) for answer in read_some(caller, 1)] == [(200, b"/fine me")]
        assert len(read_some(crowd, 50)) == 50


def test_who_is_refused_with_his_last_request_is_told_so_before_the_connection_ends(running: Running) -> None:
    with running.connect() as caller:
        caller.sendall(post("/full", b"1"))
        read_some(caller, 1)
        answers = exchange(caller, post("/full", b"2", "Connection: close"), end=False)
    assert [told(answer) for answer in answers] == [(503, b"2")]
    assert answers[0].headers["connection"] == "close"


def test_a_server_that_is_no_longer_full_begins_walks_again(running: Running) -> None:
    with running.connect() as caller:
        caller.sendall(post("/full", b"1"))
        read_some(caller, 1)
    running.recovers()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(st.sampled_from(["/full", "/fine", "/slow"]), st.binary(max_size=300)),
        min_size=1,
        max_size=45,
    ).filter(lambda said: sum(path == "/slow" for path, _ in said) < 3),
    cuts=st.lists(st.integers(0, 4_000), max_size=6),
)
def test_answers_keep_their_order_whoever_refuses_and_however_the_bytes_come(
    running: Running, said: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    data = b"".join(post(path, body) for path, body in said)
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    with running.connect() as caller:
        for start, end in pairwise(edges):
            caller.sendall(data[start:end])
        answers = read_some(caller, len(said))
    assert [told(answer) for answer in answers] == [expected(path, body) for path, body in said]
    running.recovers()
