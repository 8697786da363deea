"""Trainers elsewhere: what they are told, and what they may do with their job's token, over real HTTP."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import uvicorn
from fastapi import FastAPI

import fairlead
from fairlead.admin.problems import refuse_as_problems
from fairlead.admin.retraining import retraining_routes
from fairlead.errors import Forbidden, InvalidRetraining, RetrainingRefused, VersionNotFound
from fairlead.retraining import ledger, webhook
from fairlead.retraining.job import Job
from fairlead.retraining.log import clipped
from fairlead.retraining.triggers import Cause
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.alerts.receiver import Receiver
from tests.retraining.site import Site
from tests.rollouts.shop import register
from tests.servers import free_port
from tests.waiting import wait_until

PROMPT = 0.01


@pytest.fixture
def database_kind() -> str:
    return "sqlite"


@pytest.fixture
def site(database: Database, blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(webhook, "_PAUSES", (PROMPT,) * 4)
    with Site(database, blobs, tmp_path).serving() as made:
        yield made


class Doors:
    """A control's doors of retrainings on a real port, and a client of them."""

    def __init__(self, site: Site, url: str, **trainer: Any) -> None:
        self.site = site
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.control = site.control(trainer={"webhook": url, **trainer}, port=port, least=20)
        self.admin = fairlead.Admin(f"http://127.0.0.1:{port}")
        app = FastAPI()
        refuse_as_problems(app)
        app.include_router(retraining_routes(self.control), prefix="/api/v1")
        self._server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        self._serving = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)

    def __enter__(self) -> Doors:
        self._serving.start()
        wait_until(lambda: self._server.started, 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._serving.join(20)
        self.admin.close()

    def begin(self) -> Job:
        job = self.control.ask("shop", who="ann", force=True)
        self.attending = self.site.attend(self.control, job)
        return job

    def now(self, job: Job) -> Job:
        return self.control.job("shop", job.id)

    def leave(self) -> None:
        """From here on this control takes no job along."""
        self.control._until = None
        self.attending.join(20)


def told(hook: Receiver) -> dict[str, Any]:
    """The task that the hook was told last."""
    wait_until(lambda: hook.posts, 20)
    task: dict[str, Any] = hook.messages()[-1]
    return task


def taken(doors: Doors, job: Job) -> Job:
    """The job, once its webhook has taken it."""
    wait_until(lambda: doors.now(job).called_at is not None, 20)
    return doors.now(job)


def over(doors: Doors, job: Job) -> Job:
    wait_until(lambda: doors.now(job).over, 20)
    return doors.now(job)


def test_a_hook_is_told_its_job_and_fetches_says_and_hands_in_by_the_jobs_token(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "geheim")
    with Receiver() as hook, Doors(site, hook.url, token_env="HOOK_TOKEN") as doors:
        job = doors.begin()
        task = told(hook)
        _, headers, body = hook.posts[0]
        assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer geheim", job.id)
        assert (task["id"], task["version"], task["champion"]) == (job.id, job.version, "v1")
        assert (task["features"], task["target"], task["lineage"]["retraining"]) == (["age"], "label", job.id)
        assert str(site.folder.root) not in body.decode(), "this machine's files are nothing to it"
        token, admin = task["token"], doors.admin
        assert task["result_url"] == f"{admin.url}/api/v1/models/shop/retrainings/{job.id}/result"
        rows = tmp_path / "fetched.parquet"
        rows.write_bytes(admin.retraining_data("shop", job.id, token))
        trained = set(pq.read_table(rows).column("age").to_pylist())
        found = taken(doors, job).rows
        assert found is not None
        site.registry.blobs.get_to(found.held_digest, tmp_path / "held.parquet")
        held = set(pq.read_table(tmp_path / "held.parquet").column("age").to_pylist())
        assert not trained & held
        assert (len(trained), len(held), trained | held) == (found.trained, found.held, set(range(200)))
        admin.say_in_retraining("shop", job.id, token, "Größe 💶: 12 \0\n")
        assert "Größe 💶: 12 \ufffd" in admin.retraining_log("shop", job.id)
        assert "answered 200" in admin.retraining_log("shop", job.id)
        register(site.registry, site.registry.blobs, job.version)
        doors.leave()
        assert admin.hand_in("shop", job.id, token, version=job.version).state == "registering"
        assert admin.hand_in("shop", job.id, token, version=job.version).state == "registering", "asked again"
        with pytest.raises(RetrainingRefused, match="is registering"):
            admin.hand_in("shop", job.id, token, version="v1")
        with pytest.raises(RetrainingRefused, match="is registering"):
            admin.hand_in("shop", job.id, token, error="after all, no")
        with pytest.raises(RetrainingRefused, match="is registering"):
            admin.retraining_data("shop", job.id, token)
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("fairlead.db*"))
    assert token.encode() not in stored
    assert len(hook.posts) == 1


