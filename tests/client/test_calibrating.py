"""How sure answers are, as it is found where the person is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from fairlead.client.calibrating import MOST_ROWS, known_rows
from fairlead.client.packing import packed
from fairlead.contracts.adaptive import quantile_at
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.errors import InvalidReference

Rows = tuple[pd.DataFrame, "pd.Series[Any]"]


def drawn(n: int, seed: int, noise: float = 1.0) -> Rows:
    """Rows of which y is twice the sum of x and z, and noise."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(n, 2)), columns=["x", "größe"])
    return table, 2 * table.sum(axis=1) + rng.normal(0, noise, n)


def said(model: Any, **options: Any) -> Uncertainty | None:
    with packed(model, **options) as package:
        return package.uncertainty


@pytest.fixture(scope="module")
def line() -> LinearRegression:
    return LinearRegression().fit(*drawn(300, 0))


@pytest.fixture(scope="module")
def classifier() -> LogisticRegression:
    table, answers = drawn(300, 0)
    return LogisticRegression().fit(table, np.where(answers > 0, "yes", "no"))


def test_the_reference_says_how_sure_answers_are_and_that_it_is_optimistic(line: LinearRegression) -> None:
    table, answers = drawn(300, 0)
    held = said(line, reference=table, target=answers)
    assert held is not None
    assert (held.kind, held.n, held.coverage, held.optimistic) == ("interval", 300, 0.9, True)
    residuals = np.sort(np.abs(answers - line.predict(table)))
    assert held.quantile == pytest.approx(residuals[270])  # the 271st of 300: 301 * 0.9 is 270.9
    named = said(line, reference=table.assign(price=answers), target="price")
    assert named == held


def test_the_distances_of_calibration_come_along_in_order_and_are_never_many(line: LinearRegression) -> None:
    for rows, kept in ((99, 99), (1_700, 500)):
        table, answers = drawn(rows, 1)
        with packed(line, calibration=(table, answers), reference=table) as package:
            scores, uncertainty = package.scores, package.uncertainty
        residuals = np.abs(answers - line.predict(table))
        assert uncertainty is not None
        assert len(scores) == kept
        assert list(scores) == sorted(scores)
        assert scores[-1] == pytest.approx(residuals.max())
        assert uncertainty.quantile <= quantile_at(uncertainty, scores, 0.1) < 1.1 * uncertainty.quantile
    with packed(line, reference=drawn(300, 0)[0]) as package:
        assert (package.scores, package.uncertainty) == ((), None)


def test_rows_given_apart_win_over_the_reference(line: LinearRegression) -> None:
    table, answers = drawn(300, 0)
    held = said(line, reference=table, target=answers, calibration=drawn(99, 1, noise=5.0))
    assert held is not None
    assert (held.n, held.optimistic) == (99, False)
    assert 6.0 < held.quantile < 11.0  # 1.645 standard deviations of 5


def test_without_labels_nothing_is_said(line: LinearRegression) -> None:
    assert said(line, reference=drawn(30, 0)[0]) is None


def test_of_fewer_than_nine_rows_the_reference_says_nothing_and_a_calibration_is_refused(
    line: LinearRegression,
) -> None:
    table, answers = drawn(8, 2)
    assert said(line, reference=table, target=answers) is None
    with pytest.raises(InvalidReference, match="8 rows"):
        said(line, reference=table, calibration=(table, answers))


def test_rows_without_a_label_are_left_out(line: LinearRegression) -> None:
    table, answers = drawn(60, 2)
    answers[:10] = np.nan
    held = said(line, reference=table, calibration=(table, answers))
    assert held is not None
    assert held.n == 50


def test_new_rows_lie_in_the_sets_as_often_as_promised(classifier: LogisticRegression) -> None:
    table, answers = drawn(2_000, 3)
    labels = np.where(answers > 0, "yes", "no")
    held = said(classifier, reference=table[:50], calibration=(table, labels))
    assert held is not None
    assert held.kind == "set"
    fresh, truth = drawn(4_000, 4)
    wanted = np.where(truth > 0, 1, 0)
    probabilities = classifier.predict_proba(fresh)
    within = [
        ("no", "yes")[label] in held.told(None, row.tolist(), ("no", "yes")).classes  # type: ignore[union-attr]
        for row, label in zip(probabilities, wanted, strict=True)
    ]
    assert np.mean(within) == pytest.approx(0.9, abs=0.03)


def test_labels_that_the_model_does_not_know_are_named(classifier: LogisticRegression) -> None:
    table, _ = drawn(20, 3)
    with pytest.raises(InvalidReference, match="'perhaps'"):
        said(classifier, reference=table, calibration=(table, ["perhaps"] * 20))
    assert said(classifier, reference=table, target=["perhaps"] * 20) is None


def test_a_classifier_without_probabilities_has_no_sets() -> None:
    table, answers = drawn(100, 5)
    model = LinearSVC().fit(table, answers > 0)
    assert said(model, reference=table, target=answers > 0) is None
    with pytest.raises(InvalidReference, match="no probabilities"):
        said(model, reference=table, calibration=(table, answers > 0))


def test_text_is_no_label_of_a_number(line: LinearRegression) -> None:
    table, _ = drawn(20, 6)
    with pytest.raises(InvalidReference, match="text"):
        said(line, reference=table, calibration=(table, ["1"] * 20))


def test_a_pickle_is_not_asked_here(line: LinearRegression) -> None:
    table, answers = drawn(40, 7)
    assert said(line, reference=table, target=answers, trust_pickle=True) is None
    with pytest.raises(InvalidReference, match="pickle"):
        said(line, reference=table, target=answers, calibration=(table, answers), trust_pickle=True)


def test_a_table_has_the_labels_in_the_column_that_is_the_target() -> None:
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"x": rng.normal(size=200)}).assign(y=lambda one: 2 * one.x + rng.normal(size=200))
    line = LinearRegression().fit(table[["x"]], table.y)
    apart = said(line, reference=table, target="y", calibration=(table[["x"]], table.y))
    assert apart is not None
    assert said(line, reference=table, target="y", calibration=table) == apart
    for target in (table.y, None):
        with pytest.raises(InvalidReference, match="have no labels"):
            said(line, reference=table[["x"]], target=target, calibration=table)


def test_a_calibration_without_a_column_of_the_model_names_it(line: LinearRegression) -> None:
    table, answers = drawn(40, 7)
    with pytest.raises(InvalidReference, match="größe"):
        said(line, reference=table, calibration=(table.drop(columns="größe"), answers))


def test_matrices_are_read_in_the_order_of_the_contract() -> None:
    table, answers = drawn(100, 8)
    matrix = table.to_numpy()
    model = LinearRegression().fit(matrix, answers)
    by_matrix = said(model, reference=matrix, target=answers)
    named = LinearRegression().fit(table, answers)
    assert by_matrix is not None
    assert by_matrix == said(named, reference=matrix, target=answers)


def test_of_very_many_rows_the_same_ones_are_drawn_each_time(line: LinearRegression) -> None:
    table, answers = drawn(MOST_ROWS + 500, 9)
    with packed(line, reference=table[:20]) as package:
        first, labels = known_rows(table, answers, package.contract)
        again, _ = known_rows(table, answers, package.contract)
    assert first.rows == len(labels.values) == MOST_ROWS
    assert first.records() == again.records()
    off = np.abs(labels.values - 2 * (first.column("x").values + first.column("größe").values))
    assert off.max() < 6.0  # rows and labels stayed together
