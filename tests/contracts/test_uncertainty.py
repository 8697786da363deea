"""Split conformal prediction: the quantile, and what it says of answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.contract import Output
from fairlead.contracts.uncertainty import ClassSet, Interval, Uncertainty, conformal_quantile, least_rows
from fairlead.errors import MalformedRequest

HALF = Uncertainty(kind="interval", quantile=0.5, n=100)


@pytest.mark.parametrize(
    ("n", "coverage", "rank"), [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90)]
)
def test_the_quantile_is_the_score_of_that_rank(n: int, coverage: float, rank: int) -> None:
    scores = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(scores, coverage) == rank


def test_with_too_few_scores_nothing_finite_is_promised() -> None:
    assert least_rows(0.9) == 9
    assert least_rows(0.95) == 19
    assert conformal_quantile([1.0] * 8, 0.9) == math.inf
    assert conformal_quantile([], 0.9) == math.inf


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.floats(0.05, 0.95))
def test_it_is_what_the_sorted_scores_say(scores: list[float], coverage: float) -> None:
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    expected = sorted(scores)[rank - 1] if rank <= len(scores) else math.inf
    assert conformal_quantile(scores, coverage) == expected


@pytest.mark.parametrize("n", [9, 25, 100])
def test_a_row_like_the_others_lies_within_as_often_as_promised(n: int) -> None:
    # With distinct scores the chance is ceil((n + 1) * 0.9) / (n + 1) exactly, whatever their distribution.
    scores = np.random.default_rng(7).lognormal(size=(4_000, n + 1))
    found = np.mean([row[-1] <= conformal_quantile(row[:-1]) for row in scores])
    exact = math.ceil((n + 1) * 0.9 - 1e-9) / (n + 1)
    assert exact >= 0.9
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4_000) + 1e-9)


def test_a_number_has_an_interval_to_both_sides() -> None:
    assert HALF.told(2.0, None, ()) == Interval(1.5, 2.5, 0.9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_no_interval(value: float) -> None:
    assert HALF.told(value, None, ()) is None


def test_a_set_holds_the_classes_that_are_likely_enough() -> None:
    held = Uncertainty(kind="set", quantile=0.75, n=100)
    assert held.told("b", [0.25, 0.5, 0.2], ("a", "b", "ä")) == ClassSet(["a", "b"], 0.9)
    assert held.told("a", [0.1, 0.1, 0.1], ("a", "b", "ä")) == ClassSet([], 0.9)
    assert held.told("a", None, ("a", "b")) is None


@given(st.lists(st.floats(0, 1), min_size=9, max_size=40))
def test_the_rows_of_the_quantile_are_within_it_themselves(shares: list[float]) -> None:
    # The same arithmetic on both sides: no rounding puts a label outside that was counted as inside.
    held = Uncertainty(kind="set", quantile=conformal_quantile([1.0 - p for p in shares]), n=len(shares))
    within = sum(held.told(1, [1.0 - p, p], (0, 1)).classes.count(1) for p in shares)  # type: ignore[union-attr]
    assert within >= 0.9 * len(shares)


@pytest.mark.parametrize(
    ("held", "output"),
    [
        (HALF, Output(kind="class", classes=(0, 1))),
        (HALF, Output(kind="vector", length=2)),
        (Uncertainty(kind="set", quantile=0.5, n=9), Output(kind="number")),
        (Uncertainty(kind="interval", quantile=math.inf, n=9), Output(kind="number")),
    ],
)
def test_an_uncertainty_that_does_not_fit_is_refused(held: Uncertainty, output: Output) -> None:
    with pytest.raises(MalformedRequest):
        held.verify(output)
