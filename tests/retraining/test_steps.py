"""A retraining whose control is killed before or after any of its writes: the next one goes on from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fairlead.retraining import steps
from fairlead.retraining.job import Job
from fairlead.retraining.runner import Retraining
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.retraining.site import Site
from tests.rollouts.shop import register


class Killed(BaseException):
    """Control ends here."""


class Gates:
    """Lets everything pass, as often as it is asked."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, *_: Any, **__: Any) -> Any:
        self.runs += 1
        return SimpleNamespace(id=f"g{self.runs}")

    def get(self, *_: Any) -> Any:
        return SimpleNamespace(over=True, state="passed", report=None, reason=None)


class Rollouts:
    """Begins one rollout for each key, which succeeds at once."""

    def __init__(self) -> None:
        self.begun: dict[str, str] = {}

    def start(self, model: str, version: str, plan: Any, order: Any) -> Any:
        return SimpleNamespace(rollout=SimpleNamespace(id=self.begun.setdefault(order.key, version)))

    def get(self, *_: Any) -> Any:
        return SimpleNamespace(entry=SimpleNamespace(rollout=SimpleNamespace(state="succeeded")))


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def site(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Site]:
    with Site(database, blobs, tmp_path).serving() as made:
        yield made


class Run:
    """Retrainings of a site by controls that are killed at a write."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        self.gates, self.rollouts = Gates(), Rollouts()
        self.trained = 0
        self.writes = 0
        self.kill_at = (0, "")
        self.made: str | None = None
        monkeypatch.setattr(steps, "train", self.train)
        for name in ("_write", "_end"):
            monkeypatch.setattr(steps.Steps, name, self.deadly(getattr(steps.Steps, name)))

    def deadly(self, write: Any) -> Any:
        def deadlier(*args: Any, **changes: Any) -> Job:
            self.writes += 1
            if self.kill_at == (self.writes, "before"):
                raise Killed
            after: Job = write(*args, **changes)
            if self.kill_at == (self.writes, "after"):
                raise Killed
            return after

        return deadlier

    def train(self, trainer: Any, task: Any, *_: Any) -> str:
        self.trained += 1
        version: str = task.version
        register(self.site.registry, self.site.registry.blobs, version)
        return version

    def control(self) -> Retraining:
        made = self.site.control(least=20)
        made._until = self.site.now.replace(year=2999)
        made._steps._gates, made._steps._rollouts = self.gates, self.rollouts  # type: ignore[assignment]
        return made

    def through(self, number: int, when: str) -> Job:
        """A retraining, whose control is killed before or after its write of that number; 0 is never."""
        self.writes, self.kill_at = 0, (number, when)
        job = self.control().ask("shop", who="ann", force=True)
        for _ in range(3):
            try:
                self.control()._steps.go(self.site.jobs()[0])
            except Killed:
                continue
            break
        (now,) = [one for one in self.site.jobs() if one.id == job.id]
        return now


def test_a_retraining_ends_as_it_should_wherever_its_control_is_killed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(site, monkeypatch)
    undisturbed = run.through(0, "")
    assert (undisturbed.state, undisturbed.ended, undisturbed.attempt) == ("done", "kept", 1)
    writes = run.writes
    assert writes >= 6
    points = [(number, when) for number in range(1, writes + 1) for when in ("before", "after")]
    for number, when in points:
        trained, gated, begun = run.trained, run.gates.runs, len(run.rollouts.begun)
        job = run.through(number, when)
        assert (job.state, job.ended) == ("done", "kept"), (number, when, job.error)
        assert len(run.rollouts.begun) == begun + 1, "one rollout"
        assert run.rollouts.begun[f"retraining-{job.id}"] == job.version
        assert run.trained == trained + 1, "what was made is not made again"
        assert run.gates.runs <= gated + 2, "a gate that nobody has noted is run again"
        assert job.rows is not None
        assert not site.registry.blobs.has(job.rows.held_digest)
        ended = [
            entry for entry in site.registry.audit("shop")
            if entry.action == "retrained" and entry.version == job.version
        ]  # fmt: skip
        assert len(ended) == 1
