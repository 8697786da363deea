"""Gates over HTTP, with real models that run in processes of their own, and what they keep from traffic."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from fairlead.gate import ledger
from fairlead.gate.reading import read_gate
from fairlead.gate.runs import Data, Gates
from fairlead.gate.spec import GateSpec
from fairlead.predictions.ask import IngestClient
from fairlead.registry.registry import NewVersion
from fairlead.settings import Settings
from tests.admin.conftest import Api, tiny_model
from tests.evaluation.made import pickled
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import CONTRACT
from tests.waiting import wait_until

AWAY = "0" * 64
GATE = {
    "data": "held-out.csv",
    "target": "truth",
    "metrics": [{"name": "mae", "relative_margin": 0.05}],
    "slices": ["country"],
    "tests": [
        {"name": "older is more", "kind": "direction", "sample": 20, "add": {"age": 1}, "expect": "rises"}
    ],
    "budget": {"p99_ms": 5_000, "memory_mb": 5_000},
}


@pytest.fixture
def shop(api: Api) -> Iterator[Api]:
    """v1 in production, v2 nearly the same, v3 half as much again."""
    with FakeFleet(api.database, "g0").running():
        for version, factor in (("v1", 1.0), ("v2", 1.001), ("v3", 1.5)):
            content = tiny_model(factor)
            api.upload(content)
            body = api.registration(content, version)
            assert api.call("POST", "/models/shop/versions", body)[0] == 201
        assert api.call("POST", "/models/shop/deploy", {"version": "v1", "strategy": "direct"})[0] == 200
        yield api


def rows(count: int = 300) -> bytes:
    rng = np.random.default_rng(0)
    age = rng.normal(40, 5, count)
    truth = age + rng.normal(0, 1, count)
    land = ["FR", "DE"] * (count // 2)
    lines = (f"{a:.6f},{b:.6f},{c}" for a, b, c in zip(age, truth, land, strict=True))
    return "\n".join(["age,truth,country", *lines]).encode()


ASKED: dict[str, Any] = {"budget": {"memory_mb": 2_000}}
"""A gate that needs no data."""
HELD: dict[str, Any] = {"data": "a", **ASKED}


def start(api: Api, version: str, gate: dict[str, Any] = GATE, **more: Any) -> dict[str, Any]:
    """A run that has begun."""
    if "data" in gate and "data" not in more:
        more["data"] = {"sha256": api.upload(rows()), "name": gate["data"]}
    status, run = api.call("POST", f"/models/shop/versions/{version}/gate", {"gate": gate, **more})
    assert status == 202, run
    return dict(run)


def finished(api: Api, version: str, gate: dict[str, Any] = GATE, **more: Any) -> dict[str, Any]:
    """A run that is over."""
    begun = start(api, version, gate, **more)
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(api.call("GET", f"/models/shop/gates/{begun['id']}")[1])
        return found["state"] not in ("waiting", "running")

    wait_until(over, 60)
    return found


def test_a_version_that_is_as_good_passes_and_may_be_deployed(shop: Api) -> None:
    run = finished(shop, "v2", why="the night's training")
    assert (run["state"], run["against"], run["who"]) == ("passed", "v1", "anonymous")
    report = run["report"]
    assert report["passed"]
    assert (report["rows"], report["compared"]) == (300, 300)
    assert report["data_digest"] == run["data_digest"]
    statuses = {check["group"]: check["status"] for check in report["checks"]}
    assert set(statuses.values()) == {"passed"}
    assert set(statuses) == {"compatibility", "answers", "metric", "slice", "test", "budget"}
    latest = shop.call("GET", "/models/shop/versions/v2/gate")[1]
    assert latest["id"] == run["id"]
    assert shop.call("POST", "/models/shop/deploy", {"version": "v2", "weight": 10})[0] == 200


def test_a_version_that_failed_gets_no_traffic_except_for_a_recorded_reason(shop: Api) -> None:
    run = finished(shop, "v3")
    assert run["state"] == "failed"
    assert "worse" in run["report"]["summary"]
    ways = [
        ("POST", "deploy", {"version": "v3", "weight": 10}),
        ("POST", "deploy", {"version": "v3", "strategy": "blue-green"}),
        ("PUT", "traffic", {"weights": {"v1": 50, "v3": 50}}),
        ("POST", "rollouts", {"version": "v3"}),
    ]
    for method, command, body in ways:
        assert shop.refused(method, f"/models/shop/{command}", body) == (409, "gate_closed")
    body = {"version": "v3", "weight": 10, "override": "the data of May are wrong"}
    assert shop.call("POST", "/models/shop/deploy", body, x_fairlead_user="ann")[0] == 200
    audit = shop.call("GET", "/audit?model=shop")[1]
    entry = next(entry for entry in audit if entry["action"] == "override_gate")
    assert (entry["who"], entry["why"], entry["version"]) == ("ann", "the data of May are wrong", "v3")
    assert entry["details"]["gate"] == run["id"]
    # A person has let it pass; the next run decides anew.
    assert shop.call("POST", "/models/shop/promote")[0] == 200
    assert shop.call("POST", "/models/shop/rollback")[1]["weights"] == {"v1": 100.0}
    assert shop.call("GET", "/models/shop/versions/v3/gate")[1]["state"] == "overridden"
    assert finished(shop, "v3")["state"] == "failed"
    assert shop.refused("POST", "/models/shop/deploy", {"version": "v3"}) == (409, "gate_closed")


def test_a_canary_whose_gate_fails_is_not_promoted_and_can_always_be_taken_back(shop: Api) -> None:
    assert shop.call("POST", "/models/shop/deploy", {"version": "v3", "weight": 10})[0] == 200
    assert finished(shop, "v3")["state"] == "failed"
    assert shop.refused("POST", "/models/shop/promote") == (409, "gate_closed")
    back = shop.call("PUT", "/models/shop/traffic", {"weights": {"v1": 100}})
    assert back[0] == 200
    assert shop.call("POST", "/models/shop/deploy", {"version": "v3", "override": "x"})[0] == 200
    assert shop.call("POST", "/models/shop/rollback")[1]["weights"] == {"v1": 100.0}


def test_a_model_may_require_that_versions_have_passed(shop: Api) -> None:
    body = {"settings": {"gate_required": True}}
    assert shop.call("PUT", "/models/shop/settings", body)[1]["gate_required"] is True
    assert shop.refused("POST", "/models/shop/deploy", {"version": "v2"}) == (409, "gate_closed")
    assert shop.refused("PUT", "/models/shop/versions/v2/settings", body) == (400, "invalid_setting")
    assert finished(shop, "v2")["state"] == "passed"
    assert shop.call("POST", "/models/shop/deploy", {"version": "v2", "weight": 10})[0] == 200


def test_a_registration_cannot_excuse_its_version_from_the_gate(shop: Api) -> None:
    content = tiny_model(3.0)
    shop.upload(content)
    body = shop.registration(content, "v9", settings={"gate_required": True})
    assert shop.refused("POST", "/models/shop/versions", body) == (400, "invalid_setting")


def test_the_first_version_is_judged_by_itself(api: Api) -> None:
    content = tiny_model()
    api.upload(content)
    assert api.call("POST", "/models/shop/versions", api.registration(content))[0] == 201
    metrics = [{"name": "mae", "limit": 2.0, "margin": 0.1}]
    run = finished(api, "v1", {**GATE, "metrics": metrics, "budget": {}})
    assert run["state"] == "passed"
    assert run["against"] is None
    assert [check["status"] for check in run["report"]["checks"] if check["group"] == "metric"] == [
        "passed", "skipped"
    ]  # fmt: skip


def test_tests_alone_need_no_data(shop: Api) -> None:
    exact = {"name": "as it was", "kind": "exact", "rows": [{"age": 2}], "expected": [3], "tolerance": 0.01}
    assert finished(shop, "v3", {"tests": [exact]})["state"] == "passed"
    run = finished(shop, "v2", {"tests": [exact]})
    assert run["state"] == "failed"
    check = next(check for check in run["report"]["checks"] if check["group"] == "test")
    assert check["examples"][0]["why"] == "answered 2.002, expected 3"


def test_rows_that_the_candidate_refuses_close_the_gate_with_the_rule(shop: Api) -> None:
    content = tiny_model(1.0)
    body = shop.registration(content, "v4")
    body["contract"]["inputs"][0]["maximum"] = 40
    assert shop.call("POST", "/models/shop/versions", body)[0] == 201
    run = finished(shop, "v4")
    assert run["state"] == "failed"
    texts = {check["group"]: check["text"] for check in run["report"]["checks"] if check["closes"]}
    assert "age has to be 40 or less, and had no bound" in texts["compatibility"]
    assert "data_contract_violation (age: range)" in texts["answers"]


def test_data_that_do_not_fit_end_in_an_error_that_neither_passes_nor_fails(shop: Api) -> None:
    run = finished(shop, "v3", {**GATE, "target": "sold"})
    assert run["state"] == "error"
    assert "no column 'sold' for the target" in run["reason"]
    assert run["report"] is None
    assert shop.refused("GET", f"/models/shop/gates/{run['id']}/page") == (404, "gate_not_found")
    assert shop.call("POST", "/models/shop/deploy", {"version": "v3", "weight": 5})[0] == 200


def test_a_file_that_is_no_table_ends_in_an_error(shop: Api) -> None:
    data = {"sha256": shop.upload(b"PAR1 and nothing more"), "name": "rows.parquet"}
    run = finished(shop, "v2", GATE, data=data)
    assert run["state"] == "error"
    assert "cannot be read" in run["reason"]


@pytest.mark.parametrize(
    ("version", "body", "refusal"),
    [
        ("v2", {"gate": {"metrcs": []}}, (422, "invalid_gate")),
        ("v2", {"gate": {"data": "a.csv", **ASKED}}, (422, "invalid_gate")),
        ("v2", {"gate": ASKED, "data": {"sha256": AWAY, "name": "a.csv"}}, (422, "invalid_gate")),
        ("v2", {"gate": HELD, "data": {"sha256": AWAY, "name": "a"}}, (422, "invalid_gate")),
        ("v2", {"gate": HELD, "data": {"sha256": AWAY, "name": "a.csv"}}, (404, "blob_not_found")),
        ("v1", {"gate": ASKED}, (422, "invalid_gate")),
        ("v2", {"gate": ASKED, "against": "v2"}, (422, "invalid_gate")),
        ("v2", {"gate": ASKED, "against": "v8"}, (404, "version_not_found")),
        ("v8", {"gate": ASKED}, (404, "version_not_found")),
        ("v2", {"gate": {}}, (422, "invalid_gate")),
        ("v2", {"gat": {}}, (400, "malformed_request")),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_at_once(
    shop: Api, version: str, body: dict[str, Any], refusal: tuple[int, str]
) -> None:
    assert shop.refused("POST", f"/models/shop/versions/{version}/gate", body) == refusal
    assert shop.call("GET", "/models/shop/gates")[1] == []


def test_reports_are_pages_and_junit_as_well(shop: Api) -> None:
    run = finished(shop, "v3")
    page = shop.http.get(f"/api/v1/models/shop/gates/{run['id']}/page")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "shop v3" in page.text
    junit = shop.http.get(f"/api/v1/models/shop/gates/{run['id']}/junit")
    suite = ElementTree.fromstring(junit.text)[0]
    assert int(suite.get("failures") or 0) == sum(check["closes"] for check in run["report"]["checks"])


def test_runs_are_listed_newest_first_and_by_version(shop: Api) -> None:
    ids = [finished(shop, version, ASKED)["id"] for version in ("v2", "v3", "v2")]
    assert [run["id"] for run in shop.call("GET", "/models/shop/gates")[1]] == list(reversed(ids))
    assert [run["id"] for run in shop.call("GET", "/models/shop/gates?version=v2&limit=1")[1]] == ids[2:]
    assert shop.refused("GET", "/models/shop/gates/none") == (404, "gate_not_found")
    assert shop.refused("GET", "/models/shop/versions/v1/gate") == (404, "gate_not_found")


def test_a_run_whose_server_was_killed_is_interrupted_and_counts_for_nothing(shop: Api) -> None:
    now = datetime.now(UTC)
    with shop.database.write() as connection:
        ledger.add(
            connection, model="shop", version="v2", against="v1", spec=GateSpec(), data_digest=None,
            now=now, who="ann", why="", state="running", held_until=now - timedelta(seconds=1),
        )  # fmt: skip
    found = shop.call("GET", "/models/shop/versions/v2/gate")[1]
    assert found["state"] == "interrupted"
    assert found["reason"] == "The server ended before the gate did."
    shop.call("PUT", "/models/shop/settings", {"settings": {"gate_required": True}})
    assert shop.refused("POST", "/models/shop/deploy", {"version": "v2"}) == (409, "gate_closed")


def test_a_run_that_was_interrupted_while_it_waited_is_not_begun_any_more(shop: Api) -> None:
    now = datetime.now(UTC)
    with shop.database.write() as connection:
        run = ledger.add(
            connection, model="shop", version="v2", against="v1", spec=GateSpec(), data_digest=None,
            now=now, who="ann", why="", held_until=now + timedelta(minutes=1),
        )  # fmt: skip
        ledger.end(connection, run, "interrupted", now=now, reason="The server stopped.")
        assert not ledger.begin(connection, run)
        assert ledger.get(connection, "shop", run, now).state == "interrupted"


def test_a_server_that_stops_interrupts_its_runs(shop: Api) -> None:
    gates = Gates(shop.registry, shop.folder, IngestClient(shop.folder.ingest_socket), Settings())
    gates.start()
    held = Data(sha256=shop.upload(rows(20_000)), name="held-out.csv")
    begun = gates.run("shop", "v2", read_gate(GATE), held, who="ann")
    waiting = gates.run("shop", "v3", GateSpec(), None, who="ann")
    gates.stop()
    assert [gates.get("shop", run.id).state for run in (begun, waiting)] == ["interrupted"] * 2


@pytest.mark.parametrize("trusted", [True, False])
def test_a_pickle_is_judged_where_pickles_are_trusted_and_refused_by_name_elsewhere(
    shop: Api, trusted: bool
) -> None:
    # It was registered while the server trusted pickles.
    source = "def model(columns):\n    return {'value': columns['age']}\n"
    spec = pickled(shop.blobs, source, CONTRACT, model="shop", version="v7")
    shop.registry.register(NewVersion(spec=spec, framework="sklearn", created_by="ann"))
    ingest = IngestClient(shop.folder.ingest_socket)
    gates = Gates(shop.registry, shop.folder, ingest, Settings(trust_pickle=trusted))
    gates.start()
    try:
        held = Data(sha256=shop.upload(rows()), name="held-out.csv")
        begun = gates.run("shop", "v7", read_gate(GATE), held, who="ann")
        wait_until(lambda: gates.get("shop", begun.id).over, 60)
    finally:
        gates.stop()
    found = gates.get("shop", begun.id)
    if trusted:
        assert found.state == "passed"
    else:
        assert (found.state, found.report) == ("error", None)
        assert "Version 'v7' of 'shop' is a pickle and this server runs none" in str(found.reason)
        assert "trust_pickle" in str(found.reason)
