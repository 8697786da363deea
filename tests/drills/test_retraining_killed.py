"""Control is killed while a trainer works: the trainer ends at once, and its work begins anew, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.linear_model import LogisticRegression

import fairlead
from tests.servers import Servers
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

SETTINGS = """
[trainers.waiting]
callable = "tests.retraining.trainers:waiting"
folder = "{root}"
nice = 0
[retraining.shop]
trainer = "waiting"
least = 20
"""


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    config = tmp_path / "fairlead.toml"
    config.write_text(SETTINGS.format(root=Path(__file__).parents[2]))
    rows = pd.DataFrame(np.random.default_rng(3).normal(size=(60, 1)), columns=["x"])
    truth = (rows["x"] > 0).astype(int)
    with Servers(tmp_path / "data", workers=1, FAIRLEAD_CONFIG=str(config)) as running:
        fairlead.register(
            LogisticRegression().fit(rows, truth), "shop", "v1", reference=rows, set_production=True,
            admin_url=running.admin_url,
        )  # fmt: skip
        with fairlead.Client(running.url) as client:
            for row, known in zip(rows.to_dict("records"), truth.tolist(), strict=True):
                answer = wait_until(lambda row=row: answer_of(client, row), 20)
                client.outcome(answer.request_id, "label", known, model="shop")
        yield running


def answer_of(client: fairlead.Client, row: dict[str, float]) -> object:
    try:
        return client.predict("shop", row)
    except fairlead.FairleadError:
        return None


def test_a_trainer_ends_with_its_control_and_begins_anew_under_the_next(servers: Servers) -> None:
    note = servers.folder.root / "retraining" / "pid"
    with fairlead.Admin(servers.admin_url) as admin:
        job = admin.retrain("shop")
        first = int(wait_until(lambda: note.exists() and note.read_text(), 30))
        os.kill(servers.pid_of("control"), signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(first), 5)

        def worked() -> int | None:
            held = note.read_text() if note.exists() else ""
            return int(held) if held and int(held) != first else None

        second = wait_until(worked, 60)
        assert admin.retraining("shop", job.id).attempt == 2
        assert len(admin.retrainings("shop")) == 1
        admin.cancel_retraining("shop", job.id)
        wait_until(lambda: not psutil.pid_exists(second), 15)
    assert not (servers.folder.root / "retraining" / job.id / "held-out.parquet").exists()
