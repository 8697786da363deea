"""Verdicts: what is told, when, and in which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Proportion
from fairlead.experiments.sample_ratio import sample_ratio
from fairlead.experiments.verdict import Minimums, verdict

BROKEN = sample_ratio({"control": 10_000, "treated": 9_000}, {"control": 1, "treated": 1})
WHOLE = sample_ratio({"control": 10_000, "treated": 10_000}, {"control": 1, "treated": 1})


@st.composite
def shares(draw: st.DrawFn) -> Proportion:
    n = draw(st.integers(0, 20_000))
    return Proportion(n, draw(st.integers(0, n)))


def test_a_benefit_is_told_with_its_size_and_its_ground() -> None:
    found = verdict(Proportion(10_000, 1000), Proportion(10_000, 1200), split=WHOLE)
    assert found.finding == "better"
    assert found.sentence == (
        "Better: conversion is 2.00 percentage points higher than control's (between 0.60 and 3.40), "
        "a change of +20.0%, after 20,000 units."
    )
    assert found.p < 0.05


def test_harm_is_told_with_its_size() -> None:
    found = verdict(Proportion(10_000, 1200), Proportion(10_000, 1000))
    assert found.finding == "worse"
    assert found.sentence.startswith("Worse: conversion is 2.00 percentage points lower than control's")


def test_what_is_worse_when_it_rises_is_read_the_other_way() -> None:
    found = verdict(
        Proportion(10_000, 1000), Proportion(10_000, 1200), metric="the error rate", higher_is="worse"
    )
    assert found.finding == "worse"
    assert found.sentence.startswith("Worse: the error rate is 2.00 percentage points higher")


def test_a_small_difference_is_not_yet_known() -> None:
    found = verdict(Proportion(1000, 100), Proportion(1000, 105))
    assert found.finding == "not yet known"
    assert found.sentence.startswith("Not yet known: the difference in conversion is between -")


def test_a_difference_inside_the_margin_is_told_as_none() -> None:
    found = verdict(Proportion(10**6, 100_000), Proportion(10**6, 100_100), margin=0.03)
    assert found.finding == "no difference"
    assert found.sentence.startswith(
        "No difference that matters: conversion differs from control's by less than 3.0%"
    )


def test_a_sure_change_that_does_not_matter_is_no_difference_either_way() -> None:
    few, more = Proportion(10**7, 1_000_000), Proportion(10**7, 1_010_000)
    assert verdict(few, more).finding == "better"
    assert (
        verdict(few, more, margin=0.05).finding == verdict(more, few, margin=0.05).finding == "no difference"
    )


def test_a_benefit_waits_for_units_and_events() -> None:
    eager = Minimums(units=1, events=1)
    many = Proportion(90, 5), Proportion(90, 70)
    assert verdict(*many, minimums=eager, planned=100).finding == "better"
    found = verdict(*many, planned=100)
    assert found.finding == "not yet known"
    assert found.sentence == "Not yet known: control has 90 of the 100 units that it needs."
    rare = verdict(Proportion(5000, 5), Proportion(5000, 80))
    assert rare.sentence == "Not yet known: control has 5 of the 10 events that it needs."


def test_harm_does_not_wait() -> None:
    found = verdict(
        Proportion(60, 0), Proportion(60, 18), metric="the error rate", higher_is="worse", share=0.5
    )
    assert found.finding == "worse"
    assert found.sentence == ("Worse: 18 of 18 events fell to the treated arm, which has 50% of the units.")


def test_harm_to_an_average_is_told_from_thirty_units() -> None:
    def arm(n: int, level: float) -> Mean:
        return Mean(n, n * level, n * (level * level + 1.0))

    assert verdict(arm(40, 10.0), arm(40, 2.0), planned=200).finding == "worse"
    assert verdict(arm(40, 2.0), arm(40, 10.0), planned=200).finding == "not yet known"
    assert verdict(arm(20, 10.0), arm(20, 2.0), planned=200).finding == "not yet known"


def test_a_broken_split_forbids_a_benefit_and_says_so() -> None:
    found = verdict(Proportion(10_000, 1000), Proportion(9_000, 1200), split=BROKEN)
    assert found.finding == "not yet known"
    assert found.sentence.startswith(
        "Not yet known: The split is not the one that was configured: treated has"
    )
    within = verdict(Proportion(10**6, 100_000), Proportion(10**6, 100_100), margin=0.03, split=BROKEN)
    assert within.finding == "not yet known"


def test_a_broken_split_does_not_hide_harm() -> None:
    found = verdict(Proportion(10_000, 1200), Proportion(9_000, 700), split=BROKEN)
    assert found.finding == "worse"
    assert "But: The split is not the one that was configured" in found.sentence


@given(shares(), shares(), st.sampled_from(["better", "worse"]), st.sampled_from([0.0, 0.1]))
def test_any_counts_have_a_verdict_in_words(
    one: Proportion, other: Proportion, higher_is: str, margin: float
) -> None:
    found = verdict(one, other, higher_is=higher_is, margin=margin)
    assert found.sentence.endswith(".")
    assert "nan" not in found.sentence
    assert "inf" not in found.sentence
    assert 0.0 <= found.p <= 1.0


@given(shares(), shares())
def test_what_is_better_one_way_is_never_better_the_other(one: Proportion, other: Proportion) -> None:
    assert (verdict(one, other).finding, verdict(other, one).finding) != ("better", "better")
    assert "better" not in {
        verdict(one, other, split=BROKEN).finding,
        verdict(other, one, split=BROKEN).finding,
    }


@given(shares(), st.integers(0, 200))
def test_more_conversions_of_the_treated_arm_never_make_it_worse(control: Proportion, more: int) -> None:
    few = Proportion(1000, 100)
    if verdict(control, few).finding == "better":
        assert verdict(control, Proportion(1000, 100 + more)).finding != "worse"


def test_averages_that_do_not_differ_say_why_nothing_is_known() -> None:
    flat = Mean(1000, 3000.0, 9000.0)
    assert verdict(flat, flat, metric="revenue").sentence == (
        "Not yet known: all units are alike in revenue, which does not tell how units differ."
    )


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin of -0\.1"):
        verdict(Proportion(), Proportion(), margin=-0.1)
