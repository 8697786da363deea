"""Intervals for one look, beside published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import UNKNOWN, gap, paired, student, wilson


@pytest.mark.parametrize(
    ("p", "degrees", "table"),
    [(0.975, 10, 2.228), (0.975, 30, 2.042), (0.995, 20, 2.845), (0.9995, 60, 3.460), (0.95, 120, 1.658)],
)
def test_quantiles_of_t_are_those_of_the_tables(p: float, degrees: int, table: float) -> None:
    assert student(p, degrees) == pytest.approx(table, abs=6e-4)
    assert student(1 - p, degrees) == pytest.approx(-student(p, degrees), abs=1e-9)


@pytest.mark.parametrize(("p", "degrees"), [(0.0, 5), (1.0, 5), (0.5, 0)])
def test_there_is_no_quantile_of_nothing(p: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        student(p, degrees)


def test_wilson_and_the_gap_are_those_that_newcombe_printed() -> None:
    """Statistics in Medicine 17 (1998), pages 857-872 (81/263 and 0/20) and 873-890 (56/70 beside 48/80)."""
    rate = wilson(Proportion(263, 81))
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)
    none = wilson(Proportion(20, 0))
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    between = gap(Proportion(70, 56), Proportion(80, 48))
    assert (round(between.low, 4), round(between.high, 4)) == (0.0524, 0.3339)


def test_groups_without_rows_say_nothing() -> None:
    assert wilson(Proportion()).low == 0.0
    assert wilson(Proportion()).high == 1.0
    assert gap(Proportion(), Proportion(10, 5)) == UNKNOWN


def test_a_mean_of_differences_has_the_interval_of_the_text_books() -> None:
    found = paired(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]))
    half = 2.228139 * math.sqrt(11.0) / math.sqrt(11)  # the sample variance of 1 to 11 is 11
    assert found.estimate == pytest.approx(6.0)
    assert found.low == pytest.approx(6.0 - half, abs=1e-4)
    assert found.high == pytest.approx(6.0 + half, abs=1e-4)


def test_pairs_that_all_agree_leave_room_for_doubt() -> None:
    never = paired(np.zeros(100), events=True)
    assert never.estimate == 0.0
    assert never.high == pytest.approx(-never.low)
    assert 0.015 < never.high < 0.025  # z / (n + 2), and t for z
    assert paired(np.zeros(1000), events=True).high < never.high


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, 0.0]])
def test_too_few_rows_that_count_say_nothing(weights: list[float]) -> None:
    assert paired(np.array([1.0, 2.0]), np.array(weights)) == UNKNOWN
    assert paired(np.array([1.0])) == UNKNOWN
    assert paired(np.array([])) == UNKNOWN


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="below 0"):
        paired(np.zeros(3), np.array([1.0, -1.0, 1.0]))


@given(
    values=st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=40),
    scale=st.floats(0.1, 10.0),
    events=st.booleans(),
)
def test_turned_round_the_interval_turns_round_and_equal_weights_change_nothing(
    values: list[float], scale: float, events: bool
) -> None:
    differences = np.sign(values) if events else np.array(values)
    found, turned = paired(differences, events=events), paired(-differences, events=events)
    assert found.low == pytest.approx(-turned.high, abs=1e-6)
    weighted = paired(differences, np.full(len(values), scale), events=events)
    assert (weighted.low, weighted.high) == pytest.approx((found.low, found.high), abs=1e-6)


def test_the_truth_is_missed_as_seldom_as_promised() -> None:
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(2_000):
        found = paired(rng.choice([-1.0, 0.0, 1.0], 150, p=[0.04, 0.9, 0.06]), events=True)
        missed += not found.low <= 0.02 <= found.high
    assert missed / 2_000 <= 0.055
