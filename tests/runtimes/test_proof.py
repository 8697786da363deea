"""The arithmetic of a proof."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.table import read_table
from fairlead.runtimes.base import Array, OutputNames, RuntimeSpec, Tensor, Tensors
from fairlead.runtimes.binding import Binding, Prediction
from fairlead.runtimes.proof import Answers, Proof, compare, serve


def proof(expected: Answers, served: list[Prediction], tolerance: float = 1e-5) -> Proof:
    return compare(expected, served, tolerance, rounding="last", versions={"scikit-learn": "1"})


def probabilities(*rows: tuple[Any, list[float]]) -> Answers:
    return Answers(
        compared="probabilities",
        values=[label for label, _ in rows],
        probabilities=np.array([row for _, row in rows]),
    )


def test_rows_within_the_tolerance_hold_and_the_largest_difference_is_kept() -> None:
    found = proof(
        probabilities((0, [0.75, 0.25]), (1, [0.25, 0.75])),
        [Prediction(0, [0.75, 0.25]), Prediction(1, [0.250004, 0.749996])],
    )
    assert found.holds
    assert found.max_difference == found.max_abs_difference == pytest.approx(4e-6)
    assert (found.rows, found.share_off, found.label_flips) == (2, 0.0, 0)


def test_one_row_beyond_it_is_enough() -> None:
    found = proof(
        probabilities(*[(0, [0.75, 0.25])] * 4),
        [Prediction(0, [0.75, 0.25])] * 3 + [Prediction(0, [0.74, 0.26])],
    )
    assert not found.holds
    assert found.share_off == 0.25


def test_a_label_may_flip_at_a_tie_and_nowhere_else() -> None:
    tie = proof(probabilities((0, [0.5, 0.5])), [Prediction(1, [0.5, 0.5])])
    assert (tie.holds, tie.label_flips) == (True, 1)
    clear = proof(probabilities((0, [0.6, 0.4])), [Prediction(1, [0.6, 0.4])])
    assert (clear.holds, clear.label_flips) == (False, 1)
    three = proof(probabilities((0, [0.4, 0.2, 0.4])), [Prediction(2, [0.4, 0.2, 0.4])])
    assert three.holds


def test_equal_labels_alone_prove_nothing() -> None:
    assert not proof(probabilities((0, [0.9, 0.1])), [Prediction(0, [0.6, 0.4])]).holds


def test_labels_that_differ_are_off_when_there_is_nothing_else_to_compare() -> None:
    found = proof(Answers(compared="labels", values=["a", "b"]), [Prediction("a"), Prediction("c")])
    assert (found.share_off, found.label_flips, found.max_difference) == (0.5, 1, 0.0)


def test_true_and_one_are_one_label_and_one_and_its_text_are_not() -> None:
    assert proof(Answers(compared="labels", values=[True]), [Prediction(1)]).holds
    assert not proof(Answers(compared="labels", values=[1]), [Prediction("1")]).holds


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_values_are_compared_relative_to_their_size(scale: float) -> None:
    known = [[100.0 * scale], [-50.0 * scale]]
    near = [Prediction(100.0005 * scale), Prediction(-50.0 * scale)]
    far = [Prediction(100.01 * scale), Prediction(-50.0 * scale)]
    assert proof(Answers(compared="values", values=known), near).holds
    found = proof(Answers(compared="values", values=known), far)
    assert found.share_off == 0.5
    assert found.max_difference == pytest.approx(1e-4)
    assert found.max_abs_difference == pytest.approx(0.01 * scale)


def test_a_value_near_zero_is_measured_by_the_mean_of_all() -> None:
    known = [[1000.0], [1e-9]]
    assert proof(Answers(compared="values", values=known), [Prediction(1000.0), Prediction(1e-3)]).holds
    assert not proof(Answers(compared="values", values=known), [Prediction(1000.0), Prediction(1.0)]).holds


def test_each_number_of_a_vector_is_measured_by_its_own_mean() -> None:
    known = Answers(compared="values", values=[[1e6, 1e-6], [1e6, 1e-6]])
    found = proof(known, [Prediction([1e6, 1e-6]), Prediction([1e6, 1.1e-6])])
    assert found.share_off == 0.5


def test_a_model_that_answers_nan_is_off() -> None:
    assert not proof(Answers(compared="values", values=[[1.0]]), [Prediction(float("nan"))]).holds


class Summing:
    """A runtime that remembers how many rows came at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, feed: Tensors) -> dict[str, Array]:
        self.sizes.append(len(feed["X"]))
        return {"y": feed["X"].sum(axis=1)}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 2500])
def test_every_row_is_served_once_the_first_ones_alone(rows: int) -> None:
    values = np.arange(rows * 2.0).reshape(rows, 2)
    contract = Contract(
        inputs=(Field(name="f0", type="float"), Field(name="f1", type="float")), output=Output(kind="number")
    )
    spec = RuntimeSpec(
        kind="onnx",
        entry="m.onnx",
        binding="matrix",
        inputs=(Tensor(name="X", dtype="float64", shape=(-1, 2)),),
        outputs=OutputNames(value="y"),
    )
    runtime = Summing()
    served = serve(read_table(values), contract, runtime, Binding(contract, spec))
    assert [prediction.value for prediction in served] == values.sum(axis=1).tolist()
    assert runtime.sizes[: min(rows, 32)] == [1] * min(rows, 32)
    assert max(runtime.sizes) <= 1000
