"""What a manager is told of an experiment, and the numbers under it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Paired, Proportion, Ratio
from fairlead.experiments.cuped import adjusted, variance_removed
from fairlead.experiments.question import Evidence, Question, Seen
from fairlead.experiments.report import ExperimentReport, report
from fairlead.experiments.sequences import Arm
from fairlead.experiments.strata import Stratum

CONVERSION = Question(name="conversion", kind="goal", margin=0.02, window=7 * 86_400.0)


def evidence(control: Arm, treated: Arm, question: Question = CONVERSION) -> Evidence:
    return Evidence(question=question, strata=(Stratum(control=control, treated=treated),))


def told(*found: Evidence, alpha: float = 0.05, **changes: Any) -> ExperimentReport:
    control, treated = found[0].arms if found else (Proportion(), Proportion())
    seen = Seen(
        **{
            "control": "v1",
            "treated": "v2",
            "split": ((control.n, treated.n, 0.5),),
            "days": 9.0,
            "evidence": found,
            **changes,
        }
    )
    return report(seen, alpha=alpha)


def test_a_benefit_is_told_as_a_manager_would_say_it() -> None:
    found = told(evidence(Proportion(25_000, 2_525), Proportion(25_000, 2_850)))
    assert found.finding == "better"
    assert found.sentence == (
        "v2 converts better: 11.4 % against 10.1 %, so +13 % (between +3.3 % and +22 %), "
        "from 50,000 customers in 9 days."
    )


def test_harm_is_told_the_same_way() -> None:
    found = told(evidence(Proportion(25_000, 2_850), Proportion(25_000, 2_525)))
    assert found.finding == "worse"
    assert found.sentence.startswith("v2 converts worse: 10.1 % against 11.4 %, so -11 % (between -19 % and")


def test_no_difference_that_matters_says_what_would_matter() -> None:
    found = told(evidence(Proportion(2_000_000, 1_000_000), Proportion(2_000_000, 1_000_500)))
    assert found.finding == "no difference"
    assert found.sentence.startswith("There is no difference in conversion that matters: 50 % in both, so ")
    assert found.sentence.endswith("less than the 2 % that would matter.")


def test_what_is_not_known_yet_says_what_it_takes() -> None:
    found = told(evidence(Proportion(1_000, 100), Proportion(1_000, 115)), days=2.0)
    assert found.finding == "not yet known"
    assert found.sentence.startswith(
        "Not yet known whether v2 converts better: 11.5 % against 10 %, so +15 %"
    )
    (metric,) = found.metrics
    assert metric.needed is not None
    # 25,621 units by `units_for_proportions(0.1, 0.115)`; the spread that was seen is a little another.
    assert metric.needed.units + 2_000 == pytest.approx(25_621, rel=0.12)
    assert metric.needed.days == pytest.approx(metric.needed.units / 1_000, abs=1)
    assert (
        f"it takes about {metric.needed.units:,} more, some {metric.needed.days} more days" in found.sentence
    )


def test_with_a_broken_split_nothing_is_told_but_why() -> None:
    found = told(evidence(Proportion(25_000, 2_525), Proportion(22_000, 2_850)))
    assert found.finding == "cannot be told"
    assert found.sentence == (
        "Whether v2 converts better cannot be told because the split is not the one that was configured: "
        "control has 6.4% more units than its share."
    )
    assert found.split.mismatch


def test_harm_is_told_in_spite_of_a_broken_split() -> None:
    found = told(evidence(Proportion(25_000, 2_525), Proportion(22_000, 1_500)))
    assert found.finding == "worse"
    assert "But: The split is not the one that was configured" in found.sentence


def test_without_units_outcomes_or_metrics_it_says_which_is_missing() -> None:
    assert told(evidence(Proportion(), Proportion())).sentence == (
        "It cannot be told because no customer has met either version yet."
    )
    missing = Evidence(question=CONVERSION, problem="no outcome 'conversion' of 'shop' has come yet")
    met = ((100, 100, 0.5),)
    assert told(missing, split=met).sentence == (
        "Whether v2 is better in conversion cannot be told because "
        "no outcome 'conversion' of 'shop' has come yet."
    )
    assert "no outcome is compared" in told(split=met).sentence
    assert (
        "no customer's time to respond is over yet" in told(Evidence(question=CONVERSION), split=met).sentence
    )


def test_a_broken_guardrail_is_said_beside_a_goal_that_was_won() -> None:
    complaints = Question(name="complaints", kind="guardrail", margin=0.1, higher_is="worse")
    found = told(
        evidence(Proportion(25_000, 2_525), Proportion(25_000, 2_850)),
        evidence(Proportion(25_000, 500), Proportion(25_000, 900), complaints),
    )
    assert found.finding == "better"
    assert (
        "But the guardrail 'complaints' is broken: v2 is worse in complaints: 3.6 % against 2 %"
        in found.sentence
    )
    assert found.metrics[1].kept is False


@pytest.mark.parametrize(
    ("treated", "kept"), [(Proportion(50_000, 25_000), True), (Proportion(500, 260), None)]
)
def test_a_guardrail_is_kept_when_its_margin_is_out_of_reach(treated: Proportion, kept: bool | None) -> None:
    question = Question(name="opened", kind="guardrail", margin=0.1)
    control = Proportion(treated.n, treated.n // 2)
    assert told(evidence(control, treated, question)).metrics[0].kept is kept


def test_guardrails_share_alpha_and_goals_keep_theirs() -> None:
    pair = Proportion(1_000, 100), Proportion(1_000, 115)
    rails = [evidence(*pair, Question(name=name, kind="guardrail")) for name in "abcd"]
    found = told(evidence(*pair), *rails, evidence(*pair, Question(name="e")))
    assert [metric.alpha for metric in found.metrics] == pytest.approx([0.05, *[0.0125] * 4, 0.05])
    widths = [(metric.lift.high or 0) - (metric.lift.low or 0) for metric in found.metrics]
    assert widths[1] > widths[0]


def test_the_interval_is_growthbooks_to_the_printed_digits() -> None:
    """growthbook packages/stats/tests/frequentist/test_tests.py, TestSequentialTTest, proportions, N* = 5000.
    A share's interval spends nine tenths of alpha."""
    found = told(evidence(Proportion(3_000, 1_396), Proportion(3_461, 2_422)), alpha=0.05 / 0.9)
    lift = found.metrics[0].lift
    assert (lift.estimate, lift.low, lift.high) == pytest.approx((0.50386, 0.40098, 0.60675), abs=5e-6)


