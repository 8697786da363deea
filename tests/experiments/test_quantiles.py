"""Quantiles of latency histograms: where they lie, how two compare, and what too few requests say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairlead.experiments.quantiles import quantile_interval, quantile_ratio, shift, slower
from fairlead.telemetry.latency import BOUNDS, BUCKETS, bucket_of, quantile

EMPTY = [0] * BUCKETS


def histogram(latencies: np.ndarray) -> list[int]:
    return np.bincount(np.searchsorted(BOUNDS, latencies), minlength=BUCKETS).tolist()


def requests(seed: int, n: int, slower_by: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(-4.0, 0.5, n) * slower_by


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_the_interval_misses_the_truth_as_rarely_as_promised_however_often_one_looks(q: float) -> None:
    truth = float(stats.lognorm.ppf(q, 0.5, scale=math.exp(-4.0)))
    wrong = 0
    for seed in range(100):
        latencies = requests(seed, 2000)
        looks = (quantile_interval(histogram(latencies[:n]), q) for n in (10, 50, 100, 500, 1000, 2000))
        wrong += any(not found.low <= truth <= found.high for found in looks)
    assert wrong <= 0.05 * 100


def test_the_same_requests_have_a_ratio_of_1_inside() -> None:
    found = quantile_ratio(histogram(requests(1, 20_000)), histogram(requests(2, 20_000)), 0.95)
    assert found.low < 1.0 < found.high < 1.2
    assert found.estimate == pytest.approx(1.0, abs=0.05)
    assert 0.0 < found.se < 0.05
    assert found.n == 40_000


def test_twice_as_slow_is_told_from_some_hundreds_of_requests() -> None:
    found = quantile_ratio(histogram(requests(1, 700)), histogram(requests(2, 700, 2.0)), 0.95)
    assert found.low > 1.2


def test_swapping_the_arms_turns_the_ratio_over() -> None:
    one, other = histogram(requests(1, 5000)), histogram(requests(2, 5000, 1.3))
    there, back = quantile_ratio(one, other, 0.9), quantile_ratio(other, one, 0.9)
    assert there.low == pytest.approx(1.0 / back.high)
    assert there.high == pytest.approx(1.0 / back.low)


def test_more_requests_narrow_the_ratio_down_to_a_bucket() -> None:
    one = histogram(requests(1, 1000))
    highs = [quantile_ratio([c * by for c in one], [c * by for c in one], 0.95).high for by in (1, 10, 1000)]
    assert highs == sorted(highs, reverse=True)
    index = bucket_of(quantile(one, 0.95) or 0.0)
    assert highs[-1] == pytest.approx(BOUNDS[index] / BOUNDS[index - 1])


def test_a_smaller_alpha_widens_the_ratio() -> None:
    one, other = histogram(requests(1, 2000)), histogram(requests(2, 2000))
    assert quantile_ratio(one, other, 0.95, 0.0001).high > quantile_ratio(one, other, 0.95, 0.2).high


def test_an_arm_without_requests_leaves_everything_possible() -> None:
    for found in (quantile_ratio(EMPTY, histogram(requests(1, 10)), 0.99), quantile_interval(EMPTY, 0.99)):
        assert (found.low, found.high) == (-math.inf, math.inf)
        assert not found.known


@given(st.lists(st.integers(0, BUCKETS - 1), min_size=1), st.lists(st.integers(0, BUCKETS - 1), min_size=1))
def test_no_histogram_gives_nan_and_the_estimate_lies_within(one: list[int], other: list[int]) -> None:
    control = np.bincount(one, minlength=BUCKETS).tolist()
    treated = np.bincount(other, minlength=BUCKETS).tolist()
    found = quantile_ratio(control, treated, 0.95)
    assert found.low <= found.estimate <= found.high
    assert not math.isnan(found.se)


def test_requests_slower_than_all_bounds_leave_the_ratio_open_above() -> None:
    stuck = [0] * (BUCKETS - 1) + [1000]
    found = quantile_ratio(histogram(requests(1, 1000)), stuck, 0.5)
    assert found.high == math.inf
    assert found.low > 100.0


def test_how_often_slower_is_mann_and_whitneys_share_of_pairs() -> None:
    one, other = requests(1, 300), requests(2, 300, 1.3)
    binned = [np.searchsorted(BOUNDS, x) for x in (one, other)]
    theirs = stats.mannwhitneyu(binned[1], binned[0]).statistic / 300**2
    assert slower(histogram(one), histogram(other)) == pytest.approx(theirs)
    assert slower(EMPTY, histogram(one)) is None


def test_the_shift_is_the_median_difference_of_pairs() -> None:
    one, other = requests(1, 300), requests(2, 300, 1.3)
    theirs = float(np.median(np.subtract.outer(other, one)))
    assert shift(histogram(one), histogram(other)) == pytest.approx(theirs, abs=0.001)
    assert shift(histogram(one), histogram(one)) == pytest.approx(0.0, abs=1e-9)
    assert shift(histogram(one), EMPTY) is None


@pytest.mark.parametrize(
    ("counts", "q", "words"),
    [([1, 2], 0.5, "2 buckets"), ([-1, *EMPTY[1:]], 0.5, "fewer than 0"), (EMPTY, 1.0, "q is 1")],
)
def test_what_is_no_histogram_or_quantile_is_refused(counts: list[int], q: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        quantile_interval(counts, q)
