"""What an answer says of how sure it is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from fairlead.contracts.contract import Contract, Output
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.serving.envelope import encode
from tests.models import SAMPLE, faulty_onnx, iris_contract, lay_plan, lay_version, plan_of
from tests.serving.conftest import Gateway
from tests.serving.test_dataplane import predict, predict_batch

SET = Uncertainty(kind="set", quantile=0.5, n=100)


def served(gateway: Gateway, onnx: bytes, held: Uncertainty | None, **options: Any) -> Any:
    spec = msgspec.structs.replace(lay_version(gateway.folder, "v1", onnx, **options), uncertainty=held)
    lay_plan(gateway.folder, plan_of({"stable": ("v1", "stable", 100)}), spec)
    gateway.follow()
    return gateway.plane.model("iris")


def answered(gateway: Gateway, model: Any, **members: Any) -> Any:
    return json.loads(encode(predict(gateway, model, **members)[0]))


def test_a_class_comes_with_the_set_of_classes_that_it_may_be(gateway: Gateway, onnx: Any) -> None:
    model = served(gateway, onnx[0], SET)
    first = answered(gateway, model, return_probabilities=False)
    assert first["uncertainty"] == {"kind": "set", "classes": [0], "coverage": 0.9}
    again = answered(gateway, model)
    assert (again["cached"], again["uncertainty"]) == (True, first["uncertainty"])


def test_each_row_of_a_batch_says_how_sure_it_is(gateway: Gateway, onnx: Any) -> None:
    model = served(gateway, onnx[0], SET)
    rows = [{"features": SAMPLE}, {"features": {"sepal_length": "x"}}, {"features": SAMPLE}]
    found = json.loads(encode(predict_batch(gateway, model, rows)))["predictions"]
    assert [row["uncertainty"] and row["uncertainty"]["classes"] for row in found] == [[0], None, [0]]


def test_a_version_that_has_no_quantile_says_nothing(gateway: Gateway, onnx: Any) -> None:
    model = served(gateway, onnx[0], None)
    assert answered(gateway, model)["uncertainty"] is None
    (row,) = predict_batch(gateway, model, [{"features": SAMPLE}]).predictions
    assert row.uncertainty is None


def test_of_what_no_version_answered_nothing_is_said(gateway: Gateway) -> None:
    contract = Contract(
        inputs=iris_contract().inputs, output=Output(kind="class", classes=(0, 1, 2), default=2)
    )
    model = served(gateway, faulty_onnx(), SET, contract=contract)
    found = json.loads(encode(predict(gateway, model, {**SAMPLE, "sepal_length": 9.0})[0]))
    assert (found["prediction"], found["degraded"]) == (2, "contract_default")
    assert found["uncertainty"] is None


@pytest.mark.parametrize("least", [0.0, 1.0])
def test_no_class_or_every_class_may_be_likely_enough(gateway: Gateway, least: float) -> None:
    held = Uncertainty(kind="set", quantile=1.0 - least, n=100)
    model = served(gateway, faulty_onnx(), held)  # it gives class 0 all of the probability
    expected = [0] if least else [0, 1, 2]
    assert answered(gateway, model)["uncertainty"]["classes"] == expected


def test_the_log_says_what_each_uncertainty_was_told_by(gateway: Gateway, onnx: Any) -> None:
    model = served(gateway, onnx[0], SET)
    answered(gateway, model)
    predict_batch(gateway, model, [{"features": SAMPLE}, {"features": {"sepal_length": "x"}}])
    without = served(gateway, onnx[0], None)
    answered(gateway, without)
    logged = [(one.status, one.conformal_quantile) for one in gateway.records()]
    assert logged == [("ok", 0.5), ("ok", 0.5), ("rejected", None), ("ok", None)]
