"""How many units, and how many days."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.planning import (
    days_needed,
    units_for_means,
    units_for_proportions,
    units_without_event,
)
from fairlead.experiments.sequences import difference


def test_one_percent_of_errors_is_told_from_two_by_1824_per_arm() -> None:
    # Fleiss, "Statistical Methods for Rates and Proportions", the unpooled formula: one-sided 5 %, power 80 %
    units = units_for_proportions(0.01, 0.02, side="lower", watched=False)
    assert math.ceil(units / 2) == 1824


def test_half_a_deviation_is_seen_by_63_per_arm() -> None:
    # The textbook's 2 (1.96 + 0.84)² / 0.5², two-sided 5 %, power 80 %
    assert units_for_means(1.0, 0.5, watched=False) / 2 == pytest.approx(63, abs=0.5)


def test_who_watches_needs_more_units_at_the_planned_size() -> None:
    fixed, watched = (units_for_proportions(0.1, 0.115, watched=watched) for watched in (False, True))
    # The multiplier is 3.03521 instead of 1.95996, and power 80 % adds 0.84162 to either.
    assert watched / fixed == pytest.approx((3.03521 + 0.84162) ** 2 / (1.95996 + 0.84162) ** 2, rel=1e-3)


def test_at_the_planned_size_an_effect_of_typical_luck_is_seen() -> None:
    units = units_for_proportions(0.1, 0.115, power=0.5)
    half = (units + 1) // 2
    arms = Proportion(half, round(0.1 * half)), Proportion(half, round(0.115 * half))
    assert difference(*arms, planned=units).low == pytest.approx(0.0, abs=1e-4)


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.floats(0.1, 0.9))
def test_swapping_the_arms_needs_as_many(one: float, other: float, share: float) -> None:
    if abs(one - other) > 1e-3:
        there = units_for_proportions(one, other, share=share)
        assert units_for_proportions(other, one, share=1.0 - share) == pytest.approx(there, abs=1)


def test_days_are_whole_and_count_only_the_share_that_takes_part() -> None:
    assert days_needed(10_001, 1000.0) == 11
    assert days_needed(10_000, 1000.0, share_of_traffic=0.1) == 100
    assert days_needed(0, 1000.0) == 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: units_for_proportions(0.1, 0.1), "tells it from none"),
        (lambda: units_for_proportions(0.1, 1.1), "rate of 1.1"),
        (lambda: units_for_proportions(0.1, 0.2, power=1.0), "power 1"),
        (lambda: units_for_proportions(0.1, 0.2, share=0.0), "share 0"),
        (lambda: units_for_proportions(0.1, 0.2, alpha=0.7), "alpha is 0.7"),
        (lambda: units_for_means(0.0, 1.0), "standard deviation of 0"),
        (lambda: days_needed(1, 0.0), "0 units a day"),
        (lambda: units_without_event(0.0), "rate of 0"),
    ],
)
def test_a_question_without_an_answer_is_refused_in_words(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_difference_whose_square_is_nothing_is_no_difference() -> None:
    with pytest.raises(ValueError, match="no number of units"):
        units_for_means(1.0, 1e-180)
