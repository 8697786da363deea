"""What the verdicts of all metrics come to, what is still waited for, and when a split is not the plan's."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.experiments.aggregates import Proportion
from fairlead.rollouts.judge import Judgement, judge
from fairlead.rollouts.observation import Observation, Outcome
from fairlead.rollouts.reading import preset
from fairlead.rollouts.spec import Limits, Metric, RolloutSpec, Step
from tests.rollouts.seen import LADDER, arm, seen

GOAL = Metric(name="conversion", kind="goal", margin=0.01, higher_is="better")
FIRST, LAST = LADDER.judged[0], LADDER.judged[-1]
HEALTHY = seen(arm(10_000, 20))
WORSE = seen(arm(10_000, 500), arm(10_000, 20))


def conversions(canary: int, control: int, n: int = 20_000) -> dict[str, Outcome]:
    return {"conversion": Outcome(control=Proportion(n, control), canary=Proportion(n, canary))}


def test_a_healthy_candidate_passes_and_a_worse_one_fails() -> None:
    assert judge(LADDER, FIRST, HEALTHY).result == "pass"
    found = judge(LADDER, FIRST, WORSE)
    assert found.result == "fail"
    assert found.sentence == found.verdicts[0].sentence
    assert [verdict.metric for verdict in found.verdicts] == ["error_rate", "p50", "p99", "rejections"]


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (seen(arm(10_000, 20), lasted=599), "watched for 599 s of at least 600"),
        (seen(arm(10_000, 20), arm(499)), "answered 499 requests of at least 500"),
        (seen(arm(10_000), units={"canary": 3, "control": 9}), "met 3 units of at least 4"),
        (seen(arm(10_000), units={"canary": 9}, expected={"canary": 0.5, "control": 0.5}), "met 0 units"),
        (seen(arm(10_000)), "met 0 units of at least 4"),
    ],
)
def test_nothing_passes_before_its_minimums(observation: Observation, words: str) -> None:
    spec = RolloutSpec(steps=(Step(weight=5, units=4 if "units" in words else 0),))
    found = judge(spec, spec.steps[0], observation)
    assert found.result in ("inconclusive", "no-data")
    assert any(words in sentence for sentence in found.waiting)


def test_harm_waits_for_no_minimum() -> None:
    early = msgspec.structs.replace(WORSE, at=WORSE.since)
    assert judge(LADDER, FIRST, early).result == "fail"


def test_an_arm_that_gets_nothing_by_the_plan_is_not_waited_for() -> None:
    spec = RolloutSpec(steps=(Step(weight=50, units=4),))
    shares = {"stable": 0.0, "control": 0.5, "canary": 0.5}
    halves = seen(arm(10_000), units={"control": 9, "canary": 9}, expected=shares)
    assert judge(spec, spec.steps[0], halves).waiting == ()


def test_what_could_not_be_measured_is_neither_passed_nor_failed() -> None:
    blind = seen(arm(10_000), errors={"counters": "gone"})
    assert judge(LADDER, FIRST, blind).result == "error"
    spec = RolloutSpec(steps=(Step(weight=5, units=4),))
    uncounted = seen(arm(10_000), errors={"units": "The log is away."})
    assert judge(spec, spec.steps[0], uncounted).result == "error"
    assert judge(LADDER, FIRST, uncounted).result == "pass"


def test_a_failure_that_shows_outweighs_an_error_elsewhere() -> None:
    spec = RolloutSpec(steps=LADDER.steps, metrics=(msgspec.structs.replace(GOAL, kind="guardrail"),))
    found = judge(spec, FIRST, msgspec.structs.replace(WORSE, errors={"conversion": "The log is away."}))
    assert found.result == "fail"


@pytest.mark.parametrize("kind", ["guardrail", "signal", "goal", "dry-run"])
def test_no_requests_are_never_a_pass(kind: str) -> None:
    metrics = tuple(
        msgspec.convert({"name": name, "kind": kind, "margin": 1.0, "margin_is": "relative"}, Metric)
        for name in ("error_rate", "p50", "p99", "rejections")
    )
    spec = RolloutSpec(steps=LADDER.steps, metrics=metrics, limits=Limits(error_rate=None, p99_ms=None))
    for step in (FIRST, LAST, None):
        assert judge(spec, step, seen(arm(0), arm(100))).result == "no-data"


def test_signals_and_dry_runs_are_told_and_fail_nothing() -> None:
    rejecting = seen(arm(10_000, rejected=900), arm(10_000))
    found = judge(LADDER, FIRST, rejecting)
    assert (found.result, found.regressed) == ("pass", ("rejections",))
    metrics = (Metric(name="error_rate", kind="dry-run", margin=0.005),)
    spec = RolloutSpec(steps=LADDER.steps, metrics=metrics)
    found = judge(spec, FIRST, WORSE)
    assert (found.result, found.verdicts[0].result) == ("pass", "fail")


def test_a_goal_has_to_hold_in_the_last_step_and_may_harm_in_none() -> None:
    spec = RolloutSpec(steps=LADDER.steps, metrics=(GOAL,))
    for step, few, good, bad in ((FIRST, "pass", "pass", "fail"), (LAST, "inconclusive", "pass", "fail")):
        for outcomes, result in (
            (conversions(10, 10, 100), few),
            (conversions(4_000, 2_000), good),
            (conversions(1_000, 2_000), bad),
        ):
            found = judge(spec, step, msgspec.structs.replace(HEALTHY, outcomes=outcomes))
            assert found.result == result
    assert judge(spec, LAST, HEALTHY).result == "no-data"


def test_the_bake_knows_limits_alone() -> None:
    found = judge(LADDER, None, seen(arm(1_000, 4), None))
    assert found.result == "pass"
    assert [verdict.metric for verdict in found.verdicts] == ["error_rate", "p99"]
    assert judge(LADDER, None, seen(arm(1_000, 100), arm(1_000, 4))).result == "fail"


def test_alpha_is_shared_out_over_metrics_and_steps() -> None:
    one = preset(steps=[5], bake=0)
    more = RolloutSpec(steps=LADDER.steps, metrics=(GOAL,))
    for spec, other in ((one, LADDER), (LADDER, more)):
        near, far = (judge(s, s.judged[-1], HEALTHY).verdicts[0] for s in (spec, other))
        assert near.high is not None
        assert far.high is not None
        assert near.high < far.high


def test_units_that_do_not_lie_as_planned_are_a_mismatch() -> None:
    shares = {"stable": 0.9, "control": 0.05, "canary": 0.05}
    planned = seen(arm(10_000), units={"stable": 9_000, "control": 510, "canary": 490}, expected=shares)
    assert judge(LADDER, FIRST, planned).mismatch is None
    skewed = seen(arm(10_000), units={"stable": 9_000, "control": 700, "canary": 300}, expected=shares)
    found = judge(LADDER, FIRST, skewed).mismatch
    assert found is not None
    assert "not the one that was configured" in found
    assert judge(LADDER, FIRST, seen(arm(10_000))).mismatch is None


def test_a_judgement_comes_back_from_where_it_was_stored() -> None:
    found = judge(LADDER, FIRST, WORSE)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Judgement) == found
