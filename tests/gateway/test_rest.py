import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fairlead.gateway.routes import ROUTES
from tests.gateway.conftest import GatewayProcess
from tests.models import SAMPLE, data_folder, iris_onnx, lay_plan, lay_version, plan_of
from tests.waiting import wait_until

PREDICT = "/v1/models/iris/predict"


def test_a_prediction_carries_its_provenance_in_headers(gateway):
    status, headers, body = gateway.call(
        "POST", PREDICT, {"features": SAMPLE, "unit": "u"}, {"X-Request-Id": "r-77", "X-Use-Case": "tests"}
    )
    assert status == 200
    assert body["request_id"] == headers["x-request-id"] == "r-77"
    assert body["model_version"] == headers["x-model-version"]
    assert headers["x-plan-generation"] == "1"
    assert headers["x-variant"] in ("stable", "control", "canary")
    assert headers["x-training-data"] == "iris-1936"
    assert 'code="abc123"' in headers["x-provenance"]


def test_unit_in_the_body_wins_over_the_header_and_both_stick(gateway):
    by_body = gateway.call("POST", PREDICT, {"features": SAMPLE, "unit": "u-5"}, {"X-Unit": "u-6"})[2]
    alone = gateway.call("POST", PREDICT, {"features": SAMPLE, "unit": "u-5"})[2]
    by_header = gateway.call("POST", PREDICT, {"features": SAMPLE}, {"X-Unit": "u-5"})[2]
    assert by_body["variant"] == alone["variant"] == by_header["variant"]


def test_a_violation_is_a_problem_document(gateway):
    status, headers, body = gateway.call("POST", PREDICT, {"features": {"sepal_length": "x"}})
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert body["code"] == "data_contract_violation"
    assert {v["rule"] for v in body["violations"]} == {"type", "missing"}
    assert body["request_id"] == headers["x-request-id"]
    assert body["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/models/nope/predict", {"features": {}}, 404, "model_not_found"),
        ("POST", PREDICT, b"{", 400, "malformed_request"),
        ("POST", PREDICT, None, 400, "malformed_request"),
        ("GET", PREDICT, None, 405, "method_not_allowed"),
        ("GET", "/nowhere", None, 404, "route_not_found"),
        ("GET", "/v1/models/%2e%2e/predict", None, 405, "method_not_allowed"),
        ("GET", "/v1/models/iris/versions/v9", None, 404, "version_not_found"),
        ("POST", "/v1/models/iris/outcomes", {"metric": "x"}, 400, "malformed_request"),
        ("POST", PREDICT, b"x" * (10 * 2**20 + 1), 413, "payload_too_large"),
    ],
)
def test_what_goes_wrong_has_a_stable_code(gateway, method, path, body, status, code):
    found, headers, document = gateway.call(method, path, body)
    assert (found, document["code"]) == (status, code)
    assert document["status"] == status
    if status == 405:
        assert headers["allow"] == "POST"


@pytest.mark.parametrize("bad", ["a b", "x" * 129, "é", "a\x7fb"])
def test_a_request_id_cannot_smuggle_anything_into_a_header(gateway, bad):
    status, headers, body = gateway.call("POST", PREDICT, {"features": SAMPLE, "request_id": bad})
    assert (status, body["code"]) == (400, "malformed_request")
    assert "x-request-id" not in headers
    status, _, _ = gateway.call("POST", PREDICT, {"features": SAMPLE, "request_id": "a\r\nset-cookie: x"})
    assert status == 400


def test_a_pin_chooses_the_version(gateway):
    for version in ("v1", "v2"):
        body = gateway.call("POST", PREDICT, {"features": SAMPLE}, {"X-Model-Version": version})[2]
        assert body["model_version"] == version
    assert gateway.call("POST", PREDICT, {"features": SAMPLE}, {"X-Model-Version": "v3"})[0] == 404


def test_a_batch_is_answered_row_by_row(gateway):
    rows = [{"features": SAMPLE, "unit": f"u{n}"} for n in range(20)] + [{"features": {}}]
    status, headers, body = gateway.call("POST", PREDICT + "/batch", {"instances": rows})
    assert status == 200
    assert body["batch_size"] == 21
    assert body["failed"] == 1
    assert [row["row"] for row in body["predictions"]] == list(range(21))
    assert body["predictions"][20]["error"]["code"] == "data_contract_violation"
    assert headers["x-request-id"] == body["request_id"]


def test_the_default_model_has_plain_routes(gateway):
    assert gateway.call("POST", "/predict", {"features": SAMPLE})[2]["model"] == "iris"
    assert gateway.call("POST", "/predict/batch", {"instances": [{"features": SAMPLE}]})[0] == 200


def test_outcomes_are_accepted_one_or_many(gateway):
    one = {"request_id": "r-77", "metric": "conversion", "value": 1}
    assert gateway.call("POST", "/v1/models/iris/outcomes", one)[2] == {"accepted": 1}
    many = [one, {"unit": "u", "metric": "label", "value": 0, "outcome_id": "o-1", "mode": "set"}]
    assert gateway.call("POST", "/v1/models/iris/outcomes", many)[2] == {"accepted": 2}


def test_health_ready_and_metrics(gateway):
    assert gateway.call("GET", "/health/ready")[2] == {"ready": True}
    health = gateway.call("GET", "/health")[2]
    assert health["status"] == "ready"
    assert health["models"]["iris"]["versions"] == ["v1", "v2"]
    status, headers, text = gateway.call("GET", "/metrics")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"model_prediction_requests", "model_prediction_latency_seconds", "model_loaded"} <= names
    assert status == 200


def test_head_answers_like_get_without_a_body(gateway):
    status, headers, body = gateway.call("HEAD", "/health/live")
    assert (status, body) == (200, "")
    assert headers["content-length"] == "13"


