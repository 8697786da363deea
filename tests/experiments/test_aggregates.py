"""Aggregates add up to what one would have summed over all units at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Paired, Proportion, Ratio

numbers = st.integers(-1000, 1000).map(float)
pairs = st.lists(st.tuples(numbers, numbers), max_size=30)


def mean_of(values: list[float]) -> Mean:
    return Mean(len(values), sum(values), sum(value * value for value in values))


def sums_of(values: list[tuple[float, float]]) -> tuple[int, float, float, float, float, float]:
    return (
        len(values),
        sum(a for a, _ in values),
        sum(b for _, b in values),
        sum(a * a for a, _ in values),
        sum(b * b for _, b in values),
        sum(a * b for a, b in values),
    )


@given(pairs, pairs)
def test_adding_two_arms_is_pooling_their_units(left: list, right: list) -> None:
    for kind in (Ratio, Paired):
        assert kind(*sums_of(left)) + kind(*sums_of(right)) == kind(*sums_of(left + right))
    one, other = [a for a, _ in left], [a for a, _ in right]
    assert mean_of(one) + mean_of(other) == mean_of(one + other)


@given(pairs, pairs)
def test_a_later_reading_less_an_earlier_one_is_what_came_between(left: list, right: list) -> None:
    assert Paired(*sums_of(left + right)) - Paired(*sums_of(left)) == Paired(*sums_of(right))


def test_arms_are_summed_from_nothing() -> None:
    assert sum([Proportion(10, 1), Proportion(20, 3)], Proportion()) == Proportion(30, 4)


@given(st.lists(numbers, min_size=2, max_size=30))
def test_the_variance_is_that_of_the_sample(values: list[float]) -> None:
    assert mean_of(values).variance == pytest.approx(np.var(values, ddof=1), abs=1e-6)


def test_equal_values_have_no_variance_whatever_rounding_leaves() -> None:
    assert mean_of([0.1] * 1000).variance == 0.0


def test_the_spread_of_a_share_is_reckoned_with_five_events_at_least() -> None:
    five = 0.05 * 0.95
    for successes in (0, 1, 5, 95, 99, 100):
        assert Proportion(100, successes).variance == pytest.approx(five)
    assert Proportion(100, 6).variance == pytest.approx(0.06 * 0.94)
    assert Proportion(4, 0).variance == 0.25


def test_the_variance_of_a_ratio_is_that_of_its_residuals() -> None:
    values = [(3.0, 10.0), (1.0, 2.0), (0.0, 4.0), (6.0, 9.0)]
    ratio = 10.0 / 25.0
    residuals = np.array([a - ratio * b for a, b in values]) / (25.0 / 4)
    found = Ratio(*sums_of(values))
    assert found.mean == ratio
    assert found.variance == pytest.approx(np.var(residuals, ddof=1))


def test_a_ratio_of_things_in_step_has_no_variance() -> None:
    assert Ratio(*sums_of([(0.1 * n, 0.3 * n) for n in range(1, 50)])).variance == 0.0


@pytest.mark.parametrize("arm", [Proportion(), Mean(), Ratio(), Paired()])
def test_an_empty_arm_knows_neither_mean_nor_variance(arm: Proportion | Mean | Ratio | Paired) -> None:
    assert (arm.mean, arm.variance) == (None, None)


def test_one_unit_has_a_mean_and_no_variance() -> None:
    assert (Mean(1, 5.0, 25.0).mean, Mean(1, 5.0, 25.0).variance) == (5.0, None)
    assert Ratio(1, 2.0, 4.0, 4.0, 16.0, 8.0).variance is None
    assert Paired(1, 1.0, 1.0, 1.0, 1.0, 1.0).covariance is None


def test_a_ratio_without_a_denominator_has_no_mean() -> None:
    assert Ratio(3, 2.0, 0.0, 4.0, 0.0, 0.0).mean is None


@pytest.mark.parametrize(("n", "successes"), [(3, 4), (3, -1), (-1, 0)])
def test_impossible_counts_are_refused(n: int, successes: int) -> None:
    with pytest.raises(ValueError, match="must be between 0 and the units"):
        Proportion(n, successes)


def test_a_later_reading_taken_from_an_earlier_one_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 0 or more"):
        Mean(1, 1.0, 1.0) - Mean(2, 2.0, 2.0)
    with pytest.raises(ValueError, match="later reading"):
        Mean(2, 1.0, 1.0) - Mean(2, 2.0, 2.0)
