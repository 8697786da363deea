"""V2 over real HTTP: tritonclient works unchanged, and what goes wrong is `{"error": …}`."""

import asyncio
import contextlib
import gzip
import http.client as http_client
import json
import signal
import threading
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
import tritonclient.http as http
import tritonclient.http.aio as http_aio
from hypothesis import given, settings
from tritonclient.utils import InferenceServerException

from fairlead.predictions.ingest import Ingest
from tests.gateway.inference.conftest import Served, lay_models
from tests.gateway.inference.test_codec import BODY, JSON, LENGTHS
from tests.predictions.test_ingest import stored
from tests.waiting import wait_until

ROWS = np.random.default_rng(0).uniform(0, 10, (9, 4)).astype(np.float32)
NAMES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
FEATURES = dict(zip(NAMES, [1, 2, 3, 4], strict=True))
WANTED = ("probabilities", "label")
INFER = "/v2/models/iris/infer"


@pytest.fixture
def client(served):
    made = http.InferenceServerClient(served.url)
    yield made
    made.close()


def tensor(name: str = "X", array: np.ndarray = ROWS, datatype: str = "FP32", binary: bool = True) -> Any:
    made = http.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def post(served, document: Any, path: str = INFER, headers: dict[str, str] | None = None):
    return served.call("POST", path, document, headers)


def plain(rows: Any = None, **members: Any) -> dict[str, Any]:
    rows = ROWS.tolist() if rows is None else rows
    shape = [len(rows), 4]
    return {"inputs": [{"name": "X", "shape": shape, "datatype": "FP32", "data": rows}], **members}


