"""The faces of TensorFlow Serving, MLflow and SageMaker: the same models under other people's requests."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.inference.conftest import Served, lay_models
from tests.gateway.inference.test_codec import JSON

IRIS = "/v1/models/iris/versions/v1:predict"
SHOP = "/v1/models/shop:predict"
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ROW = [5.1, 3.5, 1.4, 0.2]
RECORD = {"country": "DE", "age": 30, "visits": 2}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    running = Served(lay_models(tmp_path_factory.mktemp("faces") / "data"), default_model="shop")
    yield running
    running.close()


# --- TensorFlow Serving -------------------------------------------------------------------------------------


def test_rows_of_one_input_are_answered_row_by_row(served):
    status, headers, body = served.call("POST", IRIS, {"instances": [ROW, [6, 3, 5, 2]]})
    assert status == 200
    assert [set(row) for row in body["predictions"]] == [{"label", "probabilities"}] * 2
    assert len(body["predictions"][0]["probabilities"]) == 3
    assert headers["x-model-version"] == "v1"
    assert headers["x-request-id"]


def test_columns_are_answered_by_columns(served):
    status, _, body = served.call("POST", IRIS, {"inputs": {"X": [ROW]}, "signature_name": "serving_default"})
    assert status == 200
    assert set(body["outputs"]) == {"label", "probabilities"}
    assert served.call("POST", IRIS, {"inputs": [ROW]})[2] == body


def test_rows_of_named_inputs_and_texts_in_base64(served):
    text = {"b64": base64.b64encode(b"FR").decode()}
    rows = [RECORD, {"country": text, "age": 1.5}]
    status, _, body = served.call("POST", SHOP, {"instances": rows})
    assert (status, body) == (
        400,
        body,
    )  # the second row leaves out what the first has: null is no visit count
    status, _, body = served.call("POST", SHOP, {"instances": [RECORD, {**RECORD, "country": text}]})
    assert (status, body) == (200, {"predictions": [[132.0], [232.0]]})


def test_a_single_output_has_no_name(served):
    columns = {"country": ["DE"], "age": [30], "visits": [2]}
    assert served.call("POST", SHOP, {"inputs": columns})[2] == {"outputs": [[132.0]]}


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        (IRIS, {"instances": [[1, 2, 3]]}, 400),
        (IRIS, {"instances": [[1, 2, 3, 11]]}, 400),
        (IRIS, {"instances": [[1, 2, 3, "x"]]}, 400),
        (IRIS, {"instances": [[1, 2], [1]]}, 400),
        (IRIS, {"instances": []}, 400),
        (IRIS, {"instances": [ROW], "inputs": [ROW]}, 400),
        (IRIS, {"instances": [ROW], "signature_name": "other"}, 400),
        (IRIS, {"rows": [ROW]}, 400),
        (SHOP, {"instances": [1, 2]}, 400),
        (SHOP, {"instances": [{"country": {"b64": "?"}, "age": 1}]}, 400),
        ("/v1/models/iris/versions/v9:predict", {"instances": [ROW]}, 404),
        ("/v1/models/nope:predict", {"instances": [ROW]}, 404),
        (IRIS, b"{", 400),
    ],
)
def test_what_goes_wrong_is_said_as_tensorflow_serving_says_it(served, path, document, status):
    found, _, body = served.call("POST", path, document)
    assert found == status
    assert list(body) == ["error"]


def test_the_models_status_has_what_tensorflow_serving_answers_there(served):
    status = served.call("GET", "/v1/models/iris")[2]["model_version_status"]
    assert [entry["version"] for entry in status] == ["v1", "v2"]
    assert {entry["state"] for entry in status} == {"AVAILABLE"}


# --- MLflow and SageMaker -----------------------------------------------------------------------------------

SPLIT = {"columns": ["country", "age", "visits"], "data": [["DE", 30, 2], ["FR", 1.5, 1]]}
RECORDS = [dict(zip(SPLIT["columns"], row, strict=True)) for row in SPLIT["data"]]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps({"dataframe_split": SPLIT}).encode()),
        (
            "application/json; charset=utf-8",
            json.dumps(
                {
                    "dataframe_records": [
                        dict(zip(SPLIT["columns"], row, strict=True)) for row in SPLIT["data"]
                    ]
                }
            ).encode(),
        ),
        (
            "application/json",
            json.dumps({"instances": RECORDS}).encode(),
        ),
        (
            "application/json",
            json.dumps({"inputs": {"country": ["DE", "FR"], "age": [30, 1.5], "visits": [2, 1]}}).encode(),
        ),
        ("text/csv", b"country,age,visits\nDE,30,2\nFR,1.5,1\n"),
        ("text/csv", b"age,visits,country\r\n30,2,DE\r\n1.5,1.0,FR\r\n"),
        ("text/csv; header=absent", b"DE,30,2\nFR,1.5,1"),
    ],
)
def test_every_form_of_an_invocation_is_answered_alike(served, kind, body):
    status, headers, answer = served.call("POST", "/invocations", body, {"Content-Type": kind})
    assert (status, answer) == (200, {"predictions": [132.0, 202.5]})
    assert headers["x-model-version"] == "s1"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/csv", b""),
        ("text/csv", b"country,age,visits\n"),
        ("text/csv", b"country,age,visits\nDE,30\n"),
        ("text/csv", b"country,age,visits\nDE,old,1\n"),
        ("text/csv", b"\xff\xfe"),
        ("application/json", b"[]"),
        ("application/json", b"{}"),
        ("application/json", b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}'),
        ("application/json", b'{"dataframe_records": [1]}'),
        ("application/json", b'{"dataframe_split": 1, "inputs": 2}'),
        ("application/x-parquet", b"PAR1"),
    ],
)
def test_an_invocation_that_makes_no_sense_is_a_problem_document(served, kind, body):
    status, headers, answer = served.call("POST", "/invocations", body, {"Content-Type": kind})
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    assert answer["code"] in ("malformed_request", "data_contract_violation")


def test_a_violation_names_the_row(served):
    body = b"country,age,visits\nDE,30,1\nDE,300,1\n"
    _, _, answer = served.call("POST", "/invocations", body, {"Content-Type": "text/csv"})
    assert answer["violations"][0] == {
        "row": 1, "field": "age", "rule": "range", "value": 300.0, "expected": "0 to 120",
    }  # fmt: skip


def test_a_ping_answers_for_the_default_model_alone(served):
    assert served.call("GET", "/ping")[0] == 200


def test_without_a_default_model_there_is_nothing_to_invoke(tmp_path):
    running = Served(lay_models(tmp_path / "data"))
    try:
        assert running.call("GET", "/ping")[0] == 404
        assert running.call("POST", "/invocations", {})[0] == 404
    finally:
        running.close()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([IRIS, SHOP, "/invocations"]),
    st.dictionaries(
        st.sampled_from(["instances", "inputs", "dataframe_split", "dataframe_records", "signature_name"]),
        JSON | st.lists(st.dictionaries(st.sampled_from([*RECORD, "b64"]), JSON, max_size=3), max_size=3),
        min_size=1,
        max_size=2,
    ),
)
def test_whatever_is_sent_is_never_a_server_error(served, path, document):
    assert served.call("POST", path, json.dumps(document).encode())[0] in (200, 400)
