"""What the answers themselves say: an alarm for outputs that lie elsewhere, and how often a shadow agrees."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.rollouts.answer_verdicts import answer_verdict
from fairlead.rollouts.judge import judge
from fairlead.rollouts.observation import ArmSample, Observation, Outputs
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.spec import WATCHED, Metric
from fairlead.rollouts.verdicts import MetricVerdict
from tests.rollouts.seen import arm, seen

SHIFT, AGREEMENT = (metric for metric in WATCHED if metric.name in ("output_shift", "agreement"))
SPEC = read_spec({"steps": [{"mirror": 100}, {"weight": 5}, {"weight": 100}]})
MIRRORED, WEIGHED = SPEC.steps[:2]


def spread(control: tuple[int, ...], canary: tuple[int, ...], requests: int = 400) -> Observation:
    answers = min(sum(control), sum(canary))
    classes = tuple(str(index) for index in range(len(control)))
    outputs = Outputs(classes=classes, control=control, canary=canary, answers=answers)
    return seen(arm(requests), outputs=outputs)


def copies(same: int, different: int, dropped: int = 0) -> Observation:
    sample = msgspec.structs.replace(arm(same + different), same=same, different=different, dropped=dropped)
    return seen(sample)


def of(metric: Metric, observation: Observation) -> MetricVerdict:
    return answer_verdict(metric, observation, alpha=0.01)


@pytest.mark.parametrize(
    ("control", "canary", "result"),
    [
        ((100, 100, 0), (0, 0, 200), "fail"),
        ((100, 100, 100), (100, 100, 100), "pass"),
        ((1000, 1000), (1150, 850), "pass"),  # 7.5 points: beyond chance, and within the margin
        ((10_000, 10_000), (16_000, 4_000), "fail"),
        ((20, 0), (0, 20), "no-data"),  # the log has not told of enough yet
    ],
)
def test_outputs_that_lie_elsewhere_by_more_than_the_margin_fail(
    control: tuple[int, ...], canary: tuple[int, ...], result: str
) -> None:
    assert of(SHIFT, spread(control, canary)).result == result


def test_few_requests_need_few_answers_in_the_log() -> None:
    assert of(SHIFT, spread((20, 0), (0, 20), requests=30)).result != "no-data"


def test_it_says_how_much_lies_elsewhere() -> None:
    found = of(SHIFT, spread((200, 200, 0), (0, 0, 400)))
    assert found.sentence.startswith("output_shift: 100 % of the candidate's outputs lie otherwise than")
    assert found.sentence.endswith("25 % are borne.")
    assert (found.estimate, found.high) == (1.0, None)
    assert found.low is not None
    assert found.low > 0.8


def test_without_a_log_or_classes_it_is_not_judged_and_an_unsettled_one_waits() -> None:
    nobody_asks = judge(SPEC, WEIGHED, seen(arm(9_000)))
    assert "output_shift" not in {verdict.metric for verdict in nobody_asks.verdicts}
    assert nobody_asks.result == "pass"
    young = judge(SPEC, WEIGHED, seen(arm(9_000), outputs=Outputs()))
    assert young.result == "no-data"
    away = judge(SPEC, WEIGHED, seen(arm(9_000), errors={"output_shift": "The log is away."}))
    assert away.result == "error"
    assert "The log is away." in away.sentence


def test_a_shift_rolls_back_and_a_dry_run_of_it_does_not() -> None:
    observation = spread((4_500, 4_500, 0), (0, 0, 9_000), requests=9_000)
    assert judge(SPEC, WEIGHED, observation).result == "fail"
    told = read_spec(
        {"steps": [{"weight": 5}, {"weight": 100}], "metrics": [{"name": "output_shift", "kind": "dry-run"}]}
    )
    assert judge(told, told.steps[0], observation).result == "pass"


@pytest.mark.parametrize(
    ("same", "different", "result"),
    [(0, 0, "no-data"), (9_900, 100, "pass"), (500, 500, "fail"), (19, 1, "inconclusive")],
)
def test_a_shadow_agrees_or_does_not(same: int, different: int, result: str) -> None:
    found = of(AGREEMENT, copies(same, different, dropped=3))
    assert found.result == result
    assert ("for 3 there was no room" in found.sentence) == (result == "no-data")


def test_disagreement_is_told_and_decides_only_where_the_plan_says_so() -> None:
    observation = copies(5_000, 5_000)
    usual = judge(SPEC, MIRRORED, observation)
    assert usual.result == "pass"
    assert any("50 % of 10000 copies were answered alike" in verdict.sentence for verdict in usual.verdicts)
    strict = read_spec(
        {
            "steps": [{"mirror": 100}, {"weight": 5}],
            "metrics": [{"name": "agreement", "kind": "guardrail", "margin": 0.1}],
        }
    )
    assert judge(strict, strict.steps[0], observation).result == "fail"
    assert judge(strict, strict.steps[1], observation).result == "pass", "no step but a shadow's has copies"


def test_copies_that_are_slow_roll_nothing_back_and_copies_that_fail_do() -> None:
    slow = seen(arm(9_000, slow=4_000), arm(9_000))
    assert judge(SPEC, MIRRORED, slow).result == "pass"
    assert judge(SPEC, WEIGHED, slow).result == "fail"
    assert judge(SPEC, MIRRORED, seen(arm(9_000, 900), arm(9_000))).result == "fail"


def test_outcomes_are_not_waited_for_where_nobody_got_an_answer() -> None:
    spec = read_spec(
        {"steps": [{"mirror": 100}, {"weight": 5}], "metrics": [{"name": "conversion", "margin": 0.01}]}
    )
    assert judge(spec, spec.steps[0], seen(arm(9_000))).result == "pass"
    assert judge(spec, spec.steps[1], seen(arm(9_000))).result == "no-data"


@given(st.lists(st.integers(0, 300), min_size=2, max_size=9), st.integers(0, 400), st.integers(0, 400))
def test_every_verdict_has_a_sentence_and_can_be_stored(counts: list[int], same: int, different: int) -> None:
    shifted = spread(tuple(counts), tuple(reversed(counts)))
    for metric, observation in ((SHIFT, shifted), (AGREEMENT, copies(same, different))):
        found = of(metric, observation)
        assert found.sentence.endswith(".")
        assert msgspec.json.decode(msgspec.json.encode(found), type=MetricVerdict) == found
        stored = msgspec.json.decode(msgspec.json.encode(observation), type=Observation)
        assert of(metric, stored) == found


def test_counters_of_before_there_were_shadows_are_read_as_none() -> None:
    assert msgspec.convert({"requests": 5}, ArmSample).same == 0
