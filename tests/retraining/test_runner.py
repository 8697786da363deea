"""From causes to jobs, on both databases: alarms, the clock, several controls, jobs whose server ended."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from fairlead.errors import RetrainingRefused
from fairlead.retraining.job import Job
from fairlead.retraining.runner import Retraining
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.retraining.site import T0, Site
from tests.waiting import wait_until


@pytest.fixture
def site(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Site]:
    with Site(database, blobs, tmp_path).serving() as made:
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


def test_looks_in_a_row_are_counted_on_by_the_next_control(site: Site) -> None:
    for name in ("one", "two", "three"):
        assert site.jobs() == []
        site.looks(name)
        site.now += timedelta(minutes=5)
        control = site.control(name, confirm=3)  # of another process: it remembers nothing
        control.told(site.alarm(), name)
        control.told(site.alarm(), name)  # the same window once more is no other look
    (job,) = site.jobs()
    assert job.cause.since == T0 + timedelta(minutes=5) - timedelta(hours=1), "since the first of the three"


def test_a_good_look_in_between_begins_the_count_anew_and_a_late_one_changes_nothing(site: Site) -> None:
    control = site.control(confirm=2)
    late = site.alarm("ok")
    for status in ("alarm", "ok", "alarm"):
        site.now += timedelta(minutes=5)
        control.told(site.alarm(status), "one")
    assert site.jobs() == []
    control.told(late, "one")
    site.now += timedelta(minutes=5)
    control.told(site.alarm(), "two")
    assert site.jobs() == [], "another control looks: who has lost the lease is not heard"
    control.told(site.alarm(), "one")
    assert len(site.jobs()) == 1


def test_an_alarm_that_nobody_has_seen_for_days_causes_nothing_any_more(site: Site) -> None:
    control = site.control(confirm=2)
    control.told(site.alarm(), "one")
    site.now += timedelta(days=2, minutes=1)
    site.control(confirm=1)._consider("shop")
    assert site.jobs() == []


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
    again = control._steps._under_way(site.jobs()[0])
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


def test_what_is_left_of_jobs_that_are_over_is_swept_away(site: Site) -> None:
    control = site.control(least=20)
    job = control.ask("shop", who="ann")
    site.attend(control, job).join(60)
    ended = site.jobs()[0]
    assert ended.state == "failed", "its trainer is `false`"
    assert ended.rows is not None
    blobs, digest = site.registry.blobs, ended.rows.held_digest
    assert not blobs.has(digest)
    assert not (site.folder.root / "retraining" / job.id).exists()
    blobs.put(b"rows", (again := hashlib.sha256(b"rows").hexdigest()))
    site.move(ended, rows=msgspec.structs.replace(ended.rows, held_digest=again))  # as if it had been killed
    job = control.ask("shop", who="ann", force=True)
    for name in (job.id, "0123456789ab"):
        (site.folder.root / "retraining" / name).mkdir(parents=True)
    control._sweep()
    assert not blobs.has(again)
    assert [path.name for path in (site.folder.root / "retraining").iterdir()] == [job.id]
