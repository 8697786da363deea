"""Experiments through the admin API, the Python client and the command line, over a real ingest process."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import uvicorn

from fairlead.cli.main import fairlead
from fairlead.client.admin import Admin
from fairlead.errors import ExperimentNotFound
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.process import RESOLVED
from fairlead.rollouts.controller import Controller
from fairlead.rollouts.traffic import Traffic
from fairlead.routing import plans
from fairlead.routing.assign import slot_of
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.admin.conftest import Api
from tests.admin.test_predictions import _answers
from tests.predictions.records import SCHEMA, make_outcome, make_record
from tests.rollouts.fakes import FakeFleet
from tests.waiting import wait_until

NOW = datetime.now(UTC)
AB = {
    "strategy": "ab",
    "steps": [{"weight": 50, "deadline": "30d"}, {"weight": 100}],
    "metrics": [{"name": "conversion", "kind": "goal", "higher_is": "better"}],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """`shop` with an A/B rollout of v2 under way, 600 customers, and v2 converting twice as often."""
    root = tmp_path_factory.mktemp("experiments")
    settings = Settings(data=str(root / "data"))
    database = Database(settings.database)
    settings.folder.mkdir()
    database.migrate()
    api = Api(database, Blobs(settings.artifacts), settings)
    api.versions("v1", "v2")
    traffic = Traffic(database, api.registry, settings)
    with FakeFleet(database, "g0").running(), api.http:
        direct = {"version": "v1", "strategy": "direct"}
        assert api.call("POST", "/models/shop/deploy", direct)[0] == 200
        controller = Controller(database, traffic, api.folder.counters, name="c")
        controller.start()
        # Before ingest is there: it would say that nothing has measured a conversion so far.
        started = {"version": "v2", "strategy": "ab", "plan": AB}
        assert api.call("POST", "/models/shop/rollouts", started)[0] == 200
        controller.stop()
        process = subprocess.Popen(
            [sys.executable, "-m", "fairlead.process", "ingest"],
            env={**os.environ, RESOLVED: msgspec.json.encode(settings).decode()},
        )
        try:
            wait_until(lambda: _answers(IngestClient(api.folder.ingest_socket)), 30)
            _write(api, database)
            yield api
        finally:
            process.terminate()
            process.wait(30)
            database.close()


def _write(api: Api, database: Database) -> None:
    with database.read() as connection:
        plan = plans.active(connection, "shop")
    assert plan is not None
    writer = SegmentWriter(api.folder.log / "g0")
    writer.register_schema(SCHEMA)
    for number in range(600):
        unit = f"u{number}"
        at = round((NOW - timedelta(days=3) + timedelta(minutes=number)).timestamp() * 1e6)
        arm = plan.arms[plan.slots[slot_of(plan.salt, unit)]]
        record = make_record(
            at=at, unit=unit, arm=arm.name, role=arm.role, assigned_version=arm.version,
            served_version=arm.version, generation=plan.generation, experiment=plan.experiment,
        )  # fmt: skip
        writer.append(frame(record))
        if number % (2 if arm.version == "v2" else 6) == 0:
            outcome = make_outcome(unit=unit, request_id=None, row=None, at=at + 1, received_at=at + 1)
            writer.append(frame(outcome))
    nobody = {"unit": "nobody", "request_id": None, "row": None, "at": at, "received_at": at}
    for metric in ("revenue", "orders"):
        writer.append(frame(make_outcome(**nobody, metric=metric)))
    writer.close()


@contextmanager
def _serving(api: Api) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(api.app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def test_an_experiment_is_a_sentence_with_numbers_under_it(shop: Api) -> None:
    status, found = shop.call("GET", "/models/shop/experiments/latest")
    assert status == 200
    assert found["report"]["finding"] == "better"
    assert found["report"]["sentence"].startswith("v2 converts better: ")
    assert found["report"]["units"] == 600
    (metric,) = found["report"]["metrics"]
    assert metric["difference"]["low"] > 0
    assert " (between +" in found["report"]["sentence"]
    assert metric["belief"]["better"] > 0.99
    assert found["experiment"]["phases"][0]["weights"] == {"control": 50.0, "canary": 50.0}
    status, listed = shop.call("GET", "/models/shop/experiments")
    assert [one["id"] for one in listed] == [found["experiment"]["id"]]


def test_numbers_that_are_open_are_null(shop: Api) -> None:
    _, found = shop.call(
        "GET", "/models/shop/experiments/latest?metric=revenue/orders&window=1h&higher_is=worse"
    )
    revenue = found["report"]["metrics"][1]
    assert revenue["finding"] == "cannot be told"
    assert revenue["difference"] == {"estimate": None, "low": None, "high": None}


def test_what_cannot_be_asked_is_refused(shop: Api) -> None:
    for query in ("window=soon", "metric=", "metric=p99", "metric=revenues", "higher_is=nice"):
        refused = shop.refused("GET", f"/models/shop/experiments/latest?{query}")
        assert refused == (400, "malformed_request")
    assert shop.refused("GET", "/models/shop/experiments/none") == (404, "experiment_not_found")
    assert shop.refused("GET", "/models/none/experiments") == (404, "model_not_found")


def test_client_and_command_line_tell_the_same(shop: Api, capsys: pytest.CaptureFixture[str]) -> None:
    with _serving(shop) as url:
        with Admin(url) as admin:
            found = admin.experiment("shop", metrics=["revenue"], window="7d")
            assert found.report.metrics[0].lift.low is not None
            assert admin.experiments("shop")[0].id == found.experiment.id
            with pytest.raises(ExperimentNotFound):
                admin.experiment("shop", "nothing")
        for words, told in (
            (["shop"], "v2 converts better"),
            (["shop", found.experiment.id, "--metric", "revenue", "--window", "7d"], "revenue"),
            (["show", "shop"], "conversion"),
            (["shop", "--list"], found.experiment.id),
            (["--list", "shop"], found.experiment.id),
        ):
            assert _run(["--admin-url", url, "experiments", *words]) == 0
            assert told in capsys.readouterr().out
        assert _run(["experiments", "--json", "--admin-url", url, "shop"]) == 0
        assert json.loads(capsys.readouterr().out)["report"]["finding"] == "better"
        assert _run(["--admin-url", url, "experiments", "shop", "nothing"]) == 1
        assert "has no experiment" in capsys.readouterr().err


def test_the_audit_and_the_export_through_the_command_line(
    shop: Api, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with _serving(shop) as url:
        there = ["--admin-url", url, "experiments", "shop"]
        assert _run([*there, "--audit"]) == 0
        assert "All 600 records say what the plan gave" in capsys.readouterr().out
        for name in ("exposures.csv", "exposures.parquet"):
            assert _run([*there, "--export", str(tmp_path / name)]) == 0
        with (tmp_path / "exposures.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        table = pq.read_table(tmp_path / "exposures.parquet")
        assert len(rows) == table.num_rows == 600
        assert [row["unit"] for row in rows] == table.column("unit").to_pylist()
        assert rows[0]["first_exposure_at"].startswith(str(NOW.year))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["exposures.csv", "exposures.parquet"]
        capsys.readouterr()
        assert _run([*there, "--export", str(tmp_path / "x.xlsx")]) == 2
        assert "neither .parquet nor .csv" in capsys.readouterr().err
        assert _run([*there, "--export", str(tmp_path / "none" / "x.csv")]) == 1
        assert _run([*there, "--audit", "--list"]) == 2
    assert shop.refused("GET", "/models/shop/experiments/latest/exposures?format=xlsx") == (
        400, "malformed_request",
    )  # fmt: skip
    assert shop.refused("GET", "/models/shop/experiments/none/exposures") == (404, "experiment_not_found")
    assert shop.refused("GET", "/models/shop/experiments/none/audit") == (404, "experiment_not_found")


def _run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        fairlead.main(arguments)
    return int(ended.value.code or 0)


def test_a_plan_says_units_and_days_and_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    rate = ["--baseline", "0.1", "--lift", "0.15"]
    assert _run(["experiments", "plan", *rate, "--units-per-day", "1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"watched": {"units": 25_621, "days": 26}, "fixed": {"units": 13_380, "days": 14}}
    assert _run(["experiments", "--json", "plan", *rate]) == 0
    assert json.loads(capsys.readouterr().out)["fixed"]["days"] is None
    mean = ["--baseline", "20", "--lift", "0.05", "--deviation", "30"]
    assert _run(["experiments", "plan", *mean]) == 0
    for wrong in (
        [*rate, "--share", "1"],
        [*rate, "--alpha", "0.7"],
        [*rate, "--units-per-day", "0"],
        ["--baseline", "0.9", "--lift", "0.5"],
        ["--baseline", "0.1", "--lift", "0"],
        ["--baseline", "0.1"],
    ):
        assert _run(["experiments", "plan", *wrong]) == 2
