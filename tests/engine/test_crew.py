"""The threads of a model worker, here in threads of the test, with real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fairlead.engine import crew
from fairlead.engine.callables import Run
from fairlead.engine.frames import Answer, Frame, Frames, Jobs, Message, Ping, Pong, encode, pack
from fairlead.engine.paths import connected, listening

Start = Callable[[Run, int], threading.Thread]

PATIENCE = 20.0


class Gateway:
    """One end of a socket to the crew."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._frames = Frames()
        self._found: list[Frame] = []
        sock.settimeout(PATIENCE)

    def say(self, *messages: Message) -> None:
        self.sock.sendall(b"".join(b"".join(encode(message)) for message in messages))

    def ask(self, *widths: int) -> None:
        """One row for each width, numbered from 1, all in one write."""
        written = b""
        for number, width in enumerate(widths, 1):
            described, numbers = pack({"x": np.zeros((1, width))})
            written += b"".join(
                encode(Jobs([(number, 1, time.monotonic() + PATIENCE, 0)], described), numbers)
            )
        self.sock.sendall(written)

    def hear(self) -> Message:
        while not self._found:
            self._found += self._frames.filled(self.sock.recv_into(self._frames.space()))
        return self._found.pop(0).message


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a crew that ends soon after its host has left."""
    monkeypatch.setattr(crew, "ORPHAN_SECONDS", 0.01)
    monkeypatch.setattr(crew, "_LOOK_SECONDS", 0.05)
    ours, theirs = socket.socketpair()
    listener = listening(tmp_path / "socket")
    started: list[threading.Thread] = []

    def begin(run: Run, instances: int) -> threading.Thread:
        serving = threading.Thread(target=crew.Crew(run, listener, theirs, instances).serve)
        serving.start()
        started.append(serving)
        return serving

    yield begin
    ours.close()
    for serving in started:
        serving.join(PATIENCE)
    listener.close()
    assert not any(serving.is_alive() for serving in started)


@pytest.fixture
def gateway(start: Start, tmp_path: Path) -> Iterator[Gateway]:
    sock = connected(tmp_path / "socket")
    yield Gateway(sock)
    sock.close()


def test_what_comes_while_the_model_runs_is_read_at_once(start: Start, gateway: Gateway) -> None:
    runs, go_on = threading.Event(), threading.Event()

    def run(feed: object) -> dict[str, np.ndarray]:
        runs.set()
        assert go_on.wait(PATIENCE)
        return {"y": np.ones((1, 1))}

    start(run, 1)
    gateway.ask(3)
    assert runs.wait(PATIENCE)
    gateway.say(Ping())
    pong = gateway.hear()
    go_on.set()
    answer = gateway.hear()
    assert isinstance(pong, Pong)
    assert pong.running > 0.0
    assert isinstance(answer, Answer)
    assert answer.ids == [1]


def test_rows_that_cannot_be_joined_run_side_by_side_where_there_are_instances(
    start: Start, gateway: Gateway
) -> None:
    both = threading.Barrier(2)

    def run(feed: object) -> dict[str, np.ndarray]:
        both.wait(PATIENCE)
        return {"y": np.ones((1, 1))}

    start(run, 2)
    gateway.ask(3, 4)
    answers = [gateway.hear(), gateway.hear()]
    assert sorted(answer.ids[0] for answer in answers if isinstance(answer, Answer) and not answer.error) == [
        1,
        2,
    ]


@pytest.mark.parametrize("instances", [1, 3])
def test_it_ends_when_nobody_is_connected_whoever_has_noticed(
    start: Start, tmp_path: Path, instances: int
) -> None:
    serving = start(lambda feed: {"y": np.ones((1, 1))}, instances)
    with connected(tmp_path / "socket") as sock:
        gateway = Gateway(sock)
        gateway.ask(3)
        assert isinstance(gateway.hear(), Answer)
        assert serving.is_alive()
