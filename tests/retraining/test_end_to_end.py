"""Retraining by a whole `fairlead up`: from labelled traffic to a candidate that is let through, or not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

import fairlead
from fairlead.client.retraining import RetrainingJob
from fairlead.errors import InvalidRetraining, ModelNotFound, RetrainingNotFound, RetrainingRefused
from tests.alerts.receiver import Receiver
from tests.servers import Servers
from tests.waiting import wait_until

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
MODELS = ("fitting", "contrary", "failing", "silent", "waiting", "elsewhere")


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
    with (
        Servers(place / "data", workers=1, FAIRLEAD_CONFIG=str(config)) as running,
        fairlead.Client(running.url) as client,
    ):
        for name in MODELS:
            # The one that is to be beaten errs on every row, the other on none.
            learnt = truth if name == "contrary" else 1 - truth
            champion = LogisticRegression().fit(rows, learnt)
            fairlead.register(
                champion, name, "v1", reference=rows, set_production=True, admin_url=running.admin_url
            )
            wait_until(lambda name=name: answers(client, name), 20)
            for row, known in zip(rows.to_dict("records"), truth.tolist(), strict=True):
                answer = client.predict(name, row)
                client.outcome(answer.request_id, "label", known, model=name)
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
    done = servers.cli("retrain", "fitting", "--reason", "the world turned", "--wait", "--json")
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


def test_a_trainer_elsewhere_fetches_its_rows_and_hands_in_what_goes_into_production(
    servers: Servers, hook: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        job = admin.retrain("elsewhere")
        wait_until(lambda: hook.posts, 30)
        (task,) = hook.messages()
        (tmp_path / "job.json").write_text(json.dumps(task))
        monkeypatch.setenv("FAIRLEAD_JOB", str(tmp_path / "job.json"))
        token = task["token"]
        rows = pd.read_parquet(io.BytesIO(admin.retraining_data("elsewhere", job.id, token)))
        admin.say_in_retraining("elsewhere", job.id, token, f"{len(rows)} rows came\n")
        model = LogisticRegression().fit(rows[task["features"]], rows[task["target"]])
        fairlead.register(
            model, "elsewhere", task["version"], reference=rows, target=task["target"],
            admin_url=task["admin_url"],
        )  # fmt: skip
        admin.hand_in("elsewhere", job.id, token, version=task["version"])
        done = over(servers, job)
        assert (done.state, done.ended) == ("done", "promoted"), done.told
        assert done.rows is not None
        assert f"{done.rows.trained} rows came" in admin.retraining_log("elsewhere", job.id)
        assert admin.version("elsewhere", task["version"]).spec["lineage"]["retraining"] == job.id


def test_a_candidate_that_is_worse_is_archived_and_production_stays(servers: Servers) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        job = over(servers, admin.retrain("contrary"))
        assert (job.state, job.ended, job.rollout) == ("done", "lost", None)
        assert admin.version("contrary", job.version).stage == "archived"
        assert admin.production_at("contrary") == "v1"
        assert admin.triggers("contrary")[0].sentence == "Nothing asks for it."


def test_a_trainer_that_fails_leaves_its_words_in_the_log(servers: Servers) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        job = over(servers, admin.retrain("failing"))
        assert job.state == "failed"
        assert job.error is not None
        assert "ended with status 1" in job.error
        assert "größe 💶 are odd" in servers.cli("retrain", "failing", "--log", job.id).stdout
        assert "failed" in servers.cli("retrain", "failing", "--list").stdout


def test_a_trainer_that_registers_nothing_has_failed(servers: Servers) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        job = over(servers, admin.retrain("silent"))
        assert job.state == "failed"
        assert job.error is not None
        assert f"no version {job.version!r}" in job.error


def test_a_trainer_that_is_cancelled_is_gone_and_the_job_stays_cancelled(servers: Servers) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        job = admin.retrain("waiting")
        note = servers.folder.root / "retraining" / "pid"
        pid = int(wait_until(lambda: note.exists() and note.read_text(), 30))
        with pytest.raises(RetrainingRefused, match="is running"):
            admin.retrain("waiting", force=True)
        rows = admin.retraining("waiting", job.id).rows
        assert rows is not None
        seen = frozenset(values_of(servers.folder.root / "retraining" / job.id / "data.parquet"))
        held = frozenset(values_of(servers.folder.root / "artifacts" / rows.held_digest))
        assert (len(seen), len(held)) == (rows.trained, rows.held), "all rows differ"
        assert len(held) >= HELD
        assert not seen & held
        assert len(seen | held) == ROWS
        servers.cli("retrain", "waiting", "--cancel", job.id)
        wait_until(lambda: not psutil.pid_exists(pid), 15)
        assert admin.retraining("waiting", job.id).state == "cancelled"
        with pytest.raises(RetrainingRefused, match="cancelled"):
            admin.cancel_retraining("waiting", job.id)


def test_what_cannot_be_retrained_is_refused_by_name(servers: Servers) -> None:
    with fairlead.Admin(servers.admin_url) as admin:
        with pytest.raises(ModelNotFound):
            admin.retrain("nobody")
        with pytest.raises(RetrainingNotFound):
            admin.retraining("fitting", "größe")
        rows = np.random.default_rng(1).normal(size=(50, 2))
        fairlead.register(
            LogisticRegression().fit(rows, rows[:, 0] > 0), "plain", "v1", reference=rows,
            admin_url=servers.admin_url,
        )  # fmt: skip
        with pytest.raises(InvalidRetraining, match="settings do not say"):
            admin.retrain("plain")
        assert admin.triggers("plain") == ()
        assert {one.model for one in admin.triggers()} == set(MODELS)
    assert servers.cli("retrain", "plain", check=False).returncode == 1
    assert servers.cli("retrain", "plain", "--list", "--log", "x", check=False).returncode == 2
