"""What a rollout may be told to do, and what is refused with a reason."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.errors import InvalidRollout
from fairlead.gateway.statuses import status_of
from fairlead.rollouts.spec import BUILT_IN, Limits, Metric, RolloutSpec, Step

FIVE = Step(weight=5)
GOAL = Metric(name="conversion", kind="goal", higher_is="better", window=3600)


def canary(*steps: Step, **more: Any) -> RolloutSpec:
    return RolloutSpec(steps=steps or (FIVE,), **more)


def test_a_rollout_that_makes_sense_is_answered_as_it_is() -> None:
    spec = canary(
        Step(mirror=10), FIVE, Step(weight=50), Step(weight=100, minimum=0, events=0), metrics=(GOAL,)
    )
    assert spec.verify({"conversion"}) is spec
    assert spec.judged == spec.steps[:-1]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (canary(Step(weight=25), FIVE), "Step 2 goes down, from a weight of 25 % to a weight of 5 %"),
        (canary(Step(mirror=50), Step(mirror=10), FIVE), "Step 2 goes down"),
        (canary(FIVE, Step(mirror=10)), "Step 2 mirrors after"),
        (canary(FIVE, FIVE), "Step 2 repeats"),
        (canary(Step(weight=101)), "Step 1 has a weight of 101 %"),
        (canary(Step(weight=-1)), "Step 1 has a weight of -1 %"),
        (canary(Step(weight=math.nan)), "Step 1 has a weight of nan %"),
        (canary(Step()), "neither weight nor mirror"),
        (canary(Step(weight=5, mirror=5)), "both a weight and a mirror"),
        (canary(Step(weight=5, minimum=60, deadline=30)), "has to last 60 s and may last 30 s"),
        (canary(Step(weight=5, deadline=math.inf)), "deadline of step 1 is inf s"),
        (canary(Step(weight=5, units=-1)), "fewer than 0"),
        (canary(FIVE, Step(weight=100)), "is the promotion"),
        (canary(Step(weight=100, minimum=0, events=0)), "compares with nobody"),
        (canary(Step(weight=100, minimum=0, events=0), Step(weight=100)), "steps follow"),
        (canary(Step(mirror=10)), "compares with nobody"),
        (RolloutSpec(), "The canary rollout has no steps"),
        (RolloutSpec(strategy="shadow", steps=(FIVE,)), "answers nobody"),
        (RolloutSpec(strategy="direct", steps=(FIVE,)), "takes no steps"),
        (RolloutSpec(strategy="ab", steps=(FIVE,)), "no goal"),
        (canary(alpha=0), "alpha 0"),
        (canary(alpha=0.5), "alpha 0.5"),
        (canary(alpha=math.nan), "alpha nan"),
        (canary(bake=-1), "bake is -1 s"),
        (canary(limits=Limits(error_rate=1.0)), "limits.error_rate is 1"),
        (canary(limits=Limits(p99_ms=0.0)), "limits.p99_ms is 0"),
        (canary(metrics=(GOAL, GOAL)), "is there twice"),
        (canary(metrics=(replace(GOAL, margin=-0.1),)), "margin of 'conversion' is -0.1"),
        (canary(metrics=(Metric(name="error_rate", kind="goal"),)), "only tells harm"),
        (canary(metrics=(Metric(name="p99", margin=0.1),)), "p99s are compared by their ratio"),
        (canary(metrics=(Metric(name="p50", margin=0.1),)), "p50s are compared by their ratio"),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_thing_and_a_remedy(
    spec: RolloutSpec, words: str
) -> None:
    with pytest.raises(InvalidRollout) as refused:
        spec.verify()
    assert words in refused.value.message
    assert refused.value.remedy
    assert status_of(refused.value) == 422


def test_a_metric_that_nothing_measures_is_refused_with_the_nearest_that_something_does() -> None:
    spec = canary(metrics=(replace(GOAL, name="conversions"),))
    with pytest.raises(InvalidRollout, match=r"Nothing measures 'conversions'.*'conversion'"):
        spec.verify({"conversion", "revenue"})
    with pytest.raises(InvalidRollout, match=r"Known: error_rate, p50, p99, .*, revenue"):
        spec.verify({"revenue"})


def test_outcomes_that_come_after_the_step_cannot_decide_it() -> None:
    short, long = Step(weight=5, deadline=1800), Step(weight=25, deadline=7200)
    assert canary(short, long, metrics=(GOAL,)).verify()
    with pytest.raises(InvalidRollout, match=r"may come 3600 s .* step 2 is watched for 1800 s"):
        canary(Step(weight=1, deadline=7200), short, metrics=(GOAL,)).verify()
    with pytest.raises(InvalidRollout, match="step 1"):
        canary(short, long, metrics=(replace(GOAL, kind="guardrail"),)).verify()
    assert canary(short, metrics=(replace(GOAL, kind="dry-run"),)).verify()


def test_what_every_model_has_is_always_watched_and_can_be_told_otherwise() -> None:
    quiet = Metric(name="p99", kind="dry-run", margin=0.5, margin_is="relative")
    names = [metric.name for metric in canary(metrics=(GOAL, quiet)).watched]
    assert names == [*BUILT_IN, "conversion"]
    assert canary(metrics=(GOAL, quiet)).watched[2] is quiet


def test_a_spec_comes_back_from_where_it_was_stored_and_knows_no_other_fields() -> None:
    spec = canary(metrics=(GOAL,), limits=Limits(error_rate=None))
    assert msgspec.json.decode(msgspec.json.encode(spec), type=RolloutSpec) == spec
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"steps": [{"weight": 5, "wait": 3}]}, RolloutSpec)
