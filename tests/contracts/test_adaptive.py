"""Levels that follow labels: read from what was kept of the calibration, and right in the long run whatever
comes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.adaptive import KEPT, LEAST, learnt, quantile_at, thinned
from fairlead.contracts.uncertainty import Uncertainty, conformal_quantile

finite = st.floats(0.0, 1e6)


def interval(n: int) -> Uncertainty:
    return Uncertainty(kind="interval", quantile=1.0, n=n)


@given(st.lists(finite, min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_of_few_rows_every_quantile_is_the_conformal_one(scores: list[float], outside: float) -> None:
    exact = conformal_quantile(scores, 1.0 - outside) if outside < 1.0 else 0.0
    found = quantile_at(interval(len(scores)), thinned(scores), outside)
    if math.isfinite(exact) and (len(scores) + 1) * (1.0 - outside) > 1e-9:
        assert found == exact
    assert math.isfinite(found)


@pytest.mark.parametrize("n", [501, 5_000, 20_000, 777])
def test_of_many_rows_the_next_larger_score_that_was_kept_is_taken(n: int) -> None:
    scores = np.random.default_rng(n).exponential(size=n)
    kept = thinned(scores)
    assert len(kept) == KEPT
    assert kept[-1] == scores.max()
    ranked = np.sort(scores)
    for outside in (0.5, 0.1, 0.013, 0.003):
        exact = conformal_quantile(scores, 1.0 - outside)
        found = quantile_at(interval(n), kept, outside)
        assert 0 <= np.searchsorted(ranked, found) - np.searchsorted(ranked, exact) <= n / KEPT + 1


@given(st.lists(finite, min_size=1, max_size=40), st.floats(-1.0, 1.2), st.floats(-1.0, 1.2))
def test_the_less_may_lie_outside_the_further_it_reaches_and_never_without_end(
    scores: list[float], one: float, other: float
) -> None:
    said, kept = interval(len(scores)), thinned(scores)
    low, high = sorted((one, other))
    assert 0.0 <= quantile_at(said, kept, high) <= quantile_at(said, kept, low) < math.inf


def test_what_calibration_could_not_tell_is_twice_as_wide_every_ten_points() -> None:
    scores = thinned(range(1, 100))
    assert quantile_at(interval(99), scores, 0.01) == 99.0
    assert quantile_at(interval(99), scores, -0.09) == pytest.approx(198.0)
    assert quantile_at(interval(99), scores, -0.19) == pytest.approx(396.0)
    assert quantile_at(Uncertainty(kind="set", quantile=0.4, n=99), thinned([0.2] * 99), -0.04) == 1.0


def test_scores_that_are_infinite_are_not_kept_and_what_they_stood_for_is_beyond_the_others() -> None:
    kept = thinned([1.0, 2.0, 3.0, math.inf])
    assert kept == (1.0, 2.0, 3.0)
    assert quantile_at(interval(4), kept, 0.4) == 3.0
    assert quantile_at(interval(4), kept, 0.3) == pytest.approx(6.0)


@given(
    st.lists(st.floats(0.0, 1e4) | st.just(math.inf), max_size=300),
    st.floats(0.001, 0.1),
    st.lists(st.floats(0.001, 10.0), min_size=9, max_size=50),
)
def test_labels_that_lie_outside_are_never_more_than_the_theorem_allows_whatever_comes(
    labels: list[float], rate: float, scores: list[float]
) -> None:
    """Proposition 4.1 of Gibbs & Candès, one way: its proof needs that what is below `LEAST` covers."""
    said, kept = interval(len(scores)), thinned(scores)
    outside, missed = 0.1, 0
    for score in labels:
        missed += score > quantile_at(said, kept, outside)
        after = learnt(said, kept, outside, [score], rate)
        assert LEAST <= after <= 1.0
        clipped = outside + rate * (0.1 - (score > quantile_at(said, kept, outside))) < LEAST
        outside = after
        if clipped:  # so far off that nothing finite could hold it: then it says so instead
            return
    if labels:
        assert missed / len(labels) - 0.1 <= (0.9 + rate) / (len(labels) * rate) + 1e-9
    assert learnt(said, kept, 0.1, labels, rate) == outside


def test_under_a_shift_that_breaks_split_conformal_the_long_run_is_right() -> None:
    generator = np.random.default_rng(7)
    calibration = np.abs(generator.normal(0.0, 1.0, 2_000))
    said = Uncertainty(kind="interval", quantile=conformal_quantile(calibration), n=2_000)
    kept = thinned(calibration)
    # Errors grow threefold, slowly at first and then at once, and shrink again.
    spread = np.concatenate(
        [np.ones(500), np.linspace(1, 3, 1_500), np.full(1_500, 3.0), np.full(1_500, 0.5)]
    )
    scores = np.abs(generator.normal(0.0, spread))
    rate, outside, missed = 0.005, 0.1, 0
    for score in scores.tolist():
        missed += score > quantile_at(said, kept, outside)
        outside = learnt(said, kept, outside, [score], rate)
    most = (0.9 + rate) / (len(scores) * rate)
    assert abs(missed / len(scores) - 0.1) <= most
    assert np.mean(scores[500:3_500] > said.quantile) > 0.3
