"""From words and flags to a spec, or to a refusal that names the nearest right word."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from fairlead.errors import InvalidRollout
from fairlead.rollouts.reading import preset, read_spec
from fairlead.rollouts.spec import Metric, RolloutSpec, Step

GOAL = Metric(name="conversion", kind="goal", higher_is="better")


def test_a_file_becomes_a_spec_with_durations_in_seconds() -> None:
    document = tomllib.loads(
        """
        bake = "1h 30m"
        [[steps]]
        weight = 5
        minimum = "90s"
        approval = true
        [[steps]]
        weight = 100
        [limits]
        p99_ms = 250
        [[metrics]]
        name = "conversion"
        kind = "goal"
        higher_is = "better"
        window = "30m"
        """
    )
    spec = read_spec(document, {"conversion"})
    assert spec.bake == 5400
    assert spec.steps == (
        Step(weight=5, minimum=90, approval=True),
        Step(weight=100, minimum=0, events=0),
    )
    assert (spec.limits.p99_ms, spec.limits.error_rate) == (250, 0.01)
    assert spec.metrics[0].window == 1800


def test_what_is_not_said_of_a_metric_that_is_always_there_stays_as_it_always_is() -> None:
    spec = read_spec({"steps": [{"weight": 5}], "metrics": [{"name": "p99", "kind": "signal"}]})
    assert spec.metrics == (Metric(name="p99", kind="signal", margin=0.2, margin_is="relative"),)


def test_a_limit_that_is_null_is_off() -> None:
    spec = read_spec({"steps": [{"weight": 5}], "limits": {"error_rate": None}})
    assert spec.limits.error_rate is None


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"step": []}, "Unknown key 'step' in the rollout. Did you mean 'steps'?"),
        ({"steps": [{"wieght": 5}]}, "Unknown key 'wieght' in steps[0]. Did you mean 'weight'?"),
        ({"steps": [{"weight": 5}], "limits": {"p99": 3}}, "Did you mean 'p99_ms'?"),
        ({"steps": [{"weight": "5"}]}, "steps[0].weight: Expected a number, got a text"),
        ({"steps": [{"weight": 5, "inconclusive": "wait"}]}, "Use one of pause, rollback, advance"),
        ({"strategy": "bluegreen"}, "strategy is 'bluegreen'"),
        ({"steps": 5}, "steps: Expected a list, got a whole number"),
        ({"steps": [5]}, "Steps[0] is no table"),
        ({"steps": [{"weight": 5}], "bake": "soon"}, "'soon', which is no duration"),
        ({"steps": [{"weight": 5}], "metrics": [{"kind": "goal"}]}, "required field `name`"),
        ([], "The rollout is no table"),
        ({}, "has no steps"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(document: Any, words: str) -> None:
    with pytest.raises(InvalidRollout) as refused:
        read_spec(document)
    assert words in str(refused.value)


def weights(spec: RolloutSpec) -> list[float]:
    return [step.weight for step in spec.steps]


def test_a_canary_goes_up_the_ladder_from_where_it_is_told_to_begin() -> None:
    assert weights(preset()) == [1, 5, 25, 50, 100]
    assert weights(preset(weight=5)) == [5, 25, 50, 100]
    assert weights(preset(weight=10)) == [10, 25, 50, 100]
    assert weights(preset(steps=[2, 20])) == [2, 20]
    assert preset(bake="10m").bake == 600


def test_a_shadow_comes_first_where_it_is_asked_for() -> None:
    spec = preset(shadow=True)
    assert [step.mirror for step in spec.steps] == [100, 0, 0, 0, 0, 0]
    assert preset("shadow").steps == (Step(mirror=100),)
    assert preset("shadow", weight=10).steps[0].mirror == 10


def test_an_experiment_waits_for_its_goal_and_for_a_person() -> None:
    (step,) = preset("ab", metrics=[GOAL]).steps
    assert (step.weight, step.approval, step.units) == (50, True, 1000)


def test_what_moves_everything_at_once_takes_no_steps() -> None:
    assert preset("direct").bake == 0
    assert preset("blue-green").bake > 0
    with pytest.raises(InvalidRollout, match="takes no weight and no steps"):
        preset("blue-green", weight=5)


def test_a_weight_and_steps_together_are_refused() -> None:
    with pytest.raises(InvalidRollout, match="A weight and steps"):
        preset(weight=5, steps=[5, 25])
