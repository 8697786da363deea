"""Phases put together: compared within each, never pooled."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Proportion
from fairlead.experiments.sample_ratio import sample_ratio
from fairlead.experiments.sequences import difference
from fairlead.experiments.strata import Stratum, split_of, standardised
from fairlead.experiments.verdict import verdict

QUIET = Stratum(control=Proportion(9_000, 450), treated=Proportion(1_000, 50), share=0.1)  # 5 % in both
BUSY = Stratum(control=Proportion(1_000, 200), treated=Proportion(9_000, 1_800), share=0.9)  # 20 % in both


def test_a_good_week_with_a_larger_share_does_not_look_like_a_better_arm() -> None:
    """Simpson's paradox: equal arms in both phases, and 18.5 % against 6.5 % when pooled."""
    control, treated = QUIET.control + BUSY.control, QUIET.treated + BUSY.treated  # type: ignore[operator]
    assert verdict(control, treated).finding == "better"
    found = verdict(control, treated, strata=(QUIET, BUSY))
    assert found.finding == "not yet known"
    assert found.difference.estimate == pytest.approx(0.0)
    assert found.lift.estimate == pytest.approx(0.0)


def test_a_harm_that_pooling_hides_is_told() -> None:
    worse = Stratum(control=Proportion(1_000, 200), treated=Proportion(9_000, 1_350), share=0.9)
    control, treated = QUIET.control + worse.control, QUIET.treated + worse.treated  # type: ignore[operator]
    assert verdict(control, treated).finding == "better"
    assert verdict(control, treated, strata=(QUIET, worse)).finding == "worse"


def test_one_stratum_is_what_it_is() -> None:
    assert standardised([QUIET]) == (QUIET.control, QUIET.treated)
    assert standardised([]) == (Mean(), Mean())


def test_a_stratum_with_one_empty_arm_compares_with_nothing() -> None:
    alone = Stratum(control=Proportion(), treated=Proportion(500, 400))
    assert standardised([QUIET, alone]) == (QUIET.control, QUIET.treated)
    assert standardised([alone]) == (alone.control, alone.treated)


@given(st.integers(2, 5_000), st.integers(0, 5_000), st.integers(2, 5_000), st.integers(0, 5_000))
def test_cutting_units_into_equal_halves_changes_nothing_that_matters(a: int, x: int, b: int, y: int) -> None:
    control, treated = Proportion(a, min(x, a)), Proportion(b, min(y, b))
    whole = Stratum(control=control + control, treated=treated + treated)
    half = Stratum(control=control, treated=treated)
    pooled = difference(whole.control, whole.treated)
    parts = difference(*standardised([half, half]))
    assert parts.estimate == pytest.approx(pooled.estimate, abs=1e-12)
    assert parts.n == pooled.n
    assert math.isfinite(parts.se)


def test_evidence_against_the_split_adds_up_over_strata() -> None:
    one = sample_ratio({"control": 5_000, "canary": 4_700}, {"control": 1, "canary": 1})
    both = split_of([(5_000, 4_700, 0.5), (5_000, 4_700, 0.5)])
    assert both.log_e == pytest.approx(2 * one.log_e)
    assert both.statistic == pytest.approx(2 * one.statistic)
    assert (both.freedom, both.arm) == (2, one.arm)
    assert both.deviation == pytest.approx(one.deviation)


def test_shares_that_change_are_no_mismatch() -> None:
    assert not split_of([(9_000, 1_000, 0.1), (1_000, 9_000, 0.9)]).mismatch
    assert split_of([(9_000, 1_000, 0.5)]).mismatch


def test_a_unit_where_nobody_should_be_is_proof_whatever_else_was_seen() -> None:
    found = split_of([(5_000, 5_000, 0.5), (1, 100, 1.0)])
    assert found.mismatch
    assert (found.p, found.log_e) == (0.0, math.inf)


def test_without_units_there_is_no_mismatch() -> None:
    for nothing in ([], [(0, 0, 0.5)], [(0, 0, 0.5), (0, 0, 0.9)]):
        assert not split_of(nothing).mismatch
        assert split_of(nothing).units == 0
