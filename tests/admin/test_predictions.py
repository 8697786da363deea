"""What the prediction log answers through the admin API; the ingest process is a real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from fairlead.admin import schemas
from fairlead.errors import StoreUnavailable
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.summaries import MetricSummary, OutcomeSummary, Window
from fairlead.process import RESOLVED
from fairlead.settings import Settings
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.admin.conftest import Api
from tests.predictions.records import SCHEMA, make_outcome, make_record
from tests.waiting import wait_until

NOW = time.time_ns() // 1000
MINUTE = 60_000_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API beside an ingest process, with six predictions of `shop` and two outcomes in the log."""
    root = tmp_path_factory.mktemp("log")
    settings = Settings(data=str(root / "data"))
    database = Database(settings.database)
    settings.folder.mkdir()
    database.migrate()
    api = Api(database, Blobs(settings.artifacts), settings)
    api.versions("v1", "v2")
    process = subprocess.Popen(
        [sys.executable, "-m", "fairlead.process", "ingest"],
        env={**os.environ, RESOLVED: msgspec.json.encode(settings).decode()},
    )
    try:
        client = IngestClient(api.folder.ingest_socket)
        wait_until(lambda: _answers(client), 30)
        _write(api.folder.log)
        with api.http:
            yield api
    finally:
        process.terminate()
        process.wait(30)
        database.close()


def _answers(client: IngestClient) -> bool:
    try:
        client.call("status")
    except StoreUnavailable:
        return False
    return True


def _write(folder: Path) -> None:
    writer = SegmentWriter(folder / "g0")
    writer.register_schema(SCHEMA)
    changes: list[dict[str, Any]] = [
        {"request_id": "r1"},
        {"request_id": "größe", "latency_ms": 2.0},
        {"request_id": "r3", "served_version": "v2", "assigned_version": "v2", "arm": "canary"},
        {"request_id": "r4", "status": "failed", "error_code": "runtime_failed", "prediction": None},
        {"request_id": "batch", "row": 0},
        {"request_id": "batch", "row": 1},
    ]
    for changed in changes:
        writer.append(frame(make_record(at=NOW - 2 * MINUTE, **changed)))
    for request_id, value in (("r1", 1.0), ("r3", 0.0)):
        event = make_outcome(request_id=request_id, metric="conversion", value=value, at=NOW)
        writer.append(frame(event))
    writer.close()


def test_the_log_answers_sql(log: Api) -> None:
    sql = "SELECT served_version AS v, count(*) AS n FROM predictions GROUP BY 1 ORDER BY 1"
    status, answer = log.call("POST", "/predictions/sql", {"sql": sql})
    assert status == 200
    assert answer == {
        "columns": ["v", "n"],
        "types": ["string", "int64"],
        "rows": [["v1", 5], ["v2", 1]],
        "truncated": False,
    }
    _, cut = log.call("POST", "/predictions/sql", {"sql": "SELECT * FROM range(50)", "limit": 7})
    assert (len(cut["rows"]), cut["truncated"]) == (7, True)


def test_sql_that_is_wrong_or_reaches_outside_is_refused(log: Api) -> None:
    for sql in ("SELEC 1", "SELECT * FROM '/etc/passwd'", "DROP TABLE predictions"):
        assert log.refused("POST", "/predictions/sql", {"sql": sql}) == (400, "invalid_query")


def test_a_record_is_found_by_its_request(log: Api) -> None:
    _, (record,) = log.call("GET", f"/predictions/{quote('größe')}")
    assert (record["model"], record["served_version"]) == ("shop", "v1")
    assert record["features"]["country"] == "DE"
    _, batch = log.call("GET", "/predictions/batch")
    assert [record["row"] for record in batch] == [0, 1]
    assert log.refused("GET", "/predictions/nobody") == (404, "record_not_found")


def test_a_versions_metrics_are_those_of_the_window(log: Api) -> None:
    status, window = log.call("GET", "/models/shop/versions/v1/metrics?window=1h")
    assert status == 200
    assert (window["count"], window["ok"], window["failed"]) == (5, 4, 1)
    assert window["error_rate"] == pytest.approx(0.2)
    assert window["p50_ms"] is not None
    assert log.refused("GET", "/models/shop/versions/v9/metrics") == (404, "version_not_found")
    for span in ("1 hour", "0h", "-1h", "1y"):
        refused = log.refused("GET", f"/models/shop/versions/v1/metrics?window={quote(span)}")
        assert refused == (400, "malformed_request")


def test_windows_come_step_by_step(log: Api) -> None:
    status, windows = log.call("GET", "/models/shop/windows")
    assert status == 200
    counts: dict[str, int] = {}
    for window in windows:
        counts[window["version"]] = counts.get(window["version"], 0) + window["count"]
    assert counts == {"v1": 5, "v2": 1}
    assert log.refused("GET", "/models/none/windows") == (404, "model_not_found")
    for query in (
        "since=2026-01-01T00:00:00",
        "since=2999-01-01T00:00:00Z",
        "step=1",
        "until=0001-01-01T00:00:00Z",
    ):
        assert log.refused("GET", f"/models/shop/windows?{query}") == (400, "malformed_request")


def test_outcomes_are_summed_up_per_version(log: Api) -> None:
    status, outcomes = log.call("GET", "/models/shop/outcomes/summary")
    assert status == 200
    means = {outcome["version"]: outcome["metrics"] for outcome in outcomes}
    assert means["v1"]["conversion"]["mean"] == 1.0
    assert means["v2"]["conversion"]["mean"] == 0.0


