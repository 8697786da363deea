"""Rows to tensors and tensors to predictions, and which contracts fit which models."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.errors import InvalidContract, RuntimeFailed
from fairlead.runtimes.base import DType, OutputNames, RuntimeSpec, Tensor
from fairlead.runtimes.binding import Binding

NUMBER = Output(kind="number")


def bound(
    fields: list[Field],
    tensors: list[tuple[str, DType, tuple[int, ...]]],
    output: Output = NUMBER,
    names: OutputNames = OutputNames(value="y"),  # noqa: B008 - frozen
    *,
    matrix: bool = False,
) -> Binding:
    spec = RuntimeSpec(
        kind="onnx",
        entry="m.onnx",
        binding="matrix" if matrix else "columns",
        inputs=tuple(Tensor(name=name, dtype=dtype, shape=shape) for name, dtype, shape in tensors),
        outputs=names,
    )
    return Binding(Contract(inputs=tuple(fields), output=output), spec)


def one(output: Output, names: OutputNames) -> Binding:
    return bound([Field(name="a", type="float")], [("a", "float64", (-1,))], output, names)


def test_a_matrix_has_a_row_per_row_and_nan_for_null() -> None:
    fields = [Field(name="a", type="float", nullable=True), Field(name="b", type="bool")]
    feed = bound(fields, [("X", "float64", (-1, 2))], matrix=True).encode([(1.5, True), (None, False)])
    assert feed["X"].dtype == np.float64
    assert np.array_equal(feed["X"], [[1.5, 1.0], [math.nan, 0.0]], equal_nan=True)


def test_columns_have_the_type_and_rank_that_the_model_asks_for() -> None:
    fields = [
        Field(name="n", type="int"),
        Field(name="x", type="int", nullable=True),
        Field(name="s", type="string", nullable=True),
        Field(name="v", type="float", shape=(2,)),
    ]
    tensors: list[tuple[str, DType, tuple[int, ...]]] = [
        ("s", "string", (-1, 1)),
        ("n", "int64", (-1,)),
        ("x", "float64", (-1, 1)),
        ("v", "float32", (-1, 2)),
    ]
    feed = bound(fields, tensors).encode([(1, 2, "ä", [0.5, 1.0]), (3, None, None, [1.5, 2.0])])
    assert {name: (array.dtype, array.shape) for name, array in feed.items()} == {
        "n": (np.dtype(np.int64), (2,)),
        "x": (np.dtype(np.float64), (2, 1)),
        "s": (np.dtype(object), (2, 1)),
        "v": (np.dtype(np.float32), (2, 2)),
    }
    assert feed["s"].tolist() == [["ä"], [""]]
    assert math.isnan(feed["x"][1, 0])


def test_missing_text_is_empty_in_onnx_and_none_in_python() -> None:
    contract = Contract(inputs=(Field(name="s", type="string", nullable=True),), output=NUMBER)
    for kind, expected in (("onnx", ["a", ""]), ("python", ["a", None])):
        spec = RuntimeSpec(
            kind=kind,  # type: ignore[arg-type]
            entry="m",
            binding="columns",
            inputs=(Tensor(name="s", dtype="string", shape=(-1,)),),
            outputs=OutputNames(value="y"),
        )
        assert Binding(contract, spec).encode([("a",), (None,)])["s"].tolist() == expected


def test_lists_of_different_lengths_do_not_share_a_tensor() -> None:
    for matrix, name in ((True, "X"), (False, "v")):
        binding = bound(
            [Field(name="v", type="float", shape=(-1,))], [(name, "float64", (-1, -1))], matrix=matrix
        )
        assert binding.encode([([1.0, 2.0],), ([3.0, 4.0],)])[name].tolist() == [[1.0, 2.0], [3.0, 4.0]]
        with pytest.raises(RuntimeFailed, match="different lengths"):
            binding.encode([([1.0],), ([1.0, 2.0],)])


@pytest.mark.parametrize(
    ("field", "dtype"),
    [
        (Field(name="a", type="int", nullable=True), "int64"),
        (Field(name="a", type="bool", nullable=True), "bool"),
        (Field(name="a", type="float", shape=(2,), nullable=True), "float64"),
    ],
)
def test_a_null_that_no_tensor_can_hold_is_refused_at_registration(field: Field, dtype: DType) -> None:
    shape = (-1, 2) if field.shape else (-1,)
    with pytest.raises(InvalidContract, match=r"'a' is .*nullable"):
        bound([field], [("a", dtype, shape)])
    with pytest.raises(InvalidContract, match=r"'a' is .*nullable"):
        bound([field], [("X", dtype, (-1, 2 if field.shape else 1))], matrix=True)


@pytest.mark.parametrize(
    ("fields", "tensors", "matrix"),
    [
        ([Field(name="a", type="float")], [("X", "float64", (-1, 2))], True),
        ([Field(name="a", type="string")], [("X", "float64", (-1, 1))], True),
        ([Field(name="a", type="float")], [("a", "string", (-1,))], False),
        ([Field(name="a", type="float")], [("b", "float64", (-1,))], False),
    ],
)
def test_a_contract_that_does_not_fit_the_model_is_refused(
    fields: list[Field], tensors: list[Any], matrix: bool
) -> None:
    with pytest.raises(InvalidContract):
        bound(fields, tensors, matrix=matrix)


def test_classes_come_with_probabilities_in_their_order_and_booleans_stay_booleans() -> None:
    names = OutputNames(label="label", probabilities="p")
    binding = one(Output(kind="class", classes=(False, True)), names)
    found = binding.decode({"label": np.array([1, 0]), "p": np.array([[0.25, 0.75], [0.5, 0.5]])}, 2)
    assert [prediction.value for prediction in found] == [True, False]
    assert [prediction.probabilities for prediction in found] == [[0.25, 0.75], [0.5, 0.5]]
    assert binding.class_names == ("false", "true")


def test_probabilities_alone_name_the_most_probable_class() -> None:
    binding = one(Output(kind="class", classes=("no", "yes")), OutputNames(probabilities="p"))
    assert binding.decode({"p": np.array([[0.25, 0.75]])}, 1)[0].value == "yes"


def test_a_ranking_names_its_items() -> None:
    binding = one(Output(kind="ranking", items=("x", "y")), OutputNames(ids="i", scores="s"))
    outputs = {"i": np.array([[1, 0]]), "s": np.array([[0.75, 0.25]])}
    assert binding.decode(outputs, 1)[0].value == [{"id": "y", "score": 0.75}, {"id": "x", "score": 0.25}]
    with pytest.raises(RuntimeFailed, match="position"):
        binding.decode({**outputs, "i": np.array([[1, 2]])}, 1)


@pytest.mark.parametrize(
    ("output", "names", "outputs"),
    [
        (NUMBER, OutputNames(value="y"), {"y": np.array([np.nan])}),
        (NUMBER, OutputNames(value="y"), {"y": np.array([1.0, 2.0])}),
        (NUMBER, OutputNames(value="y"), {}),
        (Output(kind="number", maximum=1.0), OutputNames(value="y"), {"y": np.array([1.5])}),
        (Output(kind="vector", length=2), OutputNames(value="y"), {"y": np.ones((1, 3))}),
        (Output(kind="vector"), OutputNames(value="y"), {"y": np.array([[np.inf]])}),
        (
            Output(kind="class", classes=(0, 1)),
            OutputNames(probabilities="y"),
            {"y": np.array([[np.nan, 1]])},
        ),
        (
            Output(kind="ranking"),
            OutputNames(ids="i", scores="y"),
            {"i": np.array([[1]]), "y": np.array([[np.nan]])},
        ),
    ],
)
def test_an_answer_that_the_contract_forbids_is_a_failure_of_the_model(
    output: Output, names: OutputNames, outputs: dict[str, Any]
) -> None:
    with pytest.raises(RuntimeFailed):
        one(output, names).decode(outputs, 1)
