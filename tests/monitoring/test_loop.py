"""The loop: one control looks, none waits for another looker, and what fails is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from fairlead.errors import StoreUnavailable
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.loop import LEASE, Look, Looker, Loop
from fairlead.stores import leases
from fairlead.stores.database import Database
from tests.waiting import wait_until

T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)
FOUND = Finding(
    model="shop", kind="drift", subject="basket", status="alarm", sentence="It drifts.", start=T0, end=T0
)


class Eye:
    """A looker that does what it is told to."""

    def __init__(self, name: str, sees: Callable[[], list[Finding]] = lambda: [FOUND]) -> None:
        self.name = name
        self.seconds = 0.01
        self.looks = 0
        self._sees = sees

    def look(self, now: datetime) -> list[Finding]:
        self.looks += 1
        return self._sees()


@pytest.fixture
def database_kind() -> str:
    """What is the database's own, leases, is tested on both."""
    return "sqlite"


def test_what_is_found_is_told_with_who_found_it_and_when(database: Database) -> None:
    heard: list[tuple[Look, str]] = []
    loop = Loop(database, [], [lambda look, holder: heard.append((look, holder))], name="a", clock=lambda: T0)
    loop.look(Eye("drift"))
    assert heard == [(Look(looker="drift", at=T0, findings=(FOUND,)), "a")]


def test_a_looker_that_fails_is_told_of_and_keeps_none_from_looking(database: Database) -> None:
    def refused() -> list[Finding]:
        raise StoreUnavailable("The log does not answer.", remedy="Start it.")

    def broken() -> list[Finding]:
        raise ZeroDivisionError("größe 💶")

    heard: dict[str, Look] = {}
    lookers: list[Looker] = [Eye("refused", refused), Eye("broken", broken), Eye("well")]
    loop = Loop(database, lookers, [lambda look, _: heard.update({look.looker: look})], name="a")
    loop.start()
    try:
        wait_until(lambda: len(heard) == 3 and all(eye.looks > 3 for eye in lookers if isinstance(eye, Eye)))
    finally:
        loop.stop()
    assert heard["refused"].error == "The log does not answer. Start it."
    assert "größe 💶" in (heard["broken"].error or "")
    assert heard["well"].error is None
    assert heard["well"].findings == (FOUND,)


def test_a_slow_looker_keeps_none_waiting(database: Database) -> None:
    go_on = threading.Event()

    def slow() -> list[Finding]:
        go_on.wait(10)
        return []

    held_up, quick = Eye("slow", slow), Eye("quick")
    loop = Loop(database, [held_up, quick], name="a")
    loop.start()
    try:
        wait_until(lambda: held_up.looks)
        seen = quick.looks
        wait_until(lambda: quick.looks > seen + 5)
        assert held_up.looks == 1
    finally:
        go_on.set()
        loop.stop()


def test_one_control_looks_and_another_goes_on_when_it_ends(database: Database) -> None:
    first, second = Eye("first"), Eye("second")
    one, other = Loop(database, [first], name="a"), Loop(database, [second], name="b")
    one.start()
    wait_until(lambda: first.looks)
    other.start()
    try:
        seen = first.looks
        wait_until(lambda: first.looks > seen + 20)
        assert not second.looks
    finally:
        one.stop()
    try:
        wait_until(lambda: second.looks > 3)
        ended = first.looks
        wait_until(lambda: second.looks > 10)
        assert first.looks == ended
    finally:
        other.stop()
    with database.read() as connection:
        assert not leases.holds(connection, LEASE, "b", datetime.now(UTC)), "it was given back"


def test_who_is_told_and_fails_keeps_the_others_from_nothing(database: Database) -> None:
    heard: list[str] = []

    def fails(look: Look, holder: str) -> None:
        raise RuntimeError("no room")

    loop = Loop(database, [], [fails, lambda look, _: heard.append(look.looker)], name="a")
    loop.look(Eye("drift"))
    assert heard == ["drift"]