def test_a_token_opens_its_own_job_alone(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url) as doors:
        first = doors.begin()
        stale = told(hook)["token"]
        taken(doors, first)
        doors.control.cancel("shop", first.id, who="ann")
        doors.attending.join(20)
        assert not (site.folder.root / "retraining" / first.id).exists()
        second = doors.begin()
        taken(doors, second)
        for wrong in (stale, "", "größe", "x" * 4_000):
            with pytest.raises(Forbidden, match="no token of retraining"):
                doors.control.handing.hand_in("shop", second.id, wrong, version="v1", error=None)
        with pytest.raises(Forbidden):
            doors.admin.hand_in("shop", second.id, stale, version="v1")
        with pytest.raises(Forbidden):
            doors.admin.say_in_retraining("shop", second.id, stale, "hello")
        with pytest.raises(Forbidden):
            doors.admin.retraining_data("shop", second.id, stale)
        with pytest.raises(RetrainingRefused, match="is cancelled"):
            doors.admin.hand_in("shop", first.id, stale, version="v1")
        with pytest.raises(RetrainingRefused, match="is cancelled"):
            doors.admin.say_in_retraining("shop", first.id, stale, "still here")
        assert doors.now(second).state == "running"
        doors.control.cancel("shop", second.id, who="ann")
        doors.attending.join(20)


def test_a_hook_that_hands_in_nothing_that_is_there_may_try_again(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url) as doors:
        job = doors.begin()
        token = told(hook)["token"]
        taken(doors, job)
        with pytest.raises(VersionNotFound):
            doors.admin.hand_in("shop", job.id, token, version="größe")
        for both in ({}, {"version": "v1", "error": "and no"}):
            with pytest.raises(InvalidRetraining, match="hands in a version, or says what went wrong"):
                doors.admin.hand_in("shop", job.id, token, **both)
        assert doors.now(job).state == "running"
        doors.admin.hand_in("shop", job.id, token, error="die Größe fehlt")
        ended = doors.admin.hand_in("shop", job.id, token, error="die Größe fehlt")
        assert (ended.state, ended.error) == ("failed", "The trainer said: die Größe fehlt")
        assert [entry.action for entry in site.registry.audit("shop")][:2] == ["retrained", "retrain"]
        doors.attending.join(20)


def test_one_that_hands_in_too_late_is_refused_and_the_job_stays_failed(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url, seconds="1h") as doors:
        job = doors.begin()
        token = told(hook)["token"]
        taken(doors, job)
        site.now += timedelta(hours=1, seconds=1)
        ended = over(doors, job)
        assert ended.error is not None
        assert "handed in nothing within 3600 s" in ended.error
        with pytest.raises(RetrainingRefused, match="is failed"):
            doors.admin.hand_in("shop", job.id, token, version="v1")
        assert doors.now(job) == ended


def test_a_week_after_its_job_a_token_is_forgotten(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url) as doors:
        job = doors.begin()
        token = told(hook)["token"]
        taken(doors, job)
        doors.admin.hand_in("shop", job.id, token, error="no")
        doors.attending.join(20)
        for days, refused in ((6, RetrainingRefused), (2, Forbidden)):
            site.now += timedelta(days=days)
            doors.control._sweep()
            with pytest.raises(refused):
                doors.admin.say_in_retraining("shop", job.id, token, "still here")


def test_a_control_that_takes_over_waits_on_and_calls_no_hook_twice(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url) as doors:
        job = doors.begin()
        token = told(hook)["token"]
        taken(doors, job)
        doors.leave()
        assert doors.now(job).state == "running"
        with Doors(site, hook.url) as next_doors:
            next_doors.attending = site.attend(next_doors.control, doors.now(job))
            next_doors.admin.hand_in("shop", job.id, token, error="no")
            assert over(next_doors, job).attempt == 1
            next_doors.attending.join(20)
    assert len(hook.posts) == 1


def test_a_control_that_was_killed_in_its_call_calls_again_and_either_token_counts(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url) as doors:
        job = doors.begin()
        first = told(hook)["token"]
        taken(doors, job)
        doors.leave()
        site.move(doors.now(job), called_at=None)  # as it stands when that was not written any more
        doors.attending = site.attend(doors.control, doors.now(job))
        wait_until(lambda: len(hook.posts) == 2, 20)
        assert hook.keys() == [job.id] * 2
        assert told(hook)["token"] != first
        taken(doors, job)
        doors.admin.hand_in("shop", job.id, first, error="no")
        assert over(doors, job).attempt == 2


