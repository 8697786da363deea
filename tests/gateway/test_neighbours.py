"""However hostile some callers are, every request of the others gets its own answer."""

import asyncio
import contextlib
import itertools
import json
import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.gateway.protocol import Request, response
from tests.gateway.nasty_requests import REFUSED, TOO_LARGE
from tests.gateway.plain_server import Running, chunked, get, limits, post, read_some
from tests.models import SAMPLE
from tests.waiting import wait_until

BREAKS_OFF = [b"GET /", b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\nabc", b"\r\n", b""]
WORST = [*REFUSED.values(), *TOO_LARGE.values(), *BREAKS_OFF, get("/slow") * 40, post("/a", b"x" * 900) * 40]


class Hostile:
    """Threads that do their worst until the end of the `with`."""

    def __init__(self, port: int, threads: int) -> None:
        self._port = port
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,)) for seed in range(threads)]
        self.did = itertools.count()

    def __enter__(self) -> "Hostile":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._ending.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as one:
                data = chance.choice([*WORST, chance.randbytes(2_000)])
                for piece in split(data, chance.sample(range(len(data) + 1), min(2, len(data)))):
                    one.sendall(piece)
                if chance.random() < 0.3:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                elif chance.random() < 0.5:
                    one.settimeout(0.05)
                    one.recv(1000)
            next(self.did)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends) if start != end]


# --- the connection layer -----------------------------------------------------------------------------------


async def echo(request: Request) -> bytes:
    """The body, at once or after a moment, or after two."""
    for _ in range({b"/now": 0, b"/soon": 1, b"/later": 2}.get(request.path, 0)):
        await asyncio.sleep(0.002)
    return response(200, request.body)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    server = Running(limits(connections=200, idle_seconds=5.0, body_bytes=40_000, request_seconds=2.0), echo)
    with Hostile(server.port, 3) as hostile:
        yield server
        wait_until(lambda: next(hostile.did) > 100)
    server.recovers()
    server.stop()


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[list[bytes], list[bytes]]]:
    """What each of a few callers sends, in pieces, and the bodies that it must get, in order."""
    found = []
    for who in range(draw(st.integers(1, 4))):
        sent, wanted = [], []
        for number in range(draw(st.integers(1, 8))):
            body = b"%d-%d." % (who, number) + b"x" * draw(st.sampled_from([0, 1, 100, 5_000, 20_000]))
            path = draw(st.sampled_from(["/now", "/soon", "/later"]))
            kind = draw(st.sampled_from(["length", "chunks", "leave"]))
            if kind == "chunks":
                cuts = draw(st.lists(st.integers(1, len(body)), max_size=3))
                sent.append(chunked(path, split(body, cuts), draw(st.sampled_from(["", "X: y\r\n"]))))
            else:
                sent.append(post(path, body, *(["Expect: 100-continue"] if kind == "leave" else [])))
            wanted.append(body)
        data = b"".join(sent)
        cuts = draw(st.lists(st.integers(1, len(data)), max_size=6))
        found.append((split(data, cuts), wanted))
    return found


@settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(conversations())
def test_every_request_gets_its_own_answer_whatever_the_neighbours_do(
    running: Running, talk: list[tuple[list[bytes], list[bytes]]]
) -> None:
    def speak(pieces: list[bytes], wanted: list[bytes]) -> list[bytes]:
        with running.connect() as caller:
            for piece in pieces:
                caller.sendall(piece)
            return [answer.body for answer in read_some(caller, len(wanted))]

    with ThreadPoolExecutor(len(talk)) as callers:
        heard = list(callers.map(lambda each: speak(*each), talk))
    assert heard == [wanted for _, wanted in talk]


# --- a gateway with a model ---------------------------------------------------------------------------------


def memory_of(pid: int) -> int:
    """Resident memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def files_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def ask(number: int) -> bytes:
    features = SAMPLE | {"sepal_length": number % 10}
    body = json.dumps({"features": features}).encode()
    return post("/v1/models/iris/predict", body, f"X-Request-Id: id-{number}")


def test_predictions_carry_the_ids_of_their_requests_whatever_the_neighbours_do(gateway) -> None:
    pid = gateway.process.pid

    def speak(numbers: range) -> list[str]:
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as caller:
            caller.sendall(b"".join(map(ask, numbers)))
            found = read_some(caller, len(numbers))
        assert {answer.status for answer in found} == {200}
        assert [json.loads(answer.body)["request_id"] for answer in found] == [
            answer.headers["x-request-id"] for answer in found
        ]
        return [answer.headers["x-request-id"] for answer in found]

    def barrage(rounds: int) -> None:
        with Hostile(gateway.port, 3), ThreadPoolExecutor(4) as callers:
            for start in range(0, rounds * 200, 200):
                parts = [range(start + part * 50, start + part * 50 + 50) for part in range(4)]
                wanted = [[f"id-{number}" for number in part] for part in parts]
                assert list(callers.map(speak, parts)) == wanted

    files = files_of(pid)
    barrage(3)
    warm = memory_of(pid)
    barrage(30)
    assert gateway.call("GET", "/health/live")[0] == 200
    wait_until(lambda: files_of(pid) <= files + 2)
    assert memory_of(pid) - warm < 20 * 1024
    assert gateway.process.poll() is None
