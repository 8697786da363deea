"""Where a rollout may go from where it stands, and what a command does to it."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from fairlead.errors import WrongRolloutState
from fairlead.gateway.statuses import status_of
from fairlead.rollouts import states
from fairlead.rollouts.reading import preset
from fairlead.rollouts.spec import RolloutSpec, Step
from fairlead.rollouts.states import LEGAL, TERMINAL, Rollout, State
from tests.rollouts.seen import LADDER, START, after, baking, rollout, serving

SHADOW = preset("shadow")
EVERY: dict[State, Rollout] = {
    "pending": rollout(),
    "preflight": states.begin(rollout(), START),
    "shadow": serving(preset(shadow=True)),
    "canary": serving(),
    "promoting": states.promote(serving(), START),
    "baking": baking(),
    "paused": states.pause(serving(), START),
    "aborting": states.abort(serving(), START),
    "rolled_back": states.rolled_back(states.abort(serving(), START), 3, START),
    "succeeded": states.succeed(baking(), START),
    "superseded": states.supersede(serving(), START),
}


def test_every_state_has_an_example_here_and_its_place_in_the_table() -> None:
    assert set(EVERY) == set(LEGAL) == set(get_args(State))
    assert all(EVERY[state].state == state for state in EVERY)
    assert {state for state, following in LEGAL.items() if not following} == TERMINAL


def test_a_canary_walks_up_its_steps_and_is_promoted_baked_and_done() -> None:
    found = rollout(preset(steps=[5, 25, 100]))
    found = states.enter(states.begin(found, after(1)), after(2))
    walked = [(found.state, found.step)]
    found = states.moved(found, 2, after(3))
    found = states.moved(states.advance(found, after(4)), 3, after(5))
    walked.append((found.state, found.step))
    assert found.next_step is None
    found = states.moved(states.promote(found, after(6)), 4, after(7))
    found = states.bake(found, after(8))
    walked.append((found.state, found.step))
    found = states.succeed(found, after(9))
    assert walked == [("canary", 0), ("canary", 1), ("baking", 1)]
    assert (found.state, found.generation, found.started_at) == ("succeeded", 4, START)


def test_a_shadow_comes_first_and_a_rollout_without_steps_promotes_at_once() -> None:
    assert serving(preset(shadow=True)).state == "shadow"
    assert states.advance(serving(preset(shadow=True)), START).state == "canary"
    assert states.enter(states.begin(rollout(preset("blue-green")), START), START).state == "promoting"


def test_a_shadow_alone_succeeds_without_a_promotion() -> None:
    assert states.succeed(serving(SHADOW), START).state == "succeeded"
    with pytest.raises(WrongRolloutState, match="steps are not over"):
        states.succeed(serving(preset(shadow=True)), START)


@pytest.mark.parametrize("state", sorted(set(LEGAL) - TERMINAL))
def test_an_abort_wins_from_everywhere_and_ends_in_rolled_back(state: State) -> None:
    found = states.abort(EVERY[state], after(9))
    assert found.state == "aborting"
    assert states.abort(found, after(10)) == found
    for command in ("pause", "resume", "approve", "promote", "widen"):
        with pytest.raises(WrongRolloutState):
            states.command(found, command, after(10))
    with pytest.raises(WrongRolloutState):
        states.supersede(found, after(10))
    assert states.rolled_back(found, None, after(11)).state == "rolled_back"


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_has_ended_never_changes(state: State) -> None:
    for command in states.COMMANDS:
        with pytest.raises(WrongRolloutState) as refused:
            states.command(EVERY[state], command, after(1))
        assert status_of(refused.value) == 409
        assert refused.value.details["state"] == state
        assert refused.value.remedy
    for move in (states.begin, states.enter, states.advance, states.bake, states.succeed, states.supersede):
        with pytest.raises(WrongRolloutState):
            move(EVERY[state], after(1))


def test_a_pause_takes_no_time_and_goes_back_to_where_it_held() -> None:
    held = states.pause(serving(entered_at=after(0)), after(100))
    assert (held.state, held.phase, held.paused_because) == ("paused", "canary", "manual")
    back = states.resume(held, after(1100))
    assert (back.state, back.entered_at, back.generation) == ("canary", after(1000), 2)
    assert back.paused_because is back.paused_at is back.held_from is None


def test_what_is_paused_stays_paused_for_its_first_reason() -> None:
    held = states.pause(serving(), after(1), "inconclusive")
    assert states.pause(held, after(2)) == held


def test_resuming_waves_the_reason_through_until_the_next_step() -> None:
    back = states.resume(states.pause(serving(), after(1), "inconclusive"), after(2))
    assert back.overrides == ("inconclusive",)
    assert states.advance(back, after(3)).overrides == ()


def test_an_approval_can_be_given_before_it_is_asked_for_and_resuming_is_none() -> None:
    early = states.approve(serving(), after(1))
    assert (early.state, early.overrides) == ("canary", ("approval",))
    assert states.approve(early, after(2)) == early
    held = states.pause(serving(), after(1), "approval")
    with pytest.raises(WrongRolloutState, match="waits for an approval"):
        states.resume(held, after(2))
    assert states.approve(held, after(2)).overrides == ("approval",)
    manual = states.approve(states.pause(serving(), after(1)), after(2))
    assert (manual.state, manual.overrides) == ("paused", ("approval",))


def test_widening_takes_the_next_step_also_of_what_is_paused() -> None:
    wider = states.widen(states.pause(serving(), after(1), "inconclusive"), after(2))
    assert (wider.state, wider.step, wider.generation, wider.entered_at) == ("canary", 1, None, after(2))
    with pytest.raises(WrongRolloutState, match="no wider step"):
        states.widen(serving(step=3), after(1))
    with pytest.raises(WrongRolloutState, match="no wider step"):
        states.widen(states.pause(baking(), after(1)), after(2))


def test_a_promotion_skips_the_verdict_and_not_the_preflight() -> None:
    assert states.promote(states.pause(serving(), after(1)), after(2)).state == "promoting"
    for state in ("pending", "preflight", "promoting", "baking"):
        with pytest.raises(WrongRolloutState, match="cannot promote"):
            states.promote(EVERY[state], after(1))


def test_traffic_that_moved_is_said_once_and_baking_waits_for_it() -> None:
    fresh = states.enter(states.begin(rollout(), START), START)
    found = states.moved(fresh, 7, after(5))
    assert (found.generation, found.entered_at) == (7, after(5))
    assert states.moved(found, 8, after(9)) == found
    with pytest.raises(WrongRolloutState, match="has not moved yet"):
        states.bake(EVERY["promoting"], START)


def test_a_new_step_or_state_begins_with_a_clean_sheet() -> None:
    worn = serving(errors=2, no_data=3, inconclusive=4, overrides=("signal",))
    fresh = states.advance(worn, after(1))
    assert (fresh.errors, fresh.no_data, fresh.inconclusive, fresh.overrides) == (0, 0, 0, ())
    assert fresh.generation is None


def test_the_step_that_is_wanted_is_that_of_a_paused_rollout_too() -> None:
    held = states.pause(serving(step=1), after(1))
    assert held.present_step == LADDER.steps[1]
    assert baking().present_step is None
    one = RolloutSpec(steps=(Step(weight=5), Step(weight=100, minimum=0, events=0)))
    assert serving(one).next_step is None


@pytest.mark.parametrize("state", sorted(LEGAL))
def test_a_rollout_comes_back_from_where_it_was_stored(state: State) -> None:
    assert msgspec.json.decode(msgspec.json.encode(EVERY[state]), type=Rollout) == EVERY[state]
