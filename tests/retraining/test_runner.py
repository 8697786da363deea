"""From causes to jobs, on both databases: alarms, the clock, several controls, jobs whose server ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import RetrainingRefused
from fairlead.gate.runs import Gates
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.loop import Look
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import Registry
from fairlead.retraining import ledger
from fairlead.retraining.job import Job
from fairlead.retraining.runner import Retraining
from fairlead.rollouts.commands import Rollouts
from fairlead.rollouts.traffic import Order, Traffic
from fairlead.serving.folder import DataFolder
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import register
from tests.waiting import wait_until

T0 = datetime(2026, 11, 1, tzinfo=UTC)


class Site:
    """A shop with a version in production, and controls that would retrain it."""

    def __init__(self, database: Database, blobs: Blobs, folder: Path) -> None:
        self.database = database
        self.registry = Registry(database, blobs)
        self.folder = DataFolder(folder / "data").make()
        self.now = T0
        register(self.registry, blobs, "v1")

    def control(self, name: str = "one", **policy: Any) -> Retraining:
        settings = Settings(
            data=str(self.folder.root),
            trainers={"t": {"command": ["false"]}},
            retraining={"shop": {"trainer": "t", "cooldown": "1d", **policy}},
        )
        ingest = IngestClient(self.folder.ingest_socket)
        return Retraining(
            self.registry, Gates(self.registry, self.folder, ingest, settings),
            Rollouts(self.database, self.folder.counters), ingest, self.folder, settings, name=name,
            clock=lambda: self.now,
        )  # fmt: skip

    def jobs(self) -> list[Job]:
        with self.database.read() as connection:
            return ledger.of_model(connection, "shop")

    def move(self, job: Job, **changes: Any) -> Job:
        with self.database.write() as connection:
            return ledger.move(connection, job, self.now, **changes)

    def alarm(self, status: Any = "alarm") -> Look:
        finding = Finding(
            model="shop", kind="drift", subject="größe", status=status, sentence="Größe has shifted.",
            start=self.now - timedelta(hours=1), end=self.now,
        )  # fmt: skip
        return Look(looker="drift", at=self.now, findings=(finding,))


@pytest.fixture
def site(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Site]:
    made = Site(database, blobs, tmp_path)
    traffic = Traffic(database, made.registry, Settings(data=str(made.folder.root)))
    with FakeFleet(database, "g0").running():
        traffic.deploy("shop", "v1", Order(who="ann"), strategy="direct")
        yield made


def test_an_alarm_that_lasts_begins_one_retraining(site: Site) -> None:
    control = site.control()
    for _ in range(5):
        control.told(site.alarm(), "one")
        site.now += timedelta(minutes=1)
    (job,) = site.jobs()
    assert (job.state, job.champion, job.who) == ("queued", "v1", "fairlead")
    assert job.cause.findings[0].subject == "größe"
    assert site.registry.audit("shop")[0].action == "retrain"
    assert job.id in control.triggers("shop")[0].decision.sentence


def test_after_a_retraining_the_cooldown_holds_alarms_and_people_unless_forced(site: Site) -> None:
    control = site.control()
    control.told(site.alarm(), "one")
    site.move(site.jobs()[0], state="done", ended="lost")
    site.now += timedelta(hours=1)
    control.told(site.alarm(), "one")
    assert len(site.jobs()) == 1
    with pytest.raises(RetrainingRefused, match="cooldown"):
        control.ask("shop", who="ann")
    assert control.ask("shop", who="ann", force=True).number == 2


def test_what_was_cancelled_before_it_began_counts_for_nothing(site: Site) -> None:
    control = site.control(budget=1)
    job = control.ask("shop", who="ann", why="a try")
    assert control.cancel("shop", job.id, who="ann").state == "cancelled"
    assert control.ask("shop", who="ann").cause.sentence == "ann asked for it."


def test_the_clock_begins_one_when_it_is_due(site: Site) -> None:
    control = site.control(every="7d")
    began = max(change.at for change in site.registry.stage_history("shop"))
    site.now = began + timedelta(days=6, hours=23)
    control._consider("shop")
    assert site.jobs() == []
    site.now = began + timedelta(days=7, seconds=1)
    control._consider("shop")
    assert [job.cause.kind for job in site.jobs()] == ["schedule"]


def test_of_several_who_ask_at_once_one_is_heard(site: Site) -> None:
    controls = [site.control(name) for name in ("one", "two")]
    done: list[object] = []
    gate = threading.Barrier(6)

    def ask(control: Retraining) -> None:
        gate.wait()
        try:
            done.append(control.ask("shop", who="ann"))
        except RetrainingRefused as error:
            done.append(error)

    threads = [threading.Thread(target=ask, args=(controls[index % 2],)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 6
    assert len(site.jobs()) == sum(isinstance(one, Job) for one in done) == 1


def test_only_the_control_with_the_lease_acts_and_the_next_goes_on_when_it_stops(site: Site) -> None:
    site.now = datetime.now(UTC)
    first, second = site.control("one"), site.control("two")
    first.start()
    wait_until(first._mine)
    second.start()
    try:
        assert not second._mine()
        first.stop()
        wait_until(second._mine)
        assert not first._mine()
    finally:
        first.stop()
        second.stop()


def test_a_trainer_whose_server_ended_begins_anew_once_and_then_has_failed(site: Site) -> None:
    control = site.control()
    job = control.ask("shop", who="ann")
    site.move(job, state="running", attempt=1, begun_at=site.now)
    control._until = site.now + timedelta(hours=1)
    again = control._steps._again(site.jobs()[0])
    assert (again.state, again.note) == ("queued", "The server ended under its trainer: it begins anew.")
    site.move(again, state="running", attempt=2)
    control._steps.go(site.jobs()[0])
    ended = site.jobs()[0]
    assert ended.state == "failed"
    assert ended.error == "The server ended under its trainer 2 times."


def test_a_trainer_cannot_name_a_version_that_was_there_before(site: Site) -> None:
    control = site.control()
    site.now = datetime.now(UTC) + timedelta(hours=1)
    job = control.ask("shop", who="ann")
    site.move(job, state="registering", begun_at=site.now, version="v1")
    control._until = site.now + timedelta(hours=1)
    control._steps.go(site.jobs()[0])
    ended = site.jobs()[0]
    assert ended.state == "failed"
    assert "registered before it began" in (ended.error or "")


def test_folders_of_jobs_that_are_over_are_swept_away(site: Site) -> None:
    control = site.control()
    job = control.ask("shop", who="ann")
    for name in (job.id, "0123456789ab"):
        (site.folder.root / "retraining" / name).mkdir(parents=True)
    control._sweep()
    assert [path.name for path in (site.folder.root / "retraining").iterdir()] == [job.id]