def test_health_and_metadata_are_what_tritonclient_expects(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("iris")
    assert client.is_model_ready("iris", "v2")
    assert not client.is_model_ready("iris", "v9")
    assert not client.is_model_ready("nope")
    assert client.get_server_metadata()["name"] == "fairlead"
    metadata = client.get_model_metadata("iris")
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"] == [
        {"name": "label", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
    ]
    assert metadata["versions"] == ["v1", "v2"]
    shop = client.get_model_metadata("shop")
    assert [part["datatype"] for part in shop["inputs"]] == ["BYTES", "FP32", "INT64"]
    config = client.get_model_config("iris")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (1000, [4])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_tensors_go_and_come_in_every_form(client, binary_in, binary_out, compression):
    result = client.infer(
        "iris",
        [tensor(binary=binary_in)],
        model_version="v1",
        request_id="r-1",
        outputs=[
            http.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "label")
        ],
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    plainly = client.infer("iris", [tensor()], model_version="v1")
    for name in ("label", "probabilities"):
        np.testing.assert_allclose(result.as_numpy(name), plainly.as_numpy(name), rtol=1e-6)
    answer = result.get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("r-1", "iris", "v1")
    assert [output["name"] for output in answer["outputs"]] == ["probabilities", "label"]


def test_the_answer_says_what_the_headers_of_our_own_api_say(served):
    status, headers, body = post(served, plain(id="r-77", parameters={"unit": "u-1"}))
    assert status == 200
    found = body["parameters"]
    assert body["id"] == found["request_id"] == headers["x-request-id"] == "r-77"
    assert body["model_version"] == headers["x-model-version"]
    assert found["variant"] == headers["x-variant"]
    assert found["plan_generation"] == 1
    assert found["training_data"] == headers["x-training-data"] == "iris-1936"
    assert 'code="abc123"' in found["provenance"]


def test_an_id_that_is_no_request_id_comes_back_and_is_none(served):
    _, headers, body = post(served, plain(id="größe 1"))
    assert body["id"] == "größe 1"
    assert body["parameters"]["request_id"] == headers["x-request-id"] != "größe 1"


def test_a_unit_sticks_to_its_arm_whichever_way_it_is_named(served):
    served_by = set()
    for number in range(40):
        unit = f"user-{number}"
        ours = served.call("POST", "/v1/models/iris/predict", {"features": FEATURES, "unit": unit})[2]
        by_parameter = post(served, plain(parameters={"unit": unit}))[2]["model_version"]
        by_header = post(served, plain(), headers={"X-Unit": unit})[2]["model_version"]
        assert ours["model_version"] == by_parameter == by_header
        served_by.add(by_parameter)
    assert served_by == {"v1", "v2"}


def test_a_version_in_the_path_pins_and_wins_over_the_header(served):
    path = "/v2/models/iris/versions/v2/infer"
    assert post(served, plain(), path, {"X-Model-Version": "v1"})[2]["model_version"] == "v2"
    assert post(served, plain(), headers={"X-Model-Version": "v2"})[2]["model_version"] == "v2"
    assert post(served, plain(), "/v2/models/iris/versions/v9/infer")[0] == 404


def test_texts_go_as_bytes_and_fields_may_be_left_out(client):
    countries = np.array([["DE"], ["FR"]], object)
    ages = np.array([[30], [40]], np.float32)
    for binary in (True, False):
        given = [tensor("country", countries, "BYTES", binary), tensor("age", ages, "FP32", binary)]
        assert client.infer("shop", given).as_numpy("value").reshape(-1).tolist() == [131.0, 241.0]
    visits = tensor("visits", np.array([[5], [6]], np.int64), "INT64")
    assert client.infer("shop", [*given, visits]).as_numpy("value").reshape(-1).tolist() == [135.0, 246.0]


def test_the_contracts_fields_may_be_sent_one_by_one(client):
    given = [tensor(name, ROWS[:, i].astype(np.float64), "FP64") for i, name in enumerate(FEATURES)]
    np.testing.assert_array_equal(
        client.infer("iris", given, model_version="v1").as_numpy("probabilities"),
        client.infer("iris", [tensor()], model_version="v1").as_numpy("probabilities"),
    )


def test_a_body_without_json_is_the_models_one_input(served, client):
    status, headers, _ = served.call(
        "POST", "/v2/models/iris/versions/v1/infer", ROWS.tobytes(), {"Inference-Header-Content-Length": "0"}
    )
    assert status == 200
    assert headers["inference-header-content-length"]


def test_what_is_asked_over_v2_is_logged_and_counted_like_the_rest(served, client):
    before = client.get_inference_statistics("shop")["model_stats"][0]["inference_count"]
    ages = np.full((250, 1), 30, np.float32)
    client.infer("shop", [tensor("country", np.full((250, 1), "DE", object), "BYTES"), tensor("age", ages)])
    after = client.get_inference_statistics("shop", "s1")["model_stats"][0]
    assert after["inference_count"] == before + 250
    assert after["inference_stats"]["compute_infer"]["count"] >= 3  # pieces of at most 100 rows
    assert 'model_prediction_requests_total{model_name="shop"' in served.call("GET", "/metrics")[2]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (plain([[1, 2, 3, 11]]), "Row 0: field 'petal_width' breaks rule 'range'"),
        (plain([[1, 2, 3, 4], [1, 2, 3, None]]), "Row 1: field 'petal_width' breaks rule 'missing'"),
        ({"inputs": [{"name": "Z", "shape": [1], "datatype": "FP32", "data": [1]}]}, "no input 'Z'"),
        ({"inputs": []}, "no input"),
        ({"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP64", "data": [1, 2, 3, 4]}]}, "float64"),
        ({"inputs": [{"name": "X", "shape": [2, 4], "datatype": "FP32", "data": [1]}]}, "1 elements"),
        ({"inputs": [{"name": "X", "shape": [0, 4], "datatype": "FP32", "data": []}]}, "no rows"),
        ({"inputs": [{"name": "X", "shape": [1, 4], "datatype": "BF16", "data": []}]}, "Send BF16 as FP32"),
        (plain(outputs=[{"name": "nope"}]), "no output 'nope'"),
        (plain(parameters={"sequence_id": 1}), "sequences are not supported"),
        (plain(parameters={"timeout": -1}), "'timeout'"),
        (plain(parameters={"priority": "high"}), "'priority'"),
        (b"{", "no inference request"),
        (b"", "no inference request"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_words(served, document, words):
    status, headers, body = post(served, document)
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert words in body["error"]


def test_refusals_reach_tritonclient_as_its_own_errors(client):
    with pytest.raises(InferenceServerException, match="breaks rule 'range'"):
        client.infer("iris", [tensor(array=ROWS + 100)])
    with pytest.raises(InferenceServerException, match="No model 'nope'"):
        client.infer("nope", [tensor()])


def test_a_time_that_is_too_short_is_a_504(served):
    assert post(served, plain(parameters={"timeout": 1}))[0] in (503, 504)


def test_bodies_that_swell_are_refused_before_they_do(served):
    bomb = zlib.compress(b"\0" * (64 * 2**20), 9)
    status, _, body = served.call("POST", INFER, bomb, {"Content-Encoding": "deflate"})
    assert (status, "decompressed" in body["error"]) == (413, True)
    for damaged in (b"x", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"x"):
        assert served.call("POST", INFER, damaged, {"Content-Encoding": "gzip"})[0] == 400
    assert served.call("POST", INFER, b"{}", {"Content-Encoding": "br"})[0] == 400


def test_the_index_lists_what_lies_here_and_load_warms_it(client):
    index = client.get_model_repository_index()
    states = {(entry["name"], entry["version"]): entry["state"] for entry in index}
    assert states[("iris", "v1")] == states[("iris", "v3")] == states[("shop", "s1")] == "READY"
    client.load_model("iris")
    with pytest.raises(InferenceServerException, match="no model 'nope'"):
        client.load_model("nope")
    with pytest.raises(InferenceServerException, match="not supported"):
        client.load_model("iris", config="{}")
    with pytest.raises(InferenceServerException, match="has a part in the model's traffic"):
        client.unload_model("iris")


def test_a_rollback_target_is_not_unloaded(served):
    status, _, body = post(served, {"parameters": {"version": "v3"}}, "/v2/repository/models/iris/unload")
    assert (status, "rollback target" in body["error"]) == (409, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/systemsharedmemory/status", 501),
        ("POST", "/v2/cudasharedmemory/region/r/register", 501),
        ("GET", "/v2/trace/setting", 501),
        ("GET", "/v2/logging", 501),
        ("POST", "/v2/models/iris/generate", 501),
        ("GET", "/v2/models/iris/trace/setting", 501),
        ("GET", "/v2/nowhere", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/models/nope/infer", 404),
    ],
)
def test_every_refusal_under_v2_is_plain(served, method, path, status):
    found, _, body = served.call(method, path, b"" if method == "POST" else None)
    assert found == status
    assert list(body) == ["error"]


def test_the_asynchronous_client_works_too(served):
    async def ask():
        async with http_aio.InferenceServerClient(served.url) as client:
            assert await client.is_model_ready("iris")
            results = await asyncio.gather(
                *[client.infer("iris", [tensor()], model_version="v1") for _ in range(20)]
            )
            return [result.as_numpy("label").tolist() for result in results]

    labels = asyncio.run(ask())
    assert all(found == labels[0] for found in labels)


def test_every_answered_row_is_in_the_log_of_a_gateway_that_is_killed(tmp_path):
    folder = lay_models(tmp_path / "data")
    running = Served(folder)
    answered: list[str] = []

    def ask() -> None:
        with contextlib.suppress(OSError, http_client.HTTPException):
            while True:
                name = f"r-{len(answered)}"
                if post(running, plain(id=name))[0] == 200:
                    answered.append(name)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: len(answered) >= 30)
    running.stop(signal.SIGKILL)
    asking.join()
    running.close()
    ingest = Ingest(folder.root)
    ingest.catch_up(10)
    ingest.flush()
    rows = Counter(stored(ingest).column("request_id").to_pylist())
    ingest.close()
    assert {name: rows[name] for name in answered} == dict.fromkeys(answered, len(ROWS))
    assert set(rows.values()) == {len(ROWS)}