def test_status_tells_how_far_ingestion_is(log: Api) -> None:
    _, answer = log.call("GET", "/status")
    assert answer["lacking"] == []
    assert answer["ingest"]["lag_bytes"] == 0


def test_without_ingest_the_log_is_a_store_that_is_away(shop: Api) -> None:
    refused = shop.refused("POST", "/predictions/sql", {"sql": "SELECT 1"})
    assert refused == (503, "store_unavailable")


def test_what_the_api_says_of_windows_and_outcomes_is_what_ingest_answers() -> None:
    """Control describes them without importing ingest and its libraries; the two must not drift apart."""
    pairs = [
        (schemas.WindowView, Window),
        (schemas.OutcomeView, OutcomeSummary),
        (schemas.MetricView, MetricSummary),
    ]
    for view, answered in pairs:
        assert view.__struct_fields__ == answered.__struct_fields__


def test_a_shadow_is_told_beside_what_was_answered(log: Api) -> None:
    status, report = log.call("GET", "/models/shop/shadow")
    assert status == 200
    assert (report["model"], report["version"], report["rows"]) == ("shop", None, 0)
    writer = SegmentWriter(log.folder.log / "g1")
    copy = {"source": "shadow", "arm": "shadow", "role": "shadow", "assigned_version": "v2"}
    writer.register_schema(SCHEMA)
    writer.append(frame(make_record(at=NOW - MINUTE, request_id="r1", prediction="0", **copy)))
    writer.close()
    _, report = log.call("GET", "/models/shop/shadow?version=v2")
    assert (report["version"], report["against"], report["compared"], report["different"]) == (
        "v2",
        {"v1": 1},
        1,
        1,
    )
    assert report["confusion"] == [{"answered": "1", "shadow": "0", "rows": 1}]
    assert log.refused("GET", "/models/none/shadow") == (404, "model_not_found")
    assert log.refused("GET", "/models/shop/shadow?version=v9") == (404, "version_not_found")


def test_a_versions_performance_calibration_and_fairness_can_be_asked_for(log: Api) -> None:
    status, found = log.call("GET", "/models/shop/performance?version=v1")
    assert status == 200
    assert found["performance"]["version"] == "v1"
    assert found["performance"]["answers"] == 4
    assert {one["status"] for one in found["findings"]} == {"insufficient"}
    status, found = log.call("GET", "/models/shop/calibration")
    assert (status, found["version"], found["calibration"]) == (200, "v2", None)
    status, found = log.call("GET", "/models/shop/fairness?version=v1")
    assert (status, found["slices"]) == (200, [])


@pytest.mark.parametrize("what", ["performance", "calibration", "fairness"])
def test_what_is_not_there_has_no_performance(log: Api, what: str) -> None:
    assert log.refused("GET", f"/models/none/{what}") == (404, "model_not_found")
    assert log.refused("GET", f"/models/shop/{what}?version=v9") == (404, "version_not_found")
    assert log.refused("GET", f"/models/shop/{what}?since=2999-01-01T00:00:00Z") == (400, "malformed_request")


def test_what_came_is_counted_field_by_field(log: Api) -> None:
    status, (window,) = log.call("GET", "/models/shop/profiles")
    assert status == 200
    assert (window["rows"], window["ok"], window["failed"], window["unread"]) == (6, 5, 1, 0)
    counts = {tuple(field["key"]): field["counts"] for field in window["fields"]}
    assert sum(counts["feature", "age"]["counts"]) == 6
    _, (second,) = log.call("GET", "/models/shop/profiles?version=v2&step=60")
    assert second["rows"] == 1
    _, (first, *_) = log.call("GET", "/models/shop/profiles?slices=true&step=3600")
    assert first["slice"] == ""
    assert log.call("GET", "/models/shop/profiles?slice=country%3DXX") == (200, [])
    status, bins = log.call("GET", f"/models/shop/profiles/bins/{window['bins']}")
    assert (status, bins["contract_id"], bins["origin"]) == (200, SCHEMA.contract_id, None)
    assert log.refused("GET", "/models/shop/profiles/bins/b0") == (404, "bins_not_found")
    unreferenced = f"/models/shop/profiles/reference/{SCHEMA.contract_id}"
    assert log.refused("GET", unreferenced) == (404, "bins_not_found")
    assert log.refused("GET", "/models/shop/profiles?step=61") == (400, "invalid_query")
    assert log.refused("GET", "/models/nobody/profiles") == (404, "model_not_found")


def test_traffic_is_counted_anew(log: Api) -> None:
    IngestClient(log.folder.ingest_socket).call("flush")
    status, _ = log.call("POST", "/models/shop/profiles/rebuild")
    assert status == 202
    wait_until(lambda: not log.call("GET", "/models/shop/profiles/rebuild")[1]["under_way"], 10)
    _, done = log.call("GET", "/models/shop/profiles/rebuild")
    sql = {"sql": "SELECT count(*) FROM predictions WHERE model = 'shop'"}
    _, logged = log.call("POST", "/predictions/sql", sql)
    rows = logged["rows"][0][0]
    assert done == {"model": "shop", "rows": rows, "counted": rows, "under_way": False, "error": None}
    _, (window,) = log.call("GET", "/models/shop/profiles")
    assert window["rows"] == 6
    assert log.refused("POST", "/models/nobody/profiles/rebuild") == (404, "model_not_found")
