"""`fairlead replay` against a whole `fairlead up`: every kind of model gives the same bits again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.tree import DecisionTreeClassifier

import fairlead
from fairlead.cli.main import fairlead as cli
from fairlead.client.admin import Admin
from fairlead.client.http import Client
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.document import to_toml
from fairlead.errors import (
    Cancelled,
    InvalidQuery,
    NotExplainable,
    RecordNotFound,
    ReplayNotFound,
    VersionNotFound,
)
from tests.servers import Servers
from tests.waiting import wait_until

ROWS = 80
RANKING = """
import numpy as np
def model(columns):
    order = np.argsort(-np.outer(columns["day"], [1.0, 2.0, 3.0]) % 2.3, axis=1)
    scores = -np.sort(-np.outer(columns["day"], [1.0, 2.0, 3.0]) % 2.3, axis=1) / 3
    return {"ids": order, "scores": scores}
"""
RANKED = Contract(
    inputs=(Field(name="day", type="float"),),
    output=Output(kind="ranking", length=3, items=("ann", "bob", "zoë")),
)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "age": rng.uniform(18, 90, ROWS).round(2),
            "visits": rng.integers(0, 40, ROWS),
        }
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> Iterator[Servers]:
    """One Fairlead with a classifier of two versions, a regressor, a pickle and a ranking."""
    folder = tmp_path_factory.mktemp("fairlead")
    with Servers(folder / "data", workers=2, FAIRLEAD_TRUST_PICKLE="true") as running:
        for version, threshold in (("v1", 50), ("v2", 40)):
            kind = np.array(["buys", "leaves"])[(table.age > threshold).astype(int)]
            tree = DecisionTreeClassifier(random_state=0).fit(table, kind)
            fairlead.register(
                tree, "classes", version, reference=table, target=kind, admin_url=running.admin_url,
                set_production=version == "v1",
            )  # fmt: skip
        boosted = GradientBoostingRegressor(random_state=0).fit(table, table.age * 1.7)
        fairlead.register(
            boosted, "numbers", "v1", reference=table, target=table.age, admin_url=running.admin_url,
            set_production=True,
        )  # fmt: skip
        fairlead.register(
            boosted, "pickled", "v1", reference=table, target=table.age, admin_url=running.admin_url,
            trust_pickle=True, set_production=True,
        )  # fmt: skip
        source = folder / "ranking"
        source.mkdir()
        (source / "ranked.py").write_text(RANKING)
        (source / "model.pkl").write_bytes(b"cranked\nmodel\n.")
        fairlead.register(
            source, "ranked", "v1", contract=to_toml(RANKED), trust_pickle=True, set_production=True,
            admin_url=running.admin_url,
        )  # fmt: skip
        yield running


@pytest.fixture
def admin(servers: Servers) -> Iterator[Admin]:
    with Admin(servers.admin_url) as client:
        yield client


@pytest.fixture
def client(servers: Servers) -> Iterator[Client]:
    with Client(servers.url) as asking:
        yield asking


def run(servers: Servers, *arguments: str, status: int = 0, command: str = "replay") -> Result:
    addresses = {"FAIRLEAD_URL": servers.url, "FAIRLEAD_ADMIN_URL": servers.admin_url, "NO_COLOR": "1"}
    done = CliRunner(env={**addresses, "COLUMNS": "160"}).invoke(cli, [command, *arguments])
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")


@pytest.mark.parametrize("model", ["classes", "numbers", "pickled", "ranked"])
def test_every_kind_of_model_gives_the_same_bits_again(
    model: str, servers: Servers, admin: Admin, client: Client, table: pd.DataFrame
) -> None:
    rows = rows_of(table) if model != "ranked" else [{"day": n / 7} for n in range(ROWS)]
    batch = client.predict_batch(model, rows, request_id=f"{model}-batch")
    assert len(batch) == ROWS
    found = admin.replay(f"{model}-batch")
    assert [replayed.row for replayed in found] == list(range(ROWS))
    assert {(replayed.verdict, replayed.version) for replayed in found} == {("identical", "v1")}
    assert all(replayed.same_runtime for replayed in found)
    assert all(
        replayed.replayed and replayed.replayed.runtime == replayed.logged.runtime for replayed in found
    )


@pytest.mark.parametrize("model", ["classes", "numbers"])
def test_a_single_prediction_gives_the_same_bits_again(
    model: str, servers: Servers, admin: Admin, client: Client, table: pd.DataFrame
) -> None:
    (row,) = rows_of(table[3:4])
    answer = client.predict(model, row, request_id=f"{model}/alone?#1", return_probabilities=True)
    (found,) = admin.replay(answer.request_id)
    assert found.verdict == "identical"
    assert found.replayed is not None
    assert found.replayed.prediction == answer.prediction == found.logged.prediction
    assert found.replayed.probabilities == answer.probabilities
    (one,) = json.loads(run(servers, answer.request_id, "--row", "0", "--json").stdout)
    assert (one["row"], one["verdict"], one["largest_difference"]) == (0, "identical", 0.0)


@pytest.mark.parametrize("model", ["classes", "numbers", "pickled"])
def test_a_request_is_explained_by_what_the_model_goes_by(
    model: str, servers: Servers, admin: Admin, client: Client
) -> None:
    answer = client.predict(model, {"age": 80.5, "visits": 3}, request_id=f"why/{model}?#1")
    told = run(servers, answer.request_id, command="explain").stdout
    found = json.loads(run(servers, answer.request_id, "--json", command="explain").stdout)
    assert found["sentence"] in " ".join(told.split())
    age, visits = found["features"]
    assert (age["feature"], age["value"], visits["value"]) == ("age", 80.5, 3)
    assert age["contribution"] > 10 * abs(visits["contribution"])
    assert found["base"] + age["contribution"] + visits["contribution"] == pytest.approx(found["value"])
    assert found["agrees"]
    assert admin.explain(answer.request_id).explained_at.isoformat()[:19] == found["explained_at"][:19]


def test_what_a_version_goes_by_came_with_it_and_is_shown(servers: Servers, admin: Admin) -> None:
    found = json.loads(run(servers, "classes", "--version", "v1", "--json", command="importance").stdout)
    before = found["reference"]["features"]
    assert before["age"]["share"] > 0.9 > 0.1 > before["visits"]["share"]
    shown = run(servers, "numbers", command="importance").stdout
    assert "on training data" in shown
    with pytest.raises(NotExplainable, match="answers a ranking"):
        admin.importance("ranked")


def test_what_cannot_be_explained_is_refused_with_the_reason(
    servers: Servers, admin: Admin, client: Client
) -> None:
    client.predict("ranked", {"day": 0.5}, request_id="order")
    with pytest.raises(NotExplainable, match="is a ranking"):
        admin.explain("order")
    assert "There is no record" in run(servers, "nobody", command="explain", status=1).stderr
    client.predict_batch("classes", [{"age": 20.5, "visits": 1}] * 2, request_id="two")
    assert "has 2 rows" in run(servers, "two", command="explain", status=1).stderr
    assert admin.explain("two", row=1).row == 1


@pytest.mark.parametrize(
    "request_id",
    ["a/b", "/a", "a/", "sql/x", "replay/", "a?b#c", "../models", "a/../b", "%2F"],
)
def test_a_record_is_found_and_replayed_whatever_characters_its_request_id_has(
    request_id: str, admin: Admin, client: Client
) -> None:
    client.predict("classes", {"age": 30.5, "visits": 2}, request_id=request_id)
    (record,) = admin.record(request_id)
    assert record["request_id"] == request_id
    assert admin.replay(request_id)[0].request_id == request_id


def test_rows_that_came_as_arrays_give_the_same_bits_again(
    servers: Servers, admin: Admin, table: pd.DataFrame
) -> None:
    for model in ("classes", "numbers", "pickled"):
        columns = {"age": ("FP64", table.age.tolist()), "visits": ("INT64", table.visits.tolist())}
        document = admin.version(model, "v1").spec["runtime"]
        if document["binding"] == "matrix":
            values = table.to_numpy(np.float32).tolist()
            tensor = document["inputs"][0]
            sent = [
                {
                    "name": tensor["name"], "datatype": "FP32" if tensor["dtype"] == "float32" else "FP64",
                    "shape": [ROWS, 2], "data": values,
                }
            ]  # fmt: skip
        else:
            kinds = {tensor["name"]: tensor["dtype"] for tensor in document["inputs"]}
            names = {"float32": "FP32", "float64": "FP64", "int64": "INT64"}
            sent = [
                {"name": name, "datatype": names[kinds[name]], "shape": [ROWS, 1], "data": values}
                for name, (_, values) in columns.items()
            ]
        identifier = f"v2-{model}"
        body = json.dumps({"id": identifier, "inputs": sent}).encode()
        request = urllib.request.Request(f"{servers.url}/v2/models/{model}/infer", body)
        with urllib.request.urlopen(request) as answered:
            assert answered.status == 200
        found = admin.replay(identifier)
        assert len(found) == ROWS
        assert {replayed.verdict for replayed in found} == {"identical"}, found[0]


def test_a_replay_leaves_no_trace_in_the_log_and_is_shown_to_people(
    servers: Servers, admin: Admin, client: Client
) -> None:
    client.predict("classes", {"age": 44.5, "visits": 3}, request_id="traceless")
    done = run(servers, "traceless")
    assert "✓ identical" in done.stdout
    assert "traceless#0" in done.stdout
    assert len(admin.record("traceless")) == 1
    with pytest.raises(RecordNotFound, match="'nobody'"):
        admin.replay("nobody")
    assert "no record" in run(servers, "nobody", status=1).stderr
    assert "row 9" in run(servers, "traceless", "--row", "9", status=1).stderr


def test_a_refused_request_is_refused_again_for_the_same_reason(
    servers: Servers, admin: Admin, client: Client
) -> None:
    with pytest.raises(fairlead.FairleadError):
        client.predict("classes", {"age": "old", "visits": 3.5, "colour": 1}, request_id="refused")
    wait_until(lambda: admin.sql("SELECT 1 FROM predictions WHERE request_id = 'refused'").rows)
    (found,) = admin.replay("refused")
    assert found.verdict == "identical"
    assert found.replayed is not None
    rules = {(each["field"], each["rule"]) for each in found.replayed.violations}
    assert rules == {("age", "type"), ("visits", "type"), ("colour", "unknown")}


def test_a_candidate_is_told_by_exactly_the_rows_that_it_would_flip(
    servers: Servers, admin: Admin, client: Client, table: pd.DataFrame
) -> None:
    rows = rows_of(table)
    for index, row in enumerate(rows):
        client.predict("classes", row, request_id=f"flip-{index}", unit=f"unit-{index % 9}")
    condition = ["--where", "request_id LIKE 'flip-%' AND at > now() - INTERVAL 1 HOUR"]
    done = run(
        servers, "classes", "--against", "v2", "--since", "1h", "--examples", "100", *condition, "--json"
    )
    report = json.loads(done.stdout)
    flipped = {example["request_id"] for example in report["examples"] if example["kind"] == "changed"}
    between = {f"flip-{index}" for index, row in enumerate(rows) if 40 < row["age"] <= 50}
    assert between
    assert flipped == between
    assert (report["records"], report["compared"], report["changed"]) == (ROWS, ROWS, len(between))
    assert report["changed_share"] == len(between) / ROWS
    assert report["against"] == {"v1": ROWS}
    pairs = {(entry["answered"], entry["shadow"]): entry["rows"] for entry in report["confusion"]}
    assert pairs == {
        ("buys", "buys"): sum(row["age"] <= 40 for row in rows),
        ("buys", "leaves"): len(between),
        ("leaves", "leaves"): sum(row["age"] > 50 for row in rows),
    }
    assert report["latency"]["p99_ms"] > 0
    assert report["failed"] == report["rejected"] == report["not_replayable"] == {}
    shown = run(servers, "classes", "--against", "v2", *condition)
    assert f"{len(between)} of {ROWS}" in shown.stdout
    assert next(iter(between)) in shown.stdout
    nothing = run(servers, "classes", "--against", "v1", "--where", "request_id = 'nobody'")
    assert "No requests of classes" in nothing.stdout
    same = json.loads(run(servers, "classes", "--against", "v1", *condition, "--limit", "7", "--json").stdout)
    assert (same["changed"], same["compared"], same["truncated"]) == (0, 7, True)


def test_what_cannot_be_replayed_is_refused_with_the_reason(servers: Servers, admin: Admin) -> None:
    with pytest.raises(VersionNotFound):
        admin.start_replay("classes", "v9")
    with pytest.raises(InvalidQuery):
        admin.replay_report(admin.start_replay("classes", "v2", where="nonsense = 1").id)
    with pytest.raises(ReplayNotFound):
        admin.replay_job("nobody")
    ended = admin.start_replay("classes", "v2", where="request_id = 'nobody'")
    assert admin.replay_report(ended.id).records == 0
    assert admin.cancel_replay(ended.id).state == "done"
    running = admin.start_replay("classes", "v2")
    assert admin.cancel_replay(running.id).state == "cancelled"
    with pytest.raises(Cancelled):
        admin.replay_report(running.id)
    for wrong in (
        ["classes", "--since", "1h"],
        ["classes", "--against", "v2", "--row", "1"],
        ["classes", "--limit", "0"],
    ):
        run(servers, *wrong, status=2)
    late = run(servers, "classes", "--against", "v2", "--since", "yesterday", status=1)
    assert "neither a span nor a point of time" in late.stderr


def test_who_interrupts_the_command_ends_the_replay(servers: Servers, admin: Admin, client: Client) -> None:
    client.predict_batch("ranked", [{"day": n / 7} for n in range(ROWS)])
    folder = servers.folder.root.parent / "slowly"
    folder.mkdir()
    (folder / "ranked.py").write_text(
        RANKING.replace("def model(columns):", "def model(columns):\n    wait()")
    )
    (folder / "ranked.py").open("a").write("def wait():\n    import time; time.sleep(0.2)\n")
    (folder / "model.pkl").write_bytes(b"cranked\nmodel\n.")
    fairlead.register(
        folder, "ranked", "v2", contract=to_toml(RANKED), trust_pickle=True, admin_url=servers.admin_url
    )
    wait_until(lambda: not servers.scoring(), 60)  # what an earlier test cancelled may still be ending
    command = [sys.executable, "-m", "fairlead", "replay", "ranked", "--against", "v2"]
    waiting = subprocess.Popen(
        command, env=servers.environment | {"FAIRLEAD_ADMIN_URL": servers.admin_url},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        wait_until(servers.scoring, 30)
        waiting.send_signal(signal.SIGINT)
        said, _ = waiting.communicate(timeout=30)
    finally:
        waiting.kill()
        waiting.wait()
    assert waiting.returncode != 0, said
    assert "Traceback" not in said
    assert "changed" not in said
    wait_until(lambda: not servers.scoring(), 60)
    ended = admin.start_replay("ranked", "v1")
    assert admin.replay_report(ended.id).compared > 0
