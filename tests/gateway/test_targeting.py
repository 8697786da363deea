"""Rules, pins and holdouts over real HTTP and gRPC: the right version, the right record, and no exposure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.routing.plan import Holdout, Plan
from fairlead.routing.router import assigned
from fairlead.routing.targeting import Rule
from fairlead.serving.folder import DataFolder
from tests.gateway.inference.conftest import Served
from tests.models import FEATURES, SAMPLE, data_folder, iris_onnx, lay_plan, lay_version, plan_of

RULES = (
    Rule(name="staff", header="x-group", one_of=("staff", "größe"), version="v2"),
    Rule(name="pilot", units=("ann", "Zoë"), version="v2"),
    Rule(name="long", feature="sepal_length", at_least=6.0, version="v2"),
)
SPLIT: dict[str, Any] = {
    "stable": ("v1", "stable", 40),
    "control": ("v1", "control", 30),
    "canary": ("v2", "canary", 30),
}
PLAN = msgspec.structs.replace(
    plan_of(SPLIT), rules=RULES, experiment="e1", holdout=Holdout(percent=20, salt="h", since=0.0)
).completed()
PREDICT = "/v1/models/iris/predict"
LONG = {**SAMPLE, "sepal_length": 7.0}


def unit_of(how: str, role: str = "") -> str:
    """A unit without a rule that gets its version in this way."""
    units = (f"user-{number}" for number in range(1_000))
    found = ((unit, assigned(PLAN, unit)) for unit in units)
    return next(unit for unit, got in found if got.how == how and role in ("", got.arm.role))


HELD, IN_CANARY, IN_CONTROL = unit_of("holdout"), unit_of("split", "canary"), unit_of("split", "control")


def lay(root: Path, plan: Plan = PLAN) -> DataFolder:
    """`iris` with a split, rules, a holdout, and v3 kept for a rollback."""
    folder = data_folder(root)
    lay_plan(folder, plan, *(lay_version(folder, f"v{n}", iris_onnx(n)) for n in (1, 2, 3)), keep=("v3",))
    return folder


class Caller:
    """Asks a gateway over HTTP and gRPC, and reads its log afterwards."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.grpc = triton.InferenceServerClient(served.grpc_url)

    def rest(self, name: str, unit: str, features: dict[str, float] = SAMPLE, **headers: str) -> str:
        """The version that answered."""
        status, found, body = self.post(name, PREDICT, {"features": features, "unit": unit}, headers)
        assert status == 200, body
        assert body["model_version"] == found["x-model-version"]
        return str(body["model_version"])

    def post(
        self, name: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], Any]:
        lines = {key.replace("_", "-"): value for key, value in headers.items()}
        return self.served.call("POST", path, body, {"X-Request-Id": name, **lines})

    def v2(
        self, name: str, unit: str, *, path: str = "", features: dict[str, float] = SAMPLE, **headers: str
    ) -> tuple[int, Any]:
        data = [features[name] for name in FEATURES]
        body = {
            "inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": data}],
            "parameters": {"unit": unit},
        }
        status, _, found = self.post(name, f"/v2/models/iris{path}/infer", body, headers)
        return status, found.get("model_version", found)

    def call(
        self, name: str, unit: str, *, version: str = "", features: dict[str, float] = SAMPLE, **metadata: str
    ) -> str:
        """The version that answered over gRPC."""
        given = triton.InferInput("X", [1, 4], "FP32")
        given.set_data_from_numpy(np.array([[features[name] for name in FEATURES]], np.float32))
        lines = {key.replace("_", "-"): value for key, value in metadata.items()}
        result = self.grpc.infer(
            "iris", [given], model_version=version, request_id=name, parameters={"unit": unit}, headers=lines
        )
        return str(result.get_response().model_version)

    def log(self, sql: str) -> list[dict[str, Any]]:
        """What the log says once the gateway has ended."""
        self.grpc.close()
        self.served.close()
        ingest = Ingest(self.served.folder.root)
        try:
            ingest.catch_up(10)
            found: list[dict[str, Any]] = Queries(ingest).sql(sql).table.to_pylist()
            return found
        finally:
            ingest.close()


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    made = Caller(Served(lay(tmp_path / "data")))
    yield made
    made.served.close()


