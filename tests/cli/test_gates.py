"""`fairlead gate` against a whole `fairlead up`, as a team's build runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_iris

import fairlead
from fairlead.cli.gates import _example
from fairlead.cli.main import fairlead as cli
from tests.models import FEATURES, iris_onnx
from tests.servers import Servers

GATE = """
data = "iris.csv"
target = "kind"
minimum_rows = 30

[[metrics]]
name = "accuracy"
margin = 0.1

[[tests]]
name = "a small flower is a setosa"
kind = "exact"
rows = [{ sepal_length = 5.1, sepal_width = 3.5, petal_length = 1.4, petal_width = 0.2 }]
expected = [0]
"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """One Fairlead, with iris v1 in production and v2 beside it."""
    folder = tmp_path_factory.mktemp("fairlead")
    data = load_iris(as_frame=True)
    table = data.data.set_axis(list(FEATURES), axis="columns").assign(kind=data.target)
    table.to_csv(folder / "iris.csv", index=False)
    with Servers(folder / "data", workers=1) as running:
        for version, seed in (("v1", 0), ("v2", 1)):
            (folder / "model.onnx").write_bytes(iris_onnx(seed))
            running.cli(
                "register", str(folder / "model.onnx"), "--model", "iris", "--version", version,
                "--reference", str(folder / "iris.csv"), "--target", "kind",
                *(["--set-production"] if version == "v1" else []),
            )  # fmt: skip
        yield running


@pytest.fixture
def place(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a gate and its rows, where the commands run."""
    (tmp_path / "gate.toml").write_text(GATE)
    (tmp_path / "iris.csv").write_bytes((servers.folder.root.parent / "iris.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(servers: Servers, *arguments: str, status: int = 0) -> Result:
    """Runs a command and expects that exit status."""
    environment = {"FAIRLEAD_ADMIN_URL": servers.admin_url, "NO_COLOR": "1", "COLUMNS": "140"}
    done = CliRunner(env=environment).invoke(cli, arguments)
    assert done.exit_code == status, done.output
    assert "Traceback" not in done.output
    return done


def answer(servers: Servers, *arguments: str, status: int = 0) -> Any:
    return json.loads(run(servers, *arguments, "--json", status=status).stdout)


def test_a_version_that_passes_ends_with_0_and_leaves_its_documents(servers: Servers, place: Path) -> None:
    told = run(servers, "gate", "iris", "v2", "--junit", "out/gate.xml", "--html", "out/gate.html")
    assert "v2 beside v1 passes" in told.stdout
    assert "a small flower is a setosa" in told.stdout
    assert ElementTree.parse(place / "out/gate.xml").getroot()[0].get("failures") == "0"
    assert (place / "out/gate.html").read_text("utf-8").startswith("<!doctype html>")
    assert "passed" in run(servers, "gates", "iris", "v2").stdout


def test_a_past_run_is_shown_again_with_its_documents(servers: Servers, place: Path) -> None:
    asked = answer(servers, "gate", "iris", "v2")
    again = run(servers, "gates", "iris", "--run", asked["id"], "--html", "again.html").stdout
    assert "a small flower is a setosa" in again
    assert (place / "again.html").read_text("utf-8").startswith("<!doctype html>")
    assert answer(servers, "gates", "iris", "--run", asked["id"]) == asked
    assert "name it with --run" in run(servers, "gates", "iris", "--html", "x.html", status=2).stderr
    run(servers, "gates", "iris", "--run", "nobody", status=1)


def test_a_version_that_fails_ends_with_1_and_is_deployed_only_with_a_reason(
    servers: Servers, place: Path
) -> None:
    (place / "gate.toml").write_text(GATE.replace("expected = [0]", "expected = [2]"))
    report = answer(servers, "gate", "iris", "v2", "--junit", "gate.xml", status=1)["report"]
    assert not report["passed"]
    assert ElementTree.parse(place / "gate.xml").getroot()[0].get("failures") == "1"
    refused = run(servers, "deploy", "iris", "v2", "--strategy", "blue-green", status=1)
    assert "The gate of 'iris' is closed for 'v2'" in refused.stderr
    assert "--override" in refused.stderr
    run(servers, "deploy", "iris", "v2", "--strategy", "blue-green", "--override", "the row is wrong")
    assert "the row is wrong" in run(servers, "audit", "iris").stdout
    run(servers, "rollback", "iris")


def test_another_file_of_rows_takes_the_place_of_the_gates_own(servers: Servers, place: Path) -> None:
    lines = (place / "iris.csv").read_text().splitlines()
    (place / "fewer.csv").write_text("\n".join(lines[:1] + lines[1::2]))
    found = answer(servers, "gate", "iris", "v2", "--data", "fewer.csv")
    assert found["report"]["rows"] == 75


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("data = [", (), "gate.toml cannot be read"),
        ('data = "away.csv"', (), "There is no away.csv, which it names as data"),
        (GATE, ("--file", "none.toml"), "none.toml"),
        (GATE, ("--data", "none.csv"), "none.csv"),
    ],
)
def test_a_gate_that_cannot_be_read_is_wrong_usage(
    servers: Servers, place: Path, text: str, arguments: tuple[str, ...], said: str
) -> None:
    (place / "gate.toml").write_text(text)
    assert said in run(servers, "gate", "iris", "v2", *arguments, status=2).stderr


