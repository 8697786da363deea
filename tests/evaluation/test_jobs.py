"""Replays that go on beside: how many at once, how long they are remembered, and what ends them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fairlead.errors import Overloaded, ReplayNotFound, VersionNotFound
from fairlead.evaluation.jobs import ReplayJob, ReplayOrder, Replays
from tests.evaluation.site import ALL, Site, rows_of_iris
from tests.models import SAMPLE, iris_onnx
from tests.waiting import wait_until

HELD = "true -- held"


class Held:
    """The log of a site, which answers those who ask for `HELD` traffic only once it is let go."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.go = threading.Event()
        self.asked = threading.Semaphore(0)

    def call(self, op: str, **arguments: Any) -> Any:
        if arguments.get("where") == HELD:
            self.asked.release()
            assert self.go.wait(60)
        return self._site.call(op, **arguments)


@pytest.fixture
def log(site: Site) -> Iterator[Held]:
    site.register("v1", iris_onnx())
    site.serve(ALL)
    site.ask_batch(rows_of_iris()[:3], "three")
    held = Held(site)
    yield held
    held.go.set()


@pytest.fixture
def replays(site: Site, log: Held) -> Replays:
    return Replays(site.registry, log, site.folder, trust_pickle=False)  # type: ignore[arg-type]


def order(where: str = "", version: str = "v1") -> ReplayOrder:
    now = datetime.now(UTC) + timedelta(seconds=1)
    return ReplayOrder(model="iris", version=version, since=now - timedelta(hours=1), until=now, where=where)


def over(replays: Replays, job: ReplayJob) -> ReplayJob:
    def ended() -> ReplayJob | None:
        found = replays.get(job.id)
        return found if found.state != "running" else None

    found: ReplayJob = wait_until(ended, 30)
    return found


def test_a_third_replay_is_refused_until_one_of_two_has_ended(
    site: Site, log: Held, replays: Replays
) -> None:
    site.ask(SAMPLE, request_id="one")
    first, second = replays.start(order(HELD)), replays.start(order(HELD))
    for _ in range(2):
        assert log.asked.acquire(timeout=30)
    with pytest.raises(Overloaded, match="2 replays are under way"):
        replays.start(order())
    with pytest.raises(Overloaded):
        replays.request("one")
    log.go.set()
    for job in (first, second):
        ended = over(replays, job)
        assert ended.report is not None
        assert (ended.state, ended.report.records) == ("done", 4)
    (again,) = wait_until(lambda: _unless_overloaded(lambda: replays.request("one")))
    assert again.verdict == "identical"
    with pytest.raises(VersionNotFound):
        replays.start(order(version="v9"))
    assert over(replays, _room(replays)).state == "done"  # what was refused has taken no place


def test_a_cancelled_replay_makes_room_and_stays_cancelled(log: Held, replays: Replays) -> None:
    jobs = [replays.start(order(HELD)), replays.start(order(HELD))]
    for _ in jobs:
        assert log.asked.acquire(timeout=30)
    assert replays.cancel(jobs[0].id).state == "cancelled"
    log.go.set()
    assert over(replays, jobs[1]).state == "done"
    assert over(replays, _room(replays)).state == "done"
    ended = replays.get(jobs[0].id)
    assert (ended.state, ended.report) == ("cancelled", None)
    assert replays.cancel(jobs[1].id).state == "done"


def test_the_oldest_that_have_ended_are_forgotten_and_what_runs_is_kept(
    log: Held, replays: Replays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairlead.evaluation.jobs._KEPT", 3)
    running = replays.start(order(HELD))
    assert log.asked.acquire(timeout=30)
    ended = [over(replays, _room(replays)) for _ in range(3)]
    with pytest.raises(ReplayNotFound):
        replays.get(ended[0].id)
    assert [replays.get(job.id).state for job in (running, *ended[1:])] == ["running", "done", "done"]


def test_a_replay_of_a_control_that_is_gone_is_told_with_what_to_do(
    site: Site, log: Held, replays: Replays
) -> None:
    log.go.set()
    job = replays.start(order())
    assert over(replays, job).state == "done"
    restarted = Replays(site.registry, log, site.folder, trust_pickle=False)  # type: ignore[arg-type]
    for ask in (restarted.get, restarted.cancel):
        with pytest.raises(ReplayNotFound, match=job.id) as refused:
            ask(job.id)
        assert "when it restarts" in refused.value.remedy
        assert "ask the one that started it" in refused.value.remedy


def _room(replays: Replays) -> ReplayJob:
    """A replay that begins as soon as one of those before has left its place."""
    begun: ReplayJob = wait_until(lambda: _unless_overloaded(lambda: replays.start(order())), 30)
    return begun


def _unless_overloaded(ask: Any) -> Any:
    try:
        return ask()
    except Overloaded:
        return None
