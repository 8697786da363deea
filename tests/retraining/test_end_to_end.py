"""Retraining by a whole `fairlead up`: from labelled traffic to a candidate that is let through, or not."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import fairlead
from fairlead.client.retraining import RetrainingJob
from fairlead.errors import InvalidRetraining, ModelNotFound, RetrainingNotFound, RetrainingRefused
from fairlead.stores.database import Database
from fairlead.stores.tables import gate_runs, leases, rollouts
from tests.alerts.receiver import Receiver
from tests.models import line_onnx
from tests.servers import Servers
from tests.waiting import has_ended, wait_until

ROWS, HELD = 160, 20
TRAINER = """
[trainers.{name}]
callable = "tests.retraining.trainers:{name}"
folder = "{root}"
nice = 0
"""
POLICY = """
[retraining.{name}]
trainer = "{name}"
least = 50
held_rows = {held}
cooldown = "1h"
plan = {{ strategy = "blue-green", bake = "0s" }}
"""
HOOK = """
[trainers.elsewhere]
webhook = "{url}"
"""
MODELS = ("fitting", "moody", "elsewhere")


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, hook: Receiver) -> Iterator[Servers]:
    """A Fairlead whose models answer the opposite of what becomes true."""
    place = tmp_path_factory.mktemp("fairlead")
    config = place / "fairlead.toml"
    root = Path(__file__).parents[2]
    trainers = dict.fromkeys(MODELS, TRAINER) | {"elsewhere": HOOK}
    config.write_text(
        "".join(
            (trainers[name] + POLICY).format(name=name, root=root, held=HELD, url=hook.url) for name in MODELS
        )
    )
    random = np.random.default_rng(7)
    rows = pd.DataFrame(random.normal(size=(ROWS, 2)), columns=["x", "größe"])
    truth = (rows["x"] + rows["größe"] > 0).astype(int)
    champion = line_onnx((-1.0, -1.0))
    with (
        Servers(place / "data", workers=1, FAIRLEAD_CONFIG=str(config)) as running,
        fairlead.Client(running.url) as client,
    ):
        for name in MODELS:
            fairlead.register(
                champion, name, "v1", reference=rows, set_production=True, admin_url=running.admin_url
            )
            wait_until(lambda name=name: answers(client, name), 20)
            units = [f"u{number}" for number in range(ROWS)]
            answer = client.predict_batch(name, rows.to_dict("records"), units=units)
            client.outcomes(
                name,
                [
                    {"request_id": answer.request_id, "row": row, "metric": "label", "value": known}
                    for row, known in enumerate(truth.tolist())
                ],
            )
        yield running


def answers(client: fairlead.Client, model: str) -> bool:
    try:
        return client.predict(model, {"x": 0.0, "größe": 0.0}).model_version == "v1"
    except fairlead.FairleadError:
        return False


def values_of(file: Path) -> list[float]:
    values: list[float] = pq.read_table(file).column("x").to_pylist()
    return values


def over(servers: Servers, job: RetrainingJob) -> RetrainingJob:
    with fairlead.Admin(servers.admin_url) as admin:
        wait_until(lambda: admin.retraining(job.model, job.id).over, 60)
        return admin.retraining(job.model, job.id)


def test_a_better_candidate_goes_from_the_log_through_gate_and_rollout_into_production(
    servers: Servers,
) -> None:
    done = servers.said("retrain", "fitting", "--reason", "the world turned", "--wait", "--json")
    job = json.loads(done.stdout)
    assert (job["state"], job["ended"], job["champion"]) == ("done", "promoted", "v1")
    assert job["rows"]["trained"] + job["rows"]["held"] == ROWS
    with fairlead.Admin(servers.admin_url) as admin:
        version = admin.version("fitting", job["version"])
        assert version.stage == "production"
        lineage = version.spec["lineage"]
        assert lineage["retraining"] == job["id"]
        assert (lineage["parent"], lineage["cause"]) == ("v1", "the world turned")
        assert lineage["training_data"].startswith("log 20")
        assert admin.gate("fitting", job["gate"]).state == "passed"
        assert admin.contract("fitting", "v1") == admin.contract("fitting", job["version"])
        assert f"{job['rows']['trained']} rows" in admin.retraining_log("fitting", job["id"])
        assert {"retrain", "retrained"} <= {entry.action for entry in admin.audit("fitting")}
        assert not (servers.folder.root / "retraining" / job["id"]).exists()
        with pytest.raises(RetrainingRefused, match="cooldown"):
            admin.retrain("fitting")


def test_what_a_trainer_elsewhere_hands_in_goes_into_production_and_what_is_worse_is_archived(
    servers: Servers, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_JOB", str(tmp_path / "job.json"))
    with fairlead.Admin(servers.admin_url) as admin:
        first, task = by_hook(servers, hook, tmp_path, 1)
        assert (first.state, first.ended) == ("done", "promoted"), first.told
        assert first.rows is not None
        assert f"{first.rows.trained} rows came" in admin.retraining_log("elsewhere", first.id)
        assert admin.version("elsewhere", task["version"]).spec["lineage"]["retraining"] == first.id
        second, task = by_hook(servers, hook, tmp_path, -1)
        assert (second.state, second.ended, second.rollout) == ("done", "lost", None), second.told
        assert admin.version("elsewhere", task["version"]).stage == "archived"
        assert admin.production_at("elsewhere") == first.version


def by_hook(servers: Servers, hook: Receiver, folder: Path, sense: int) -> tuple[RetrainingJob, Any]:
    """A retraining as a trainer elsewhere does it, which learns what is true (1) or the opposite (-1)."""
    before = len(hook.posts)
    with fairlead.Admin(servers.admin_url) as admin:
        job = admin.retrain("elsewhere", force=True)
        wait_until(lambda: len(hook.posts) > before, 30)
        task = hook.messages()[-1]
        (folder / "job.json").write_text(json.dumps(task))
        rows = pd.read_parquet(io.BytesIO(admin.retraining_data("elsewhere", job.id, task["token"])))
        admin.say_in_retraining("elsewhere", job.id, task["token"], f"{len(rows)} rows came\n")
        fairlead.register(
            line_onnx((sense, sense)), "elsewhere", task["version"], reference=rows, target=task["target"],
            admin_url=task["admin_url"],
        )  # fmt: skip
        admin.hand_in("elsewhere", job.id, task["token"], version=task["version"])
    return over(servers, job), task


def mood(servers: Servers, told: str) -> None:
    """How the trainer of the moody model behaves from here on."""
    folder = servers.folder.root / "retraining"
    folder.mkdir(exist_ok=True)
    (folder / "pid").unlink(missing_ok=True)
    (folder / "mood").write_text(told)


def test_a_trainer_that_fails_leaves_its_words_in_the_log(servers: Servers) -> None:
    mood(servers, "failing")
    with fairlead.Admin(servers.admin_url) as admin:
        job = over(servers, admin.retrain("moody", force=True))
        assert job.state == "failed"
        assert job.error is not None
        assert "ended with status 1" in job.error
        assert "größe 💶 are odd" in servers.said("retrain", "moody", "--log", job.id).stdout
        assert "failed" in servers.said("retrain", "moody", "--list").stdout


def test_a_trainer_that_registers_nothing_has_failed(servers: Servers) -> None:
    mood(servers, "silent")
    with fairlead.Admin(servers.admin_url) as admin:
        job = over(servers, admin.retrain("moody", force=True))
        assert job.state == "failed"
        assert job.error is not None
        assert f"no version {job.version!r}" in job.error


@pytest.mark.drill
def test_a_trainer_ends_with_its_control_and_begins_anew_under_the_next_until_it_is_cancelled(
    servers: Servers,
) -> None:
    mood(servers, "waiting")
    with fairlead.Admin(servers.admin_url) as admin:
        job = admin.retrain("moody", force=True)
        first = working(servers)
        with pytest.raises(RetrainingRefused, match="is running"):
            admin.retrain("moody", force=True)
        rows = admin.retraining("moody", job.id).rows
        assert rows is not None
        seen = frozenset(values_of(servers.folder.root / "retraining" / job.id / "data.parquet"))
        held = frozenset(values_of(servers.folder.root / "artifacts" / rows.held_digest))
        assert (len(seen), len(held)) == (rows.trained, rows.held), "all rows differ"
        assert len(held) >= HELD
        assert not seen & held
        assert len(seen | held) == ROWS
        kill_control(servers)
        wait_until(lambda: has_ended(first), 20)
        second = working(servers, besides=first)
        assert admin.retraining("moody", job.id).attempt == 2
        servers.said("retrain", "moody", "--cancel", job.id)
        wait_until(lambda: has_ended(second), 20)
        assert admin.retraining("moody", job.id).state == "cancelled"
        wait_until(lambda: not (servers.folder.root / "retraining" / job.id).exists(), 20)
        with pytest.raises(RetrainingRefused, match="cancelled"):
            admin.cancel_retraining("moody", job.id)


def working(servers: Servers, besides: int | None = None) -> int:
    """The trainer's process, once it works."""

    def found() -> int | None:
        note = servers.folder.root / "retraining" / "pid"
        held = note.read_text() if note.exists() else ""
        return int(held) if held and int(held) != besides else None

    pid: int = wait_until(found, 60)
    return pid