def test_a_gate_that_asks_nonsense_is_refused_with_the_nearest_key(servers: Servers, place: Path) -> None:
    (place / "gate.toml").write_text(GATE.replace("margin", "margn"))
    refused = run(servers, "gate", "iris", "v2", status=1)
    assert "Unknown key 'margn' in metrics[0]" in refused.stderr
    (place / "gate.toml").write_text(GATE.replace("kind", "art", 1))
    told = run(servers, "gate", "iris", "v2", status=1)
    assert "The gate ended: error" in told.stdout
    assert "no column 'art'" in told.stdout


def test_traffic_is_replayed_and_closes_the_gate_where_too_much_changes(
    servers: Servers, place: Path
) -> None:
    with fairlead.Client(servers.url) as client:
        rows = [dict(zip(FEATURES, row, strict=True)) for row in load_iris().data.tolist()]
        client.predict_batch("iris", rows, request_id="traffic")
    (place / "gate.toml").write_text('[replay]\nsince = "1h"\nchanged = 0.2\n')
    passed = answer(servers, "gate", "iris", "v2")["report"]["checks"]
    replayed = {check["name"]: check for check in passed if check["group"] == "replay"}
    assert {check["status"] for check in replayed.values()} == {"passed"}
    assert replayed["errors"]["numbers"]["answered"] == len(rows)
    assert 0 < (changed := replayed["changed"]["numbers"]["changed"]) < 30
    (place / "gate.toml").write_text('[replay]\nsince = "1h"\nchanged = 0.0\n')
    told = run(servers, "gate", "iris", "v2", "--html", "gate.html", "--junit", "gate.xml", status=1)
    assert f"{changed:g} would be answered otherwise" in " ".join(told.stdout.split())
    page = (place / "gate.html").read_text("utf-8")
    assert "Logged traffic" in page
    assert "traffic" in page.partition("Logged traffic")[2]
    cases = {case.get("name"): case for case in ElementTree.parse(place / "gate.xml").iter("testcase")}
    assert cases["changed"].get("classname") == "gate.replay"
    assert cases["changed"].find("failure") is not None
    (place / "gate.toml").write_text('inconclusive = "pass"\nreplay = { limit = 100000, least = 100000 }')
    found = answer(servers, "gate", "iris", "v2")["report"]["checks"]
    assert {check["status"] for check in found if check["group"] == "replay"} == {"inconclusive"}


def test_a_case_of_many_fields_is_told_in_a_line_by_the_fields_that_were_changed() -> None:
    row = {f"field_{number}": number for number in range(30)}
    case = {"row": row, "changed": {"field_7": 99}, "why": "0.1 became 0.4"}
    assert _example(case) == "0.1 became 0.4; row: field_7 7; changed: field_7 99"
    assert _example({"row": row}).endswith("field_4 4, …")
    assert _example({"field": "age", "why": "too high"}) == "too high; field: age"