def test_the_split_is_tested_both_ways_with_the_published_numbers() -> None:
    """lukasvermeer.nl/srm: 502 / 498 has p .899; 500 / 600 has chi-square's p .0025688, and by the e-process
    of Lindon & Malek with k = 100 it is 0.053384."""
    import math

    assert told(split=((502, 498, 0.5),)).split.p == pytest.approx(0.8993, abs=5e-5)
    off = told(split=((500, 600, 0.5),)).split
    assert off.p == pytest.approx(0.0025688, abs=5e-8)
    assert math.exp(-off.log_e) == pytest.approx(0.053384012, rel=1e-7)


def test_what_was_foreseeable_narrows_the_interval_and_is_said() -> None:
    control = Paired(4_000, 40_000.0, 40_000.0, 480_000.0, 480_000.0, 476_000.0)
    treated = Paired(4_000, 41_000.0, 40_000.0, 500_250.0, 480_000.0, 486_000.0)
    arms = Mean(4_000, 40_000.0, 480_000.0), Mean(4_000, 41_000.0, 500_250.0)
    revenue = Question(name="revenue", kind="goal")
    plain = told(evidence(*arms, revenue)).metrics[0]
    held = Stratum(control=arms[0], treated=arms[1], adjusted=adjusted(control, treated))
    removed = variance_removed(control, treated)
    found = told(Evidence(question=revenue, strata=(held,), removed=removed, foreseen=8_000)).metrics[0]
    assert removed > 0.8
    assert found.removed == removed
    width, before = ((m.difference.high or 0) - (m.difference.low or 0) for m in (found, plain))
    assert width < before / 2
    assert (plain.finding, found.finding) == ("not yet known", "better")


def test_at_few_events_the_exact_test_speaks_before_the_interval() -> None:
    refunds = Question(name="refunds", kind="guardrail", higher_is="worse")
    (metric,) = told(evidence(Proportion(40, 0), Proportion(40, 24), refunds)).metrics
    assert metric.finding == "worse"
    assert metric.exact_p is not None
    assert metric.exact_p < 0.005


def test_a_belief_stands_beside_and_turns_with_the_direction() -> None:
    up = told(evidence(Proportion(1_000, 100), Proportion(1_000, 130))).metrics[0].belief
    down_question = Question(name="refunds", kind="goal", higher_is="worse")
    down = told(evidence(Proportion(1_000, 100), Proportion(1_000, 130), down_question)).metrics[0].belief
    assert up is not None
    assert down is not None
    assert up.better == pytest.approx(1 - down.better)
    assert (up.loss_if_shipped, up.loss_if_kept) == (down.loss_if_kept, down.loss_if_shipped)


arms = st.one_of(
    st.builds(lambda n, k: Proportion(n, min(n, k)), st.integers(0, 5_000), st.integers(0, 5_000)),
    st.builds(lambda n, m, v: Mean(n, n * m, n * (m * m + v)), st.integers(0, 500), st.floats(-9, 9),
              st.floats(0, 9)),
    st.builds(lambda n, a, b: Ratio(n, n * a, n * b, n * a * a, n * b * b, n * a * b), st.integers(0, 500),
              st.integers(0, 9), st.integers(0, 9)),
)  # fmt: skip


@given(st.data(), st.sampled_from(["better", "worse"]), st.sampled_from(["goal", "guardrail", "dry-run"]))
def test_whatever_comes_there_is_a_sentence_and_every_number_can_be_written(
    data: st.DataObject, higher_is: Any, kind: Any
) -> None:
    control = data.draw(arms)
    treated = data.draw(arms.filter(lambda arm: type(arm) is type(control)))
    question = Question(name="x", kind=kind, higher_is=higher_is, margin=0.01)
    found = told(evidence(control, treated, question))
    assert found.sentence.endswith(".")
    assert "nan" not in found.sentence
    assert "inf" not in found.sentence
    assert b"NaN" not in msgspec.json.encode(found)