@settings(max_examples=150, deadline=None)
@given(BODY | JSON, LENGTHS)
def test_whatever_is_sent_is_never_a_server_error(served, document, length):
    head = json.dumps(document).encode()
    headers = {} if length is None else {"Inference-Header-Content-Length": length.encode().decode("latin-1")}
    if length == "json":
        headers = {"Inference-Header-Content-Length": str(len(head))}
    status, _, body = served.call("POST", INFER, head, headers)
    assert status in (200, 400, 413)
    assert status == 200 or list(body) == ["error"]


def test_sets_of_classes_come_as_a_tensor_for_who_asks_and_are_those_of_the_envelope(served, client):
    asked = [http.InferRequestedOutput(name) for name in ("uncertainty_set", "probabilities")]
    result = client.infer("iris", [tensor()], model_version="v1", outputs=asked)
    within = result.as_numpy("uncertainty_set")
    assert (within.dtype, within.shape) == (np.bool_, (9, 3))
    np.testing.assert_array_equal(within, 1.0 - result.as_numpy("probabilities").astype(np.float64) <= 0.7)
    assert result.get_response()["parameters"]["uncertainty_coverage"] == "0.9"
    for row, held in zip(ROWS[:3].tolist(), within[:3].tolist(), strict=True):
        document = {"features": dict(zip(NAMES, row, strict=True))}
        headers = {"X-Model-Version": "v1"}
        _, _, envelope = post(served, document, "/v1/models/iris/predict", headers)
        assert envelope["uncertainty"]["classes"] == [place for place in range(3) if held[place]]
    one = client.infer("iris", [tensor(array=ROWS[:1])], model_version="v1", outputs=asked[:1])
    np.testing.assert_array_equal(one.as_numpy("uncertainty_set"), within[:1])
    assert one.as_numpy("probabilities") is None


def test_a_version_that_says_nothing_leaves_every_class_in_the_set_and_does_not_promise(client):
    asked = [http.InferRequestedOutput("uncertainty_set")]
    result = client.infer("iris", [tensor()], model_version="v2", outputs=asked)
    assert result.as_numpy("uncertainty_set").all()
    assert "uncertainty_coverage" not in result.get_response()["parameters"]


def test_intervals_come_as_two_tensors_and_nobody_gets_them_unasked(served):
    given = [
        {"name": "country", "shape": [1, 1], "datatype": "BYTES", "data": ["FR"]},
        {"name": "age", "shape": [1, 1], "datatype": "FP32", "data": [1.0]},
    ]
    path = "/v2/models/shop/infer"
    _, _, plain_answer = post(served, {"inputs": given}, path)
    assert [output["name"] for output in plain_answer["outputs"]] == ["value"]
    names = ["uncertainty_high", "value", "uncertainty_low"]
    document = {"inputs": given, "outputs": [{"name": name} for name in names]}
    _, _, found = post(served, document, path)
    held = {output["name"]: (output["datatype"], output["data"]) for output in found["outputs"]}
    assert [output["name"] for output in found["outputs"]] == names
    assert held["uncertainty_low"] == ("FP64", [199.5])
    assert held["uncertainty_high"] == ("FP64", [204.5])
    status, _, refused = post(served, {"inputs": given, "outputs": [{"name": "uncertainty_set"}]}, path)
    assert status == 400
    assert "uncertainty_low" in refused["error"]
