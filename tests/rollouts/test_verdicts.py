"""What one metric says: harm as soon as it shows, safety only when it is shown, and a sentence for both."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.experiments.aggregates import Mean, Proportion
from fairlead.rollouts.observation import ArmSample, Observation, Outcome
from fairlead.rollouts.spec import WATCHED, Limits, Metric
from fairlead.rollouts.verdicts import MetricVerdict, verdict
from tests.rollouts.seen import arm, latencies, seen

COUNTED = WATCHED[:4]
ERRORS, P50, P99, REJECTIONS = COUNTED
USUAL, FREE = Limits(), Limits(error_rate=None, p99_ms=None)
GOAL = Metric(name="conversion", kind="goal", margin=0.01, higher_is="better")


def of(
    metric: Metric,
    observation: Observation,
    limits: Limits = USUAL,
    *,
    alpha: float = 0.05,
    beside: bool = True,
) -> MetricVerdict:
    return verdict(metric, limits, observation, alpha=alpha, beside=beside)


@pytest.mark.parametrize(
    ("canary", "control", "result"),
    [
        (arm(10_000, 30), arm(10_000, 30), "pass"),
        (arm(10_000, 200), arm(10_000, 30), "fail"),
        (arm(10_000, 30), arm(10_000, 200), "pass"),
        (arm(500, 25), arm(500, 0), "fail"),
        (arm(100, 1), arm(100, 0), "inconclusive"),
        (arm(10, 0), arm(10, 0), "inconclusive"),
        (arm(5_000, 0), arm(5_000, 0), "pass"),
        (arm(5_000, 3), arm(5_000, 1), "pass"),
        (arm(0), arm(100), "no-data"),
        (arm(100), arm(0), "no-data"),
        (arm(10, rejected=10), arm(10), "no-data"),
    ],
)
def test_error_rates_are_compared(canary: ArmSample, control: ArmSample, result: str) -> None:
    assert of(ERRORS, seen(canary, control)).result == result


def test_a_verdict_has_numbers_and_a_sentence() -> None:
    found = of(ERRORS, seen(arm(10_000, 200), arm(10_000, 30)))
    assert (found.canary, found.control, found.margin, found.limit) == (0.02, 0.003, 0.005, 0.01)
    assert found.estimate == pytest.approx(0.017)
    assert found.low is not None
    assert found.high is not None
    assert 0.005 < found.low < 0.017 < found.high
    assert found.sentence == (
        "error_rate is 2 % for the candidate and 0.3 % for control: +1.7 points, surely between "
        f"{100 * found.low:+.3g} points and {100 * found.high:+.3g} points; 0.5 points more are borne. "
        "It is beyond chance above the limit of 1 %."
    )


def test_a_limit_condemns_without_a_comparison() -> None:
    found = of(ERRORS, seen(arm(1_000, 100), None), beside=False)
    assert found.result == "fail"
    assert (found.low, found.high) == (None, None)
    assert of(ERRORS, seen(arm(1_000, 5), None), beside=False).result == "pass"


def test_a_limit_that_control_breaks_as_well_does_not_condemn_and_says_so() -> None:
    found = of(ERRORS, seen(arm(40_000, 1_200), arm(40_000, 1_200)))
    assert found.result == "pass"
    assert "Control is above the limit of 1 %, too" in found.sentence
    assert of(ERRORS, seen(arm(20_000, 600), arm(20_000, 20))).result == "fail"


def test_what_control_breaks_a_little_does_not_excuse_breaking_it_much() -> None:
    before = arm(10_000, 120)
    assert of(ERRORS, seen(arm(2_000, 30), before), beside=False).result == "pass"
    found = of(ERRORS, seen(arm(2_000, 400), before), beside=False)
    assert found.result == "fail"
    assert "above the limit of 1 %, and above control" in found.sentence


def test_a_limit_that_is_off_condemns_nobody() -> None:
    assert of(ERRORS, seen(arm(1_000, 100), None), FREE, beside=False).result == "pass"
    assert of(ERRORS, seen(arm(20_000, 600)), FREE).result == "fail"


@pytest.mark.parametrize(
    ("canary", "control", "result"),
    [
        (arm(5_000, seconds=0.02), arm(5_000, seconds=0.02), "pass"),
        (arm(5_000, seconds=0.04), arm(5_000, seconds=0.02), "fail"),
        (arm(5_000, seconds=0.02), arm(5_000, seconds=0.04), "pass"),
        (arm(5_000, slow=500), arm(5_000), "fail"),
        (arm(20, seconds=0.03), arm(20, seconds=0.02), "inconclusive"),
        (arm(5_000, seconds=0.022), arm(5_000, seconds=0.02), "pass"),
        (arm(400, seconds=0.03), arm(400, seconds=0.02), "inconclusive"),
        (ArmSample(requests=9), arm(9), "no-data"),
    ],
)
def test_latencies_are_compared_by_their_p99(canary: ArmSample, control: ArmSample, result: str) -> None:
    assert of(P99, seen(canary, control)).result == result


@pytest.mark.parametrize(
    ("canary", "control", "result"),
    [
        (arm(500, seconds=0.02), arm(500, seconds=0.02), "pass"),
        (arm(150, seconds=0.06), arm(150, seconds=0.02), "fail"),
        (arm(500, seconds=0.02), arm(500, seconds=0.06), "pass"),
        (arm(500, slow=100), arm(500), "pass"),
        (arm(20, seconds=0.06), arm(20, seconds=0.02), "inconclusive"),
        (ArmSample(requests=9), arm(9), "no-data"),
    ],
)
def test_the_usual_answer_is_compared_by_the_median(
    canary: ArmSample, control: ArmSample, result: str
) -> None:
    assert of(P50, seen(canary, control)).result == result


def test_a_cold_cache_is_no_slow_version() -> None:
    cold = arm(1_000, seconds=0.02)
    warm = msgspec.structs.replace(arm(1_000), hits=800, latency=latencies({0.0001: 800, 0.02: 200}))
    assert of(P50, seen(cold, warm)).result == "pass"
    slow = msgspec.structs.replace(cold, latency=latencies({0.06: 1_000}))
    assert of(P50, seen(slow, warm)).result == "fail"
    assert of(P50, seen(cold, msgspec.structs.replace(warm, hits=1_000))).result == "no-data"


def test_a_p99_beyond_its_limit_fails_unless_control_has_that_as_well() -> None:
    assert of(P99, seen(arm(2_000, slow=60), None), beside=False).result == "fail"
    assert of(P99, seen(arm(2_000, slow=5), None), beside=False).result == "pass"
    assert of(P99, seen(arm(5_000, slow=150), arm(5_000, slow=150))).result != "fail"
    assert of(P99, seen(arm(2_000, seconds=0.5), None), beside=False).result == "pass"


def test_rejections_are_compared_among_all_requests() -> None:
    assert of(REJECTIONS, seen(arm(5_000, rejected=400), arm(5_000, rejected=10))).result == "fail"
    assert of(REJECTIONS, seen(arm(5_000, rejected=10), arm(5_000, rejected=10))).result == "pass"


def conversions(canary: int, control: int, n: int = 20_000) -> Observation:
    outcome = Outcome(control=Proportion(n, control), canary=Proportion(n, canary))
    return seen(arm(100), outcomes={"conversion": outcome})


@pytest.mark.parametrize(
    ("observation", "result"),
    [
        (conversions(2_000, 2_000), "pass"),
        (conversions(1_400, 2_000), "fail"),
        (conversions(2_600, 2_000), "pass"),
        (conversions(20, 20, 200), "inconclusive"),
        (seen(arm(100)), "no-data"),
        (conversions(0, 0, 0), "no-data"),
    ],
)
def test_less_of_what_is_better_is_harm(observation: Observation, result: str) -> None:
    assert of(GOAL, observation).result == result


def test_a_margin_can_be_a_share_of_what_control_has() -> None:
    relative = msgspec.structs.replace(GOAL, margin=0.2, margin_is="relative")
    assert of(relative, conversions(1_900, 2_000)).result == "pass"
    found = of(relative, conversions(1_000, 2_000))
    assert (found.result, found.relative, found.estimate) == ("fail", True, pytest.approx(-0.5))


def test_means_of_few_units_are_not_believed() -> None:
    money = Metric(name="revenue", kind="goal", margin=0.1, higher_is="better")
    for n, result in ((50, "inconclusive"), (5_000, "fail")):
        outcome = Outcome(control=Mean(n, 5.0 * n, 26.0 * n), canary=Mean(n, 3.0 * n, 10.0 * n))
        assert of(money, seen(arm(9), outcomes={"revenue": outcome})).result == result


def test_what_could_not_be_measured_is_an_error_and_says_why() -> None:
    away = seen(arm(10_000, 900), errors={"counters": "The folder is gone."})
    for metric in COUNTED:
        found = of(metric, away)
        assert (found.result, found.low) == ("error", None)
        assert "The folder is gone." in found.sentence
    assert of(GOAL, seen(arm(9), errors={"conversion": "The log is away."})).result == "error"


@settings(max_examples=300)
@given(
    n=st.integers(1, 20_000),
    m=st.integers(1, 20_000),
    share=st.floats(0, 0.3),
    base=st.floats(0, 0.1),
    more=st.integers(1, 5_000),
    limit=st.sampled_from([None, 0.01, 0.1]),
    beside=st.booleans(),
)
def test_more_failures_never_turn_a_failure_into_a_pass(
    n: int, m: int, share: float, base: float, more: int, limit: float | None, beside: bool
) -> None:
    failures = int(n * share)
    limits = Limits(error_rate=limit)
    control = arm(m, int(m * base))
    before = of(ERRORS, seen(arm(n, failures), control), limits, beside=beside)
    worse = of(ERRORS, seen(arm(n, min(n, failures + more)), control), limits, beside=beside)
    assert not (before.result == "fail" and worse.result == "pass")


@given(n=st.integers(100, 20_000), slow=st.floats(0, 0.2), more=st.floats(0, 0.2), beside=st.booleans())
def test_more_slow_answers_never_turn_a_failure_into_a_pass(
    n: int, slow: float, more: float, beside: bool
) -> None:
    before = of(P99, seen(arm(n, slow=int(n * slow))), beside=beside)
    worse = of(P99, seen(arm(n, slow=int(n * (slow + more)))), beside=beside)
    assert not (before.result == "fail" and worse.result == "pass")


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 20_000), st.integers(0, 20_000))
def test_nothing_that_is_seen_is_without_a_verdict_and_numbers_that_can_be_stored(
    failed: int, theirs: int, n: int, m: int
) -> None:
    observation = seen(arm(n, min(failed, n), slow=min(failed, n)), arm(m, min(theirs, m)))
    for metric in COUNTED:
        for beside in (True, False):
            found = of(metric, observation, beside=beside)
            assert found.sentence.endswith(".")
            assert msgspec.json.decode(msgspec.json.encode(found), type=MetricVerdict) == found
