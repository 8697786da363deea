"""Intervals that hold at every look: published numbers, laws, and clear answers where data say nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Proportion, Ratio
from fairlead.experiments.sequences import (
    AlwaysValidP,
    Interval,
    difference,
    interval,
    level,
    log_e,
    mixture,
    relative_lift,
)

# growthbook/growthbook: packages/stats/tests/frequentist/test_tests.py, class TestSequentialTTest (MIT)
A = Mean(3000, 1396.87, 52377.9767)
B = Mean(3461, 2422.7, 134698.29)
A_SHARE = Proportion(3000, 1396)
B_SHARE = Proportion(3461, 2422)


@st.composite
def shares(draw: st.DrawFn) -> Proportion:
    n = draw(st.integers(1, 10_000))
    return Proportion(n, draw(st.integers(0, n)))


@st.composite
def means(draw: st.DrawFn) -> Mean:
    values = draw(st.lists(st.integers(-100, 100), min_size=2, max_size=20))
    return Mean(len(values), float(sum(values)), float(sum(v * v for v in values)))


arms = shares() | means()


def test_the_lift_of_a_mean_is_growthbooks() -> None:
    found = relative_lift(A, B, planned=1000)
    assert (round(found.estimate, 5), round(found.se, 5)) == (0.50336, 0.33341)
    assert (round(found.low, 5), round(found.high, 5)) == (-0.55844, 1.56516)


def test_the_lift_of_a_share_is_growthbooks() -> None:
    found = relative_lift(A_SHARE, B_SHARE, planned=5000)
    assert [round(x, 5) for x in (found.estimate, found.low, found.high)] == [0.50386, 0.40098, 0.60675]


def test_one_sided_bounds_are_growthbooks() -> None:
    assert round(relative_lift(A, B, side="lower").low, 5) == -0.42356
    assert round(relative_lift(A, B, side="upper").high, 5) == 1.43029
    found = difference(A, B, side="lower")
    assert [round(x, 5) for x in (found.estimate, found.se, found.low)] == [0.23438, 0.12983, -0.12657]
    assert round(difference(A, B, side="upper").high, 5) == 0.59532


def test_a_side_that_is_not_wanted_is_unbounded_and_the_other_nearer() -> None:
    both, lower, upper = (difference(A, B, side=side) for side in ("both", "lower", "upper"))
    assert (lower.high, upper.low) == (math.inf, -math.inf)
    assert lower.low > both.low
    assert upper.high < both.high


def test_the_multiplier_at_the_planned_size_is_the_normal_mixtures() -> None:
    # Howard et al., gostevehoward/confseq (MIT): the two-sided normal mixture at v = v_opt = 100 and alpha
    # 0.05 has the boundary 30.35209, of which a tenth is ours.
    k = mixture(100, planned=100)
    assert round(k, 5) == 7.93615
    assert round(interval(0.0, 1.0, k, n=100).high, 5) == 3.03521


def test_the_evidence_is_that_of_the_msprt() -> None:
    # Johari, Koomen, Pekelis, Walsh, "Peeking at A/B tests", KDD 2017, for two Bernoulli streams
    x, y, n, tau2 = 0.10, 0.13, 800, 0.0004
    v = x * (1 - x) + y * (1 - y)
    theirs = math.sqrt(v / (v + n * tau2)) * math.exp(n * n * tau2 * (y - x) ** 2 / (2 * v * (v + n * tau2)))
    se2 = v / n
    assert math.exp(log_e((y - x) / math.sqrt(se2), tau2 / se2)) == pytest.approx(theirs, rel=1e-12)


def test_the_interval_is_narrowest_for_those_who_planned_for_now() -> None:
    widths = [difference(A, B, planned=n).high for n in (10, 1000, A.n + B.n, 1_000_000)]
    assert min(widths) == widths[2]
    assert widths[1] < widths[0]


@given(st.floats(0.001, 10), st.floats(-5, 5), st.floats(0.001, 0.4))
def test_a_value_is_outside_just_when_the_evidence_against_it_suffices(
    k: float, z: float, alpha: float
) -> None:
    found = interval(z, 1.0, k, n=100, alpha=alpha)
    margin = log_e(z, k) - math.log(1.0 / alpha)
    if abs(margin) > 1e-9:
        assert (found.low > 0.0 or found.high < 0.0) is (margin > 0.0)


@given(arms, arms)
def test_swapping_the_arms_mirrors_the_difference(one: Proportion | Mean, other: Proportion | Mean) -> None:
    there, back = difference(one, other), difference(other, one)
    assert there.estimate == -back.estimate
    assert there.low == pytest.approx(-back.high)
    assert there.n == back.n


@given(means(), means(), st.sampled_from([0.125, 0.5, 2.0, 64.0]))
def test_another_unit_of_measure_scales_the_difference_and_leaves_the_lift(
    one: Mean, other: Mean, by: float
) -> None:
    small = [Mean(arm.n, arm.total * by, arm.squares * by * by) for arm in (one, other)]
    before, after = difference(one, other), difference(*small)
    assert after.low == pytest.approx(before.low * by)
    assert after.high == pytest.approx(before.high * by)
    assert relative_lift(*small).high == pytest.approx(relative_lift(one, other).high)


@given(shares(), shares(), st.integers(2, 50))
def test_more_units_of_the_same_kind_narrow_the_interval(one: Proportion, other: Proportion, by: int) -> None:
    few = difference(one, other)
    many = difference(*(Proportion(arm.n * by, arm.successes * by) for arm in (one, other)))
    assert many.high - many.low < few.high - few.low


@given(arms | st.just(Proportion()) | st.just(Mean()), arms | st.just(Mean()) | st.just(Ratio()))
def test_nothing_is_ever_nan_and_the_estimate_lies_within(
    one: Proportion | Mean, other: Proportion | Mean
) -> None:
    for found in (difference(one, other), relative_lift(one, other), level(one)):
        assert not any(math.isnan(x) for x in (found.estimate, found.low, found.high, found.se))
        assert found.low <= found.estimate <= found.high


@pytest.mark.parametrize(
    ("control", "treated"),
    [
        (Proportion(), Proportion()),
        (Proportion(), Proportion(100, 5)),
        (Proportion(100, 5), Proportion()),
        (Mean(1, 2.0, 4.0), Mean(1, 3.0, 9.0)),
        (Mean(10, 20.0, 40.0), Mean(10, 20.0, 40.0)),
        (Ratio(), Ratio(3, 1.0, 0.0, 1.0, 0.0, 0.0)),
    ],
)
def test_data_that_say_nothing_leave_everything_possible(control: Proportion, treated: Proportion) -> None:
    n = control.n + treated.n
    for found in (difference(control, treated), relative_lift(control, treated)):
        assert found == Interval(0.0, -math.inf, math.inf, math.inf, n)
        assert not found.known


def test_two_arms_without_an_event_are_not_certainly_equal() -> None:
    found = difference(Proportion(1000, 0), Proportion(1000, 0))
    assert found.low < 0.0 < found.high
    assert found.known


def test_a_lift_over_nothing_is_unknown_and_the_difference_is_not() -> None:
    control, treated = Proportion(1000, 0), Proportion(1000, 50)
    assert not relative_lift(control, treated).known
    assert difference(control, treated).low > 0.0


def test_a_rise_from_a_negative_mean_is_a_positive_lift() -> None:
    control, treated = Mean(100, -200.0, 500.0), Mean(100, -100.0, 200.0)
    assert relative_lift(control, treated).estimate == 0.5


def test_an_arm_whose_units_are_alike_borrows_the_others_spread() -> None:
    flat, wide = Mean(100, 0.0, 0.0), Mean(100, 100.0, 500.0)
    assert difference(flat, wide).se == difference(wide, wide).se


def test_a_share_alone_stays_between_0_and_1() -> None:
    assert level(Proportion(20, 0)).low == 0.0
    assert level(Proportion(20, 20)).high == 1.0


def test_the_p_value_never_rises_and_starts_at_1() -> None:
    p = AlwaysValidP()
    seen = [p.p]
    for look in (-1.0, 2.0, 0.5, 3.0):
        p = p.after(look)
        seen.append(p.p)
    assert seen == [1.0, 1.0, math.exp(-2.0), math.exp(-2.0), math.exp(-3.0)]


@pytest.mark.parametrize("alpha", [0.0, -0.1, 0.5, 1.0, math.nan])
def test_an_impossible_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"above 0 and below 0\.5"):
        difference(A, B, alpha=alpha)
    with pytest.raises(ValueError, match=r"above 0 and below 0\.5"):
        level(Proportion(), alpha=alpha)


def test_a_plan_for_no_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        difference(A, B, planned=0)