def test_one_that_hands_in_before_it_answers_has_handed_in_whatever_it_answers(site: Site) -> None:
    with Receiver(500) as hook:
        hook.meanwhile = lambda: hand_in(hook, doors)
        with Doors(site, hook.url) as doors:
            job = doors.begin()
            assert over(doors, job).error == "The trainer said: no"
    assert len(hook.posts) == 1


def hand_in(hook: Receiver, doors: Doors) -> None:
    task = hook.messages()[-1]
    doors.control.handing.hand_in("shop", task["id"], task["token"], version=None, error="no")


@pytest.mark.parametrize(
    ("answers", "calls", "error"),
    [
        ((500, 503, 429), 4, None),
        ((500,) * 9, 5, "answered 500"),
        ((404, 200), 1, "answered 404"),
        ((302, 200), 1, "leads elsewhere"),
    ],
)
def test_a_hook_that_cannot_now_is_called_again_and_one_that_will_not_is_not(
    site: Site, answers: tuple[int, ...], calls: int, error: str | None
) -> None:
    with (
        Receiver() as elsewhere,
        Receiver(*answers, headers={"Location": elsewhere.url}) as hook,
        Doors(site, hook.url) as doors,
    ):
        job = doors.begin()
        if error is None:
            taken(doors, job)
            doors.leave()
        else:
            assert error in (over(doors, job).error or "")
        assert len(hook.posts) == calls
        assert set(hook.keys()) == {job.id}
        assert elsewhere.posts == []
        assert doors.admin.retraining_log("shop", job.id).count("The webhook answered") == calls


def test_a_hook_that_never_answers_or_is_not_there_fails_by_name(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_CALL_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        for port in (deaf.getsockname()[1], free_port()):
            with Doors(site, f"http://127.0.0.1:{port}/") as doors:
                ended = over(doors, doors.begin())
                assert ended.state == "failed"
                assert "webhook of trainer 't' does not answer" in (ended.error or "")


def test_one_that_is_cancelled_while_its_hook_is_called_is_called_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "_PAUSES", (600.0,) * 4)
    with Receiver(*[503] * 9) as hook, Doors(site, hook.url) as doors:
        job = doors.begin()
        wait_until(lambda: hook.posts, 20)
        doors.control.cancel("shop", job.id, who="ann")
        doors.attending.join(20)
        assert not doors.attending.is_alive()
        assert doors.now(job).state == "cancelled"
    assert len(hook.posts) == 1


def test_jobs_that_wait_keep_no_other_from_going_on_and_one_that_is_cancelled_then_is_tidied_up(
    site: Site,
) -> None:
    def add(**changes: Any) -> Job:
        cause = Cause(kind="hand", sentence="Ann asked for it.")
        with site.database.write() as connection:
            job = ledger.add(
                connection, model="shop", cause=cause, trainer="t", champion="v1", who="ann", now=site.now
            )
            return ledger.move(connection, job, site.now, **changes)

    with Receiver(404) as hook:
        control = site.control(trainer={"webhook": hook.url}, least=20)
        waiting = [add(state="running", begun_at=site.now, called_at=site.now) for _ in range(20)]
        place = site.folder.root / "retraining" / waiting[0].id
        place.mkdir(parents=True)
        control.start()
        try:
            other = add(note="It waits for its turn.")
            wait_until(lambda: control.job("shop", other.id).over, 20)
            assert "answered 404" in (control.job("shop", other.id).error or "")
            assert place.exists()
            control.cancel("shop", waiting[0].id, who="ann")
            wait_until(lambda: not place.exists(), 20)
        finally:
            control.stop()
        assert {control.job("shop", job.id).state for job in waiting[1:]} == {"running"}


def test_the_words_of_a_trainer_elsewhere_are_kept_as_they_begin_and_as_they_end() -> None:
    text = ""
    for number in range(100):
        text = clipped(text, f"{number:04}\n".encode(), head=20, tail=20)
    assert text == "0000\n0001\n0002\n0003\n\n… something is left out …\n0096\n0097\n0098\n0099\n"


def test_the_address_that_a_hook_is_told_may_be_another_than_this_machines(site: Site) -> None:
    with Receiver() as hook, Doors(site, hook.url, back="https://control.example/") as doors:
        job = doors.begin()
        task = told(hook)
        taken(doors, job)
        doors.leave()
    assert task["admin_url"] == "https://control.example"
    assert task["data_url"].startswith("https://control.example/api/v1/models/shop/")
    assert json.loads(hook.posts[0][2]) == task
