"""Drift by a whole `fairlead up`: shifted traffic, the field is named, and who is to be told hears of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

import fairlead
from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.document import to_toml
from fairlead.contracts.infer import infer_contract
from fairlead.contracts.table import read_table
from tests.alerts.receiver import Receiver
from tests.servers import Servers
from tests.waiting import wait_until

ALERTS = """
[channels.ops]
type = "webhook"
url_env = "OPS_URL"
[delivery]
hosts = ["127.0.0.1"]
private = ["127.0.0.0/8"]
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def servers(tmp_path: Path, receiver: Receiver) -> Iterator[Servers]:
    (tmp_path / "alerts.toml").write_text(ALERTS)
    own = {"FAIRLEAD_ALERTS_FILE": str(tmp_path / "alerts.toml"), "OPS_URL": receiver.url}
    with Servers(tmp_path / "data", workers=1, FAIRLEAD_DRIFT_LOOK_SECONDS="1", **own) as running:
        yield running


def people(random: np.random.Generator, rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "größe": random.normal(1.7, 0.1, rows),
            "age": random.normal(40.0, 10.0, rows),
            "plan": random.integers(0, 2, rows),
        }
    )


def contract_of(rows: pd.DataFrame) -> Contract:
    """What callers send, with the plan as a slice."""
    found = infer_contract(read_table(rows), output=Output(kind="class", classes=(False, True)))
    fields = (msgspec.structs.replace(one, slice=one.name == "plan") for one in found.inputs)
    return Contract(inputs=tuple(fields), output=found.output)


def answers(client: fairlead.Client, rows: pd.DataFrame) -> bool:
    try:
        return bool(client.predict_batch("shop", rows.to_dict("records")).predictions)
    except fairlead.FairleadError:
        return False


def test_a_field_that_shifts_is_named_alarms_and_is_told_of_while_its_neighbour_is_not(
    servers: Servers, receiver: Receiver
) -> None:
    random = np.random.default_rng(5)
    trained = people(random, 2_000)
    # It asks for the other field alone, so that its answers stay as they were.
    model = DecisionTreeClassifier(max_depth=1).fit(trained, trained["größe"] > 1.7)
    fairlead.register(
        model, "shop", "v1", reference=trained, contract=to_toml(contract_of(trained)), set_production=True,
        admin_url=servers.admin_url,
    )  # fmt: skip
    shifted = people(random, 400)
    shifted["age"] *= 12.0  # months, where years were meant
    with fairlead.Client(servers.url) as client:
        wait_until(lambda: answers(client, shifted), 20)

    def about_drift() -> list[dict[str, object]]:
        told = [message for message in receiver.messages() if message["rule"] == "drift"]
        return [alert for message in told for alert in message["alerts"]]

    heard = wait_until(about_drift, 20)
    assert {alert["finding"]["subject"] for alert in heard} == {"age"}
    told = json.loads(servers.cli("drift", "shop", "--json").stdout)
    assert {one["subject"] for one in told["found"] if one["status"] == "alarm"} == {"age"}
    within = [one for one in told["found"] if (one["slice"], one["subject"]) == ("plan=1", "age")]
    assert "alarm" in {one["status"] for one in within}
    assert 900 < within[0]["reference_n"] < 1_100
    assert "drifted from the training data of v1: age (median 40" in servers.cli("drift", "shop").stdout
    shown = servers.cli("alerts").stdout
    assert "age" in shown
    assert "größe" not in shown
