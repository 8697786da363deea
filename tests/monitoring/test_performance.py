"""Figures of how answers met their labels: two classes, many, numbers, rankings, and the nasty cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fairlead.monitoring.performance import Figure, clicks_of, of_classes, of_errors, of_places, of_scores
from fairlead.monitoring.scored import scored
from fairlead.predictions.labelled_counts import Cell, ErrorCell, PlaceCell
from tests.data.employment import employment


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def two(tp: int, fp: int, fn: int, tn: int, unknown: int = 0) -> list[Cell]:
    counted = [("1", "1", tp), ("1", "0", fp), ("0", "1", fn), ("0", "0", tn), ("1", None, unknown)]
    return [Cell(answered, label, None, n, 0.0) for answered, label, n in counted if n]


def test_figures_of_two_classes_are_those_of_the_confusion_matrix() -> None:
    found = by_name(of_classes(two(40, 10, 20, 30, unknown=500), ["0", "1"]))
    assert found["accuracy"].value == 0.7
    assert found["precision"].value == 0.8
    assert found["recall"].value == pytest.approx(2 / 3)
    assert found["f1"].value == pytest.approx(80 / 110)
    assert found["accuracy"].n == 100
    assert "auc" not in found, "there are no scores"


def test_wilsons_interval_of_accuracy_is_the_textbooks() -> None:
    found = by_name(of_classes(two(81, 0, 182, 0), ["0", "1"]))["accuracy"]
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263
    assert found.low == pytest.approx(0.2553, abs=5e-5)
    assert found.high == pytest.approx(0.3662, abs=5e-5)


def test_a_single_class_a_single_row_and_no_labels_leave_out_what_cannot_be_told() -> None:
    assert of_classes([], ["0", "1"]) == []
    assert of_classes(two(0, 0, 0, 0, unknown=5), ["0", "1"]) == []
    only = by_name(of_classes(two(0, 0, 0, 7), ["0", "1"]))
    assert set(only) == {"accuracy"}
    one = by_name(of_scores(scored([1.0], [True], [1.0])))
    assert "auc" not in one
    assert one["log_loss"].value == pytest.approx(0.0, abs=1e-12)
    assert one["log_loss"].low is None


def test_a_sure_and_wrong_score_has_a_finite_log_loss() -> None:
    found = by_name(of_scores(scored([1.0, 0.0], [True, False], [0.0, 1.0])))
    assert found["log_loss"].value == pytest.approx(-math.log(1e-15), rel=1e-2)
    assert found["brier"].value == 1.0


def test_many_classes_are_averaged_over_those_that_occur_and_named_so() -> None:
    # scikit-learn's classification report of y = [0, 1, 2, 2, 2] and [0, 0, 2, 2, 1] (its documentation)
    pairs = [("0", "0"), ("0", "1"), ("2", "2"), ("2", "2"), ("1", "2")]
    cells = [Cell(answered, label, None, 1, 0.0) for answered, label in pairs]
    found = by_name(of_classes(cells, ["0", "1", "2"]))
    assert found["accuracy"].value == 0.6
    assert found["precision_macro"].value == pytest.approx(0.50)
    assert found["recall_macro"].value == pytest.approx(0.5555, abs=1e-4)
    assert found["f1_macro"].value == pytest.approx(0.49, abs=5e-3)


def test_figures_of_numbers_come_from_sums() -> None:
    errors = np.array([3.0, -0.5, 2.0, 7.0, 0.0])
    cells = [
        ErrorCell(index, 1, error, abs(error), error**2, error**4, 1.0) for index, error in enumerate(errors)
    ]
    found = by_name(of_errors([*cells, ErrorCell(None, 9, 0.0, 0.0, 0.0, 0.0, 4.0)]))
    assert found["mae"].value == pytest.approx(2.5)
    assert found["bias"].value == pytest.approx(2.3)
    assert found["rmse"].value == pytest.approx(math.sqrt(12.45))
    assert found["mae"].n == 5
    low, high = found["rmse"].low, found["rmse"].high
    assert low is not None
    assert high is not None
    assert low < found["rmse"].value < high


def test_errors_that_are_not_finite_and_none_at_all_are_no_figures() -> None:
    assert of_errors([]) == []
    assert of_errors([ErrorCell(5, 1, math.inf, math.inf, math.inf, math.inf, 1.0)]) == []
    huge = by_name(of_errors([ErrorCell(5, 1, 1e80, 1e80, 1e160, math.inf, 1.0)]))
    assert set(huge) == {"mae", "bias"}


def test_rankings_are_judged_by_the_place_of_what_was_right() -> None:
    cells = [PlaceCell(1, 2), PlaceCell(3, 1), PlaceCell(0, 1), PlaceCell(None, 10)]
    found = by_name(of_places(cells))
    assert found["hit@1"].value == 0.5
    assert found["hit@3"].value == 0.75
    assert found["ndcg@3"].value == pytest.approx((2 + 0.5) / 4)
    assert found["mrr"].value == pytest.approx((2 + 1 / 3) / 4)
    assert of_places([PlaceCell(None, 3)]) == []


def test_clicks_are_told_by_place_down_to_the_last_and_what_was_not_shown_is_at_none() -> None:
    found = clicks_of([PlaceCell(1, 2), PlaceCell(3, 1), PlaceCell(0, 1), PlaceCell(None, 10)])
    assert [(one.name, one.value, one.n) for one in found] == [
        ("place 1", 0.5, 4), ("place 2", 0.0, 4), ("place 3", 0.25, 4),
    ]  # fmt: skip
    assert all(one.low is not None and one.low <= one.value <= (one.high or 0.0) for one in found)
    assert len(clicks_of([PlaceCell(500, 1)])) == 20
    assert clicks_of([PlaceCell(None, 3)]) == clicks_of([]) == []


def test_real_peoples_accuracy_and_area_are_those_computed_otherwise() -> None:
    people = employment().of(2015)
    found = by_name(of_scores(scored(people.probability, people.prediction == 1, people.label)))
    # counted row by row, without cells
    assert found["auc"].value == pytest.approx(0.903361, abs=5e-7)
    assert found["brier"].value == pytest.approx(0.122893, abs=5e-7)
