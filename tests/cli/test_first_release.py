"""A stranger's first day: `fairlead init`, then the script of the workflow that it wrote, word for word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fairlead.cli.documents import read_document
from tests.servers import Servers


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with Servers(tmp_path_factory.mktemp("first") / "data", workers=1) as running:
        yield running


def buyers(count: int, seed: int) -> pd.DataFrame:
    """Customers, and whether they bought: the more they have ordered, the likelier."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.uniform(18, 80, count).round(1),
            "country": rng.choice(["DE", "FR", "IT"], count),
            "orders": rng.poisson(3, count),
        }
    )
    chance = 1 / (1 + np.exp(2.6 - 0.9 * table.orders - 0.005 * (table.age - 45)))
    return table.assign(bought=(rng.uniform(size=count) < chance).astype(int))


def train(folder: Path, seed: int, *, upside_down: bool = False) -> None:
    """What a team's train.py leaves: model.onnx and held-out.csv."""
    rows = buyers(4_000, seed)
    if upside_down:
        rows.bought = 1 - rows.bought
    encoded = make_column_transformer((StandardScaler(), ["age", "orders"]), (OneHotEncoder(), ["country"]))
    fitted = make_pipeline(encoded, LogisticRegression()).fit(rows.drop(columns="bought"), rows.bought)
    types = [
        ("age", FloatTensorType([None, 1])),
        ("country", StringTensorType([None, 1])),
        ("orders", Int64TensorType([None, 1])),
    ]
    converted = convert_sklearn(fitted, initial_types=types, options={"zipmap": False}, target_opset=17)
    (folder / "model.onnx").write_bytes(converted.SerializeToString())
    buyers(3_000, 99).to_csv(folder / "held-out.csv", index=False)


def release(servers: Servers, folder: Path, version: str) -> subprocess.CompletedProcess[str]:
    """Runs the script of the workflow as its runner does."""
    workflow = read_document(folder / ".github/workflows/shop.yml")
    (script,) = [
        step["run"] for step in workflow["jobs"]["release"]["steps"] if "fairlead gate" in step.get("run", "")
    ]
    own = {"FAIRLEAD_ADMIN_URL": servers.admin_url, "VERSION": version}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=servers.environment | own | {"PATH": path},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_first_two_releases_pass_as_they_were_written_and_a_bad_third_stops(
    servers: Servers, tmp_path: Path
) -> None:
    servers.cli("init", "--model", "shop", str(tmp_path))
    train(tmp_path, seed=1)
    first = release(servers, tmp_path, "v1")
    # It passed its gate, and no version is there yet that a rollout could compare it with: one more command,
    # which the workflow names.
    assert first.returncode == 1
    assert "v1 passes" in first.stdout
    assert "Deploy it directly" in first.stderr
    named = "fairlead deploy shop v1 --strategy direct"
    assert named in (tmp_path / ".github/workflows/shop.yml").read_text()
    servers.cli(*named.split()[1:])

    train(tmp_path, seed=2)
    second = release(servers, tmp_path, "v2")
    assert second.returncode == 0, second.stdout + second.stderr
    assert (tmp_path / "gate.xml").read_text().count("<failure") == 0
    assert (tmp_path / "gate.html").read_text().startswith("<!doctype html>")
    report = json.loads(servers.cli("gates", "shop", "v2", "--json").stdout)[0]["report"]
    groups = {check["group"] for check in report["checks"]}
    assert groups >= {"compatibility", "answers", "metric", "slice", "test", "budget"}
    whole = [check for check in report["checks"] if check["group"] != "slice"]  # small slices tell little
    assert {check["status"] for check in whole} == {"passed"}
    rollouts = json.loads(servers.cli("rollouts", "shop", "--json").stdout)
    assert rollouts[0]["candidate"] == "v2"

    train(tmp_path, seed=3, upside_down=True)
    third = release(servers, tmp_path, "v3")
    assert third.returncode == 1
    assert "v3 beside v1 does not pass" in " ".join(third.stdout.split())
    assert (tmp_path / "gate.xml").read_text().count("<failure") > 0
    assert json.loads(servers.cli("rollouts", "shop", "--json").stdout)[0]["candidate"] == "v2"