def test_what_decides_before_the_split_answers_over_every_protocol_and_exposes_nobody(caller: Caller) -> None:
    rest, v2, call = caller.rest, caller.v2, caller.call
    # A header, a list of units and a feature: over REST, V2 and gRPC.
    assert rest("staff-rest", IN_CONTROL, X_Group="staff") == "v2"
    assert v2("staff-v2", IN_CONTROL, X_Group="staff") == (200, "v2")
    assert call("staff-grpc", IN_CONTROL, x_group="staff") == "v2"
    assert rest("pilot-rest", "Zoë") == "v2"
    assert v2("pilot-v2", "Zoë") == (200, "v2")
    assert call("pilot-grpc", "Zoë") == "v2"
    assert rest("long-rest", IN_CONTROL, LONG) == "v2"
    assert v2("long-v2", IN_CONTROL, features=LONG) == (200, "v2")
    assert call("long-grpc", IN_CONTROL, features=LONG) == "v2"
    # A unit that is held out has the version in production, whatever the rules say.
    assert rest("holdout-rest", HELD, LONG, X_Group="staff") == "v1"
    assert v2("holdout-v2", HELD, features=LONG, X_Group="staff") == (200, "v1")
    assert call("holdout-grpc", HELD, features=LONG, x_group="staff") == "v1"
    # A pin asks for what is loaded, whatever the plan says: also for what is kept for a rollback.
    assert rest("pin-rest", IN_CANARY, X_Model_Version="v3") == "v3"
    assert v2("pin-header", HELD, X_Model_Version="v2") == (200, "v2")
    assert v2("pin-path", "ann", path="/versions/v1") == (200, "v1")
    assert call("pin-grpc", IN_CANARY, version="v1") == "v1"
    assert call("pin-metadata", IN_CANARY, x_model_version="v3") == "v3"
    # And the split goes on for everybody else, also when a header says what no rule asks for.
    assert rest("canary-rest", IN_CANARY, X_Group="Staff") == "v2"
    assert call("control-grpc", IN_CONTROL, x_group="staff ,") == "v1"

    rows = caller.log("SELECT request_id, arm, role, assigned_version, served_version FROM predictions")
    found = {row.pop("request_id"): tuple(row.values()) for row in rows}
    for way in ("rest", "v2", "grpc"):
        for rule in ("staff", "pilot", "long"):
            assert found.pop(f"{rule}-{way}") == (f"rule:{rule}", "rule", "v2", "v2")
        assert found.pop(f"holdout-{way}") == ("holdout", "holdout", "v1", "v1")
    for name, version in (
        ("rest", "v3"),
        ("header", "v2"),
        ("path", "v1"),
        ("grpc", "v1"),
        ("metadata", "v3"),
    ):
        assert found.pop(f"pin-{name}") == ("pin", "pin", version, version)
    assert found == {
        "canary-rest": ("canary", "canary", "v2", "v2"),
        "control-grpc": ("control", "control", "v1", "v1"),
    }


def test_only_the_split_makes_exposures(caller: Caller) -> None:
    for number, headers in enumerate(({"X_Group": "staff"}, {"X_Model_Version": "v2"})):
        caller.rest(f"r-{number}", IN_CONTROL, **headers)
    caller.call("r-2", IN_CONTROL, version="v2")
    caller.rest("r-3", "ann")
    caller.rest("r-4", HELD)
    caller.rest("r-5", IN_CANARY)
    sql = "SELECT experiment, unit, arm, version, requests FROM exposures"
    expected = {"experiment": "e1", "unit": IN_CANARY, "arm": "canary", "version": "v2", "requests": 1}
    assert caller.log(sql) == [expected]


def test_where_callers_may_not_choose_every_pin_is_refused_and_rules_go_on(tmp_path: Path) -> None:
    caller = Caller(Served(lay(tmp_path / "data"), allow_pins=False))
    try:
        body = {"features": SAMPLE, "unit": "ann"}
        status, _, problem = caller.post("pin-rest", PREDICT, body, {"X_Model_Version": "v1"})
        assert (status, problem["code"]) == (403, "forbidden")
        for path, headers in (("/versions/v1", {}), ("", {"X_Model_Version": "v1"})):
            status, said = caller.v2("pin-v2", "ann", path=path, **headers)
            assert (status, "allow_pins" in said["error"]) == (403, True)
        for version, metadata in (("v1", {}), ("", {"x_model_version": "v1"})):
            with pytest.raises(InferenceServerException, match="allow_pins") as refused:
                caller.call("pin-grpc", "ann", version=version, **metadata)
            assert "PERMISSION_DENIED" in str(refused.value.status())
        assert caller.rest("rule", "ann") == "v2"
        rows = caller.log("SELECT arm, status FROM predictions WHERE status = 'ok'")
        assert rows == [{"arm": "rule:pilot", "status": "ok"}]
    finally:
        caller.served.close()
