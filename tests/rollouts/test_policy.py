"""What is decided of a rollout, by which rule, and that no order of the rules promotes what failed."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.rollouts import policy, states
from fairlead.rollouts.judge import Judgement, judge
from fairlead.rollouts.observation import Observation
from fairlead.rollouts.policy import Advance, Decision, Hold, Pause, Promote, Rollback, Succeed, apply, decide
from fairlead.rollouts.reading import preset
from fairlead.rollouts.spec import RolloutSpec, Step
from fairlead.rollouts.states import Rollout
from tests.rollouts.seen import LADDER, START, after, arm, baking, rollout, seen, serving

HEALTHY, WORSE = seen(arm(10_000, 20)), seen(arm(10_000, 500), arm(10_000, 20))
FEW, NOTHING = seen(arm(600)), seen(arm(0), arm(900))
BLIND = seen(arm(0), errors={"counters": "The folder is gone."})
REJECTING = seen(arm(10_000, rejected=900), arm(10_000))
SKEWED = seen(
    arm(10_000, 20), units={"control": 700, "canary": 300}, expected={"control": 0.5, "canary": 0.5}
)
LATE = 90_000.0


def decided(found: Rollout, observation: Observation, at: float = 3600.0) -> Decision:
    observation = msgspec.structs.replace(observation, at=after(at))
    return decide(found, judge(found.spec, found.present_step, observation), observation, after(at))


def one(**more: Any) -> RolloutSpec:
    return RolloutSpec(steps=(Step(weight=5, **more),))


# --- forward ------------------------------------------------------------------------------------------------


def test_a_step_that_passed_is_followed_by_the_next_and_the_last_by_the_promotion() -> None:
    assert decided(serving(), HEALTHY) == Advance(
        to=1,
        reason="Everything that decides is within what is borne.",
        evidence=judge(LADDER, LADDER.steps[0], HEALTHY),
    )
    assert isinstance(decided(serving(step=3), HEALTHY), Promote)
    assert isinstance(decided(serving(preset("shadow")), HEALTHY), Succeed)
    assert decided(serving(preset(shadow=True)), HEALTHY).reason
    assert isinstance(decided(serving(preset(shadow=True)), HEALTHY), Advance)


def test_a_bake_that_is_over_without_harm_is_success() -> None:
    assert isinstance(decided(baking(), HEALTHY, 599), Hold)
    assert isinstance(decided(baking(), FEW, 600), Succeed)
    assert isinstance(decided(baking(), WORSE, 10), Rollback)


def test_nobody_goes_on_while_a_gateway_serves_an_older_plan() -> None:
    behind = msgspec.structs.replace(HEALTHY, confirmed=False)
    found = decided(serving(), behind)
    assert isinstance(found, Hold)
    assert found.reason == "Not every gateway serves generation 2 yet."
    assert isinstance(decided(baking(), behind), Hold)
    assert isinstance(decided(serving(), msgspec.structs.replace(WORSE, confirmed=False)), Rollback)


def test_a_step_with_approval_waits_for_a_person_after_it_passed() -> None:
    waits = decided(serving(one(approval=True)), HEALTHY)
    assert isinstance(waits, Pause)
    assert waits.because == "approval"
    held = apply(serving(one(approval=True)), waits, after(3600))
    assert isinstance(decided(states.approve(held, after(3700)), HEALTHY, 3800), Promote)
    assert isinstance(decided(serving(one(approval=True)), FEW), Hold)


# --- not forward --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observation", "because"),
    [(FEW, "inconclusive"), (NOTHING, "no-data"), (REJECTING, "signal"), (SKEWED, "sample-ratio")],
)
def test_what_cannot_go_on_pauses_at_the_deadline_and_not_again_once_resumed(
    observation: Observation, because: str
) -> None:
    if because != "sample-ratio":
        assert isinstance(decided(serving(), observation), Hold)
    found = decided(serving(), observation, LATE)
    assert isinstance(found, Pause)
    assert found.because == because
    resumed = states.resume(apply(serving(), found, after(LATE)), after(2 * LATE))
    again = decided(resumed, observation, 4 * LATE)
    assert not isinstance(again, Pause)
    if because in ("inconclusive", "no-data"):
        assert isinstance(again, Hold)
    else:
        assert isinstance(again, Advance)


def test_a_split_that_is_not_the_plans_pauses_at_once() -> None:
    found = decided(serving(), SKEWED)
    assert isinstance(found, Pause)
    assert found.because == "sample-ratio"


def test_a_signal_that_recovers_lets_go() -> None:
    assert isinstance(decided(serving(), REJECTING), Hold)
    assert isinstance(decided(serving(), HEALTHY), Advance)


@pytest.mark.parametrize(
    ("policy_of_step", "kind"), [("pause", Pause), ("rollback", Rollback), ("advance", Promote)]
)
def test_the_step_says_what_becomes_of_what_cannot_be_told(policy_of_step: str, kind: type[Decision]) -> None:
    spec = one(inconclusive=policy_of_step)
    assert isinstance(decided(serving(spec), FEW), Hold)
    found = decided(serving(spec), FEW, LATE)
    assert isinstance(found, kind)
    assert found.reason.startswith("In 86400 s it could not be told")


@pytest.mark.parametrize("observation", [seen(arm(10)), NOTHING, BLIND])
def test_advancing_without_a_verdict_still_needs_the_minimums(observation: Observation) -> None:
    found = decided(serving(one(inconclusive="advance")), observation, LATE)
    assert isinstance(found, Pause | Hold)


def test_four_looks_in_a_row_that_could_not_be_measured_pause() -> None:
    found = serving()
    for errors in range(1, 4):
        decision = decided(found, BLIND)
        assert isinstance(decision, Hold)
        found = apply(found, decision, after(errors))
        assert found.errors == errors
    decision = decided(found, BLIND)
    assert isinstance(decision, Pause)
    assert decision.because == "errors"
    assert apply(found, decision, after(9)).state == "paused"


def test_errors_missing_data_and_what_cannot_be_told_are_counted_apart() -> None:
    found = serving()
    for observation, counts in (
        (BLIND, (1, 0, 0)), (BLIND, (2, 0, 0)), (NOTHING, (0, 1, 0)), (FEW, (0, 0, 1)), (FEW, (0, 0, 2)),
    ):  # fmt: skip
        found = apply(found, decided(found, observation), after(1))
        assert (found.errors, found.no_data, found.inconclusive) == counts


def test_a_bake_without_requests_asks_a_person_unless_nobody_asked_for_one() -> None:
    assert isinstance(decided(baking(), NOTHING, 599), Hold)
    found = decided(baking(), NOTHING, 600)
    assert isinstance(found, Pause)
    assert found.because == "no-data"
    resumed = states.resume(apply(baking(), found, after(600)), after(700))
    assert isinstance(decided(resumed, NOTHING, 800), Succeed)
    assert isinstance(decided(baking(preset(bake=0)), NOTHING, 0), Succeed)


def test_copies_that_cannot_be_had_keep_no_canary_from_coming() -> None:
    first, asked = serving(preset(shadow=True)), serving(preset("shadow"))
    assert isinstance(decided(first, NOTHING, 1799), Hold)
    assert isinstance(decided(first, NOTHING, 1800), Advance)
    assert isinstance(decided(first, FEW, 1800), Advance)
    assert isinstance(decided(first, WORSE, 10), Rollback)
    assert isinstance(decided(first, BLIND, 1800), Hold), "what cannot be measured is no lack of copies"
    assert isinstance(decided(asked, NOTHING, LATE), Pause)


def test_what_was_seen_of_other_traffic_decides_nothing() -> None:
    for found in (
        rollout(),
        serving(generation=3),
        serving(generation=None),
        states.succeed(baking(), START),
    ):
        decision = decided(found, WORSE)
        assert isinstance(decision, Hold)
        assert apply(found, decision, after(1)) == found


# --- back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [
        serving(),
        serving(preset(shadow=True)),
        states.pause(serving(), START),
        states.pause(serving(), START, "approval"),
        states.moved(states.promote(serving(), START), 2, START),
        baking(),
        states.pause(baking(), START),
    ],
    ids=lambda found: f"{found.state}-{found.phase}",
)
def test_harm_rolls_back_from_wherever_the_candidate_has_traffic_also_when_paused(found: Rollout) -> None:
    decision = decided(found, WORSE)
    assert isinstance(decision, Rollback)
    assert decision.evidence is not None
    assert decision.reason == decision.evidence.sentence
    assert apply(found, decision, after(1)).state == "aborting"


def test_an_abort_outweighs_everything() -> None:
    aborting = states.abort(serving(), START)
    for observation in (HEALTHY, WORSE, BLIND, SKEWED):
        assert decided(aborting, observation) == Rollback(reason="It was aborted.")


def test_a_paused_rollout_goes_nowhere_else() -> None:
    for observation in (HEALTHY, FEW, NOTHING, BLIND, SKEWED, REJECTING):
        assert isinstance(decided(states.pause(serving(), START), observation, LATE), Hold)


# --- laws ---------------------------------------------------------------------------------------------------

results = st.sampled_from(["pass", "fail", "inconclusive", "no-data", "error"])
judgements = st.builds(
    Judgement,
    result=results,
    sentence=st.just("So it is."),
    verdicts=st.just(()),
    waiting=st.sampled_from([(), ("More time.",)]),
    mismatch=st.sampled_from([None, "Skewed."]),
    regressed=st.sampled_from([(), ("rejections",)]),
)
rollouts = st.builds(
    lambda made, overrides, errors: msgspec.structs.replace(made, overrides=overrides, errors=errors),
    st.sampled_from(
        [
            serving(),
            serving(step=3),
            serving(one(inconclusive="advance")),
            serving(preset("shadow")),
            states.pause(serving(), START),
            baking(),
            states.moved(states.promote(serving(), START), 2, START),
            states.abort(serving(), START),
        ]
    ),
    st.sets(st.sampled_from(["inconclusive", "no-data", "signal", "sample-ratio", "errors", "approval"])).map(
        tuple
    ),
    st.integers(0, 9),
)
FORWARD = (Advance, Promote, Succeed)


@settings(max_examples=400)
@given(rollouts, judgements, st.permutations(policy.RULES), st.sampled_from([0.0, 700.0, LATE]))
def test_in_no_order_of_the_rules_does_a_failure_or_an_abort_go_forward(
    found: Rollout, judgement: Judgement, rules: list[policy.Rule], at: float
) -> None:
    situation = policy.Situation(rollout=found, judgement=judgement, observation=HEALTHY, now=after(at))
    decision = next(filter(None, (rule(situation) for rule in rules)))
    if judgement.result == "fail" or found.state in ("aborting", "paused"):
        assert not isinstance(decision, FORWARD)


@settings(max_examples=400)
@given(rollouts, judgements, st.sampled_from([0.0, 700.0, LATE]))
def test_every_decision_can_be_carried_out_stored_and_taken_again(
    found: Rollout, judgement: Judgement, at: float
) -> None:
    decision = decide(found, judgement, HEALTHY, after(at))
    stored = msgspec.json.encode((found, judgement, HEALTHY, after(at)))
    again = decide(*msgspec.json.decode(stored, type=tuple[Rollout, Judgement, Observation, type(START)]))  # type: ignore[misc]
    assert again == decision
    assert msgspec.json.decode(msgspec.json.encode(decision), type=Decision) == decision
    assert decision.reason
    changed = apply(found, decision, after(at))
    assert changed.state == found.state or changed.state in states.LEGAL[found.state]
    if judgement.result == "fail" and found.state != "aborting":
        assert isinstance(decision, Rollback)
    if judgement.result in ("no-data", "error") and "no-data" not in found.overrides:
        assert not isinstance(decision, FORWARD)


@given(
    lasted=st.floats(0, 2000),
    requests=st.integers(0, 3000),
    theirs=st.integers(0, 3000),
    failures=st.integers(0, 30),
    inconclusive=st.sampled_from(["pause", "rollback", "advance"]),
    late=st.booleans(),
)
def test_nothing_goes_forward_before_its_minimums(
    lasted: float, requests: int, theirs: int, failures: int, inconclusive: str, late: bool
) -> None:
    found = serving(one(inconclusive=inconclusive, minimum=1000, events=1500, deadline=1000))
    observation = seen(arm(requests, min(requests, failures)), arm(theirs), lasted=lasted)
    judgement = judge(found.spec, found.present_step, observation)
    decision = decide(found, judgement, observation, after(LATE if late else lasted))
    if isinstance(decision, FORWARD):
        assert lasted >= 1000
        assert min(requests, theirs) >= 1500


def test_the_rules_stand_in_the_order_that_was_promised() -> None:
    """Every pair of conditions at once: the one that comes first here decides."""
    outcome = {"fail": Rollback, "mismatch": Pause, "paused": Hold, "inconclusive": Pause, "pass": Advance}
    for first, second in itertools.combinations(outcome, 2):
        if {first, second} <= {"fail", "inconclusive", "pass"}:
            continue  # a judgement has one result
        found = states.pause(serving(), START) if "paused" in (first, second) else serving()
        result = next(name for name in (first, second, "pass") if name in ("fail", "inconclusive", "pass"))
        judgement = Judgement(
            result=result,  # type: ignore[arg-type]
            sentence="So it is.",
            verdicts=(),
            mismatch="Skewed." if "mismatch" in (first, second) else None,
        )
        decision = decide(found, judgement, HEALTHY, after(LATE))
        expected = Hold if {first, second} == {"mismatch", "paused"} else outcome[first]
        assert isinstance(decision, expected), (first, second)
