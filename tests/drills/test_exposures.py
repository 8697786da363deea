"""The exposure log is the recomputed assignment, record by record, whatever happens in between."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import fairlead
from fairlead.client.admin import Admin
from tests.models import SAMPLE, iris_contract, iris_onnx
from tests.servers import Servers

pytestmark = pytest.mark.drill

STEPS = [{"weight": weight, "minimum": 0, "events": 0, "deadline": "1d"} for weight in (20, 45, 70)]
PLAN: dict[str, Any] = {"strategy": "canary", "steps": [*STEPS, {"weight": 100}], "limits": {"p99_ms": None}}
PLAN["steps"][0]["approval"] = PLAN["steps"][1]["approval"] = PLAN["steps"][2]["approval"] = True


def post(servers: Servers, path: str, body: dict[str, Any], **headers: str) -> None:
    request = urllib.request.Request(
        f"{servers.url}/v1/models/iris/{path}",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", **headers},
    )
    urllib.request.urlopen(request, timeout=30).close()


def visit(servers: Servers, units: range) -> int:
    """Single requests, batches with and without units, pinned ones; how many rows there were."""
    rows = 0
    for number in units:
        post(servers, "predict", {"features": SAMPLE, "unit": f"größe-{number}"})
        rows += 1
        if number % 10 == 0:
            batch = [{"features": SAMPLE, "unit": f"u{number + n}"} for n in range(7)]
            post(servers, "predict/batch", {"instances": batch})
            post(servers, "predict/batch", {"instances": [{"features": SAMPLE}] * 3})
            post(servers, "predict", {"features": SAMPLE, "unit": f"p{number}"}, **{"X-Model-Version": "v2"})
            rows += 11
    return rows


def test_every_record_says_what_its_plan_gave_through_weights_batches_and_restarts(tmp_path: Path) -> None:
    with Servers(tmp_path / "data") as servers, Admin(servers.admin_url) as admin:
        for version, options in (("v1", {"set_production": True}), ("v2", {})):
            contract, there = iris_contract(), servers.admin_url
            fairlead.register(iris_onnx(0), "iris", version, contract=contract, admin_url=there, **options)
        name = admin.start_rollout("iris", "v2", plan=PLAN).id
        rows = visit(servers, range(150))
        admin.command_rollout("iris", "widen")
        rows += visit(servers, range(100, 250))
        assert servers.stop() == 0
        servers.start()
        rows += visit(servers, range(50))
        admin.command_rollout("iris", "widen")
        rows += visit(servers, range(200, 300))
        found = admin.audit_experiment("iris").audit
        assert found.different == ()
        assert (found.records, found.recomputed) == (rows, rows - found.kinds["pin"])
        report = admin.experiment("iris", name)
        assert len(report.experiment.phases) == 3
        assert not report.report.split.mismatch
        exported = admin.exposures("iris", name).decode().splitlines()[1:]
        counted = sum(phase.control_units + phase.treated_units for phase in report.experiment.phases)
        assert len(exported) == report.report.units == counted
        for line in exported:
            assert not line.startswith("p"), "what was pinned is no exposure"
        admin.command_rollout("iris", "abort")
        assert admin.audit_experiment("iris").audit.differing == 0


def test_lists_and_a_holdout_are_recomputed_and_rules_on_headers_are_told_apart(tmp_path: Path) -> None:
    with Servers(tmp_path / "data") as servers, Admin(servers.admin_url) as admin:
        for version, options in (("v1", {"set_production": True}), ("v2", {})):
            contract, there = iris_contract(), servers.admin_url
            fairlead.register(iris_onnx(0), "iris", version, contract=contract, admin_url=there, **options)
        admin.start_rollout("iris", "v2", plan=PLAN)
        staff = [f"staff-{number}" for number in range(20)]
        admin.target(
            "iris",
            [
                {"name": "beta", "header": "x-beta", "one_of": ["yes"], "version": "v2"},
                {"name": "staff", "units": staff, "version": "v2"},
            ],
        )
        admin.hold_out("iris", 20)
        for number in range(100):
            post(servers, "predict", {"features": SAMPLE, "unit": f"größe-{number}"})
        for unit in staff:
            post(servers, "predict", {"features": SAMPLE, "unit": unit})
            post(servers, "predict", {"features": SAMPLE, "unit": f"{unit}-guest"}, **{"X-Beta": "yes"})
        found = admin.audit_experiment("iris").audit
        assert found.different == ()
        assert found.records == 140
        assert 5 < found.kinds["holdout"] < 60
        beside = found.not_recomputed
        assert set(beside) == {"rule on the request"}
        assert 0 < beside["rule on the request"] <= 20, "all guests but those that are held out"
        assert found.recomputed == 140 - beside["rule on the request"]