def test_what_the_models_routes_say_agrees(gateway):
    listed = gateway.call("GET", "/v1/models")[2]["models"]
    model = gateway.call("GET", "/v1/models/iris")[2]
    assert listed == [model]
    assert sum(arm["share"] for arm in model["arms"]) == pytest.approx(1.0)
    version = gateway.call("GET", "/v1/models/iris/versions/v2")[2]
    assert version["stage"] == "canary"
    contract = gateway.call("GET", "/v1/models/iris/contract")[2]
    assert set(contract["properties"]) == set(SAMPLE)


def test_openapi_describes_exactly_the_routes_that_the_router_has(gateway):
    document = gateway.call("GET", "/openapi.json")[2]
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.template) for route in ROUTES}
    for method, path in described:
        filled = path.replace("{model}", "iris").replace("{version}", "v1")
        status, _, body = gateway.call(method, filled, {} if method == "POST" else None)
        assert status != 404, (method, path, body)
    model = gateway.call("GET", "/v1/models/iris/openapi.json")[2]
    templates = {path.replace("iris", "{model}", 1) for path in model["paths"]}
    own = [route.template for route in ROUTES if route.face == "fairlead"]
    assert templates == {template for template in own if "{model}" in template}


def test_a_gateway_that_is_told_to_stop_answers_what_it_has_and_ends_well(tmp_path):
    folder = data_folder(tmp_path / "data")
    lay_plan(folder, plan_of({"stable": ("v1", "stable", 100)}), lay_version(folder, "v1", iris_onnx()))
    gateway = GatewayProcess(folder)
    try:
        assert gateway.call("POST", PREDICT, {"features": SAMPLE})[0] == 200
        assert gateway.stop() == 0
        assert folder.read_reports() == []
    finally:
        gateway.close()


def test_a_gateway_with_nothing_loaded_lives_and_is_not_ready(tmp_path):
    gateway = GatewayProcess(data_folder(tmp_path / "data"))
    try:
        assert gateway.call("GET", "/health/live")[0] == 200
        status, headers, body = gateway.call("GET", "/health/ready")
        assert (status, body["code"]) == (503, "not_ready")
        assert headers["retry-after"] == "1"
    finally:
        gateway.close()


FORBIDDEN = ("pandas", "polars", "pyarrow", "duckdb", "scipy", "sklearn", "sqlalchemy", "alembic", "fastapi",
             "starlette", "pydantic", "uvicorn", "httpx2", "click", "rich", "onnx", "obstore",
             "redis", "hiredis")  # fmt: skip


def test_a_gateway_imports_nothing_heavy():
    script = "import sys, fairlead.process, fairlead.gateway.process; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint(FORBIDDEN)


def test_a_gateway_stays_under_100_megabytes_beside_its_models(gateway):
    for index in range(300):
        features = SAMPLE | {"sepal_length": 1 + index / 100}
        assert gateway.call("POST", PREDICT, {"features": features})[0] == 200
    rows = Path(f"/proc/{gateway.process.pid}/smaps_rollup").read_text().splitlines()
    resident = next(int(row.split()[1]) for row in rows if row.startswith("Rss:")) * 1024
    (report,) = gateway.folder.read_reports()
    models = sum(report.models["iris"].loaded.values())
    assert resident - models < 100 * 1024 * 1024


def test_records_of_a_killed_gateway_are_in_its_log(tmp_path):
    folder = data_folder(tmp_path / "data")
    lay_plan(folder, plan_of({"stable": ("v1", "stable", 100)}), lay_version(folder, "v1", iris_onnx()))
    gateway = GatewayProcess(folder)
    try:
        answered = [gateway.call("POST", PREDICT, {"features": SAMPLE})[2]["request_id"] for _ in range(20)]
        os.kill(gateway.process.pid, 9)
        gateway.process.wait()
        wait_until(lambda: gateway.process.poll() is not None)
        logged = b"".join(path.read_bytes() for path in folder.log.glob("*/*.seg"))
        assert all(request_id.encode() in logged for request_id in answered)
    finally:
        gateway.close()


def test_no_answer_holds_what_is_not_json(gateway):
    text = json.dumps(gateway.call("POST", PREDICT, {"features": SAMPLE})[2])
    assert "NaN" not in text
    assert "Infinity" not in text


def test_who_asks_for_leading_features_gets_them_over_http(gateway):
    pinned = {"X-Model-Version": "v2"}
    status, _, body = gateway.call("POST", PREDICT, {"features": SAMPLE, "explain": "top"}, pinned)
    assert (status, body["explanation"]) == (200, [{"feature": "sepal_length", "contribution": 5.1}])
    assert gateway.call("POST", PREDICT, {"features": SAMPLE}, pinned)[2]["explanation"] is None
    told = gateway.call("GET", "/v1/models/iris/versions/v2")[2]["leading_features"]
    assert told == {"scale": "log_odds", "base": {"0": 0.0, "1": 0.0, "2": 0.0}, "reason": None}


def test_a_version_without_leading_features_answers_null_and_says_why(gateway):
    pinned = {"X-Model-Version": "v1"}
    body = gateway.call("POST", PREDICT, {"features": SAMPLE, "explain": "top"}, pinned)[2]
    assert body["explanation"] is None
    told = gateway.call("GET", "/v1/models/iris/versions/v1")[2]["leading_features"]
    assert "registered with a reference" in told["reason"]


def test_without_a_control_explanations_are_refused_and_nothing_else(gateway):
    status, _, body = gateway.call("GET", "/v1/predictions/one/explanation")
    assert (status, body["code"]) == (503, "store_unavailable")
    assert "Control" in body["detail"]
