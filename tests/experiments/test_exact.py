"""What holds at any count: beside SciPy's, at the edges, and at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import clopper_pearson, conversions_log_e, exact_level, fisher
from fairlead.experiments.planning import units_without_event

counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(counts, st.sampled_from([0.01, 0.05, 0.2]))
def test_clopper_and_pearson_are_scipys(count: tuple[int, int], alpha: float) -> None:
    n, successes = count
    theirs = stats.binomtest(successes, n).proportion_ci(1.0 - alpha)
    found = clopper_pearson(Proportion(n, successes), alpha=alpha)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize("n", [1, 30, 3000, 1_000_000])
def test_no_event_in_n_gives_the_rule_of_three(n: int) -> None:
    high = clopper_pearson(Proportion(n, 0), alpha=0.1).high
    assert high == pytest.approx(1.0 - 0.05 ** (1.0 / n))
    if n >= 30:
        assert high == pytest.approx(3.0 / n, rel=0.06)


def test_three_thousand_without_an_event_show_less_than_one_in_a_thousand() -> None:
    assert clopper_pearson(Proportion(3000, 0), alpha=0.1).high < 0.001
    assert units_without_event(0.001) == 2995


@given(counts)
def test_bounds_for_every_look_hold_those_for_one_look(count: tuple[int, int]) -> None:
    arm = Proportion(*count)
    always, once = exact_level(arm), clopper_pearson(arm)
    assert always.low - 1e-12 <= once.low <= arm.successes / arm.n <= once.high <= always.high + 1e-12


@pytest.mark.parametrize("bounds", [exact_level, clopper_pearson])
def test_without_units_any_rate_is_possible(bounds: type[exact_level]) -> None:
    assert (bounds(Proportion()).low, bounds(Proportion()).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="alpha is 0"):
        bounds(Proportion(), alpha=0.0)


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_bounds_looked_at_all_the_time_are_wrong_as_rarely_as_promised(rate: float) -> None:
    events = np.cumsum(np.random.default_rng(1).random((300, 100)) < rate, axis=1)
    wrong = 0
    for run in events.tolist():
        looks = (exact_level(Proportion(n, run[n - 1]), alpha=0.05) for n in (1, 2, 3, 5, 10, 20, 50, 100))
        wrong += any(not found.low <= rate <= found.high for found in looks)
    assert wrong <= 0.05 * 300


def test_events_in_the_shares_of_the_traffic_are_no_evidence() -> None:
    assert conversions_log_e(Proportion(1000, 10), Proportion(1000, 10)) < 0.0
    assert conversions_log_e(Proportion(9500, 95), Proportion(500, 5), share=0.05) < 0.0
    assert conversions_log_e(Proportion(), Proportion()) == 0.0


@given(counts, counts)
def test_evidence_does_not_depend_on_which_arm_is_which(one: tuple[int, int], other: tuple[int, int]) -> None:
    a, b = Proportion(*one), Proportion(*other)
    found = conversions_log_e(a, b, share=0.3)
    assert found == pytest.approx(conversions_log_e(b, a, share=0.7), abs=1e-9)


def test_twelve_failures_of_one_arm_alone_are_evidence() -> None:
    assert math.exp(conversions_log_e(Proportion(200, 0), Proportion(200, 12))) > 20.0


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, math.nan])
def test_an_arm_without_or_with_all_traffic_cannot_be_compared(share: float) -> None:
    with pytest.raises(ValueError, match="share is"):
        conversions_log_e(Proportion(1, 1), Proportion(1, 1), share=share)


@given(counts, counts)
def test_two_rates_are_tested_as_scipy_does(control: tuple[int, int], treated: tuple[int, int]) -> None:
    events, n = control[1] + treated[1], control[0] + treated[0]
    upper = stats.hypergeom.sf(treated[1] - 1, n, events, treated[0])
    lower = stats.hypergeom.cdf(treated[1], n, events, treated[0])
    found = fisher(Proportion(*control), Proportion(*treated))
    assert found == pytest.approx(min(1.0, 2.0 * min(upper, lower)), rel=1e-6, abs=1e-300)


def test_two_rates_are_told_apart_far_in_the_tail_and_in_large_samples() -> None:
    theirs = stats.fisher_exact([[50, 950], [50, 49_950]], alternative="greater").pvalue
    assert fisher(Proportion(50_000, 50), Proportion(1000, 50)) == pytest.approx(2.0 * theirs, rel=1e-6)
    assert fisher(Proportion(10_000_000, 5_000_000), Proportion(1_000_000, 500_000)) == pytest.approx(
        1.0, abs=0.01
    )
    assert fisher(Proportion(1_000_000, 0), Proportion(1_000_000, 1_000_000)) < 1e-300


def test_a_side_without_units_tells_nothing_apart() -> None:
    assert fisher(Proportion(0, 0), Proportion(10, 10)) == 1.0
    assert fisher(Proportion(10, 10), Proportion(0, 0)) == 1.0