def kill_control(servers: Servers) -> None:
    """Ends it as a crash does, and its leases, which would last for a while."""
    killed = servers.pid_of("control")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: has_ended(killed), 20)
    database = Database(f"sqlite:///{servers.folder.root}/fairlead.db")
    now = datetime.now(UTC)
    with database.write() as connection:
        for table in (leases, rollouts, gate_runs):
            lasting = table.c.held_until > now
            connection.execute(table.update().where(lasting).values(held_until=now))
    database.close()


def test_what_cannot_be_retrained_is_refused_by_name(servers: Servers) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        with pytest.raises(ModelNotFound):
            admin.retrain("nobody")
        with pytest.raises(RetrainingNotFound):
            admin.retraining("fitting", "größe")
        rows = np.random.default_rng(1).normal(size=(50, 2))
        fairlead.register(line_onnx((1.0, 0.0)), "plain", "v1", reference=rows, admin_url=servers.admin_url)
        with pytest.raises(InvalidRetraining, match="settings do not say"):
            admin.retrain("plain")
        assert admin.triggers("plain") == ()
        assert {one.model for one in admin.triggers()} == set(MODELS)
    assert servers.said("retrain", "plain", check=False).exit_code == 1
    assert servers.said("retrain", "plain", "--list", "--log", "x", check=False).exit_code == 2
