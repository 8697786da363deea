"""Commands of rollouts that are sent twice, or that were decided on what is no more."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.errors import GenerationConflict, MalformedRequest, WrongRolloutState
from fairlead.rollouts.traffic import Order
from tests.rollouts.running import ANN, Shop

ONCE = Order(who="ann", key="once")


@pytest.mark.parametrize("name", ["pause", "widen", "promote", "abort", "approve"])
def test_a_command_sent_again_under_its_key_is_not_carried_out_again(shop: Shop, name: Any) -> None:
    rollout = shop.start().rollout
    first = shop.rollouts.command("shop", name, ONCE)
    again = shop.rollouts.command("shop", name, ONCE)
    assert (again.rollout, again.revision) == (first.rollout, first.revision)
    shop.first.look()
    later = shop.rollouts.command("shop", name, ONCE)
    assert later.rollout == shop.entry(rollout.id).rollout, "it answers how that rollout stands"


def test_an_abort_that_was_carried_out_is_answered_though_the_rollout_is_over(shop: Shop) -> None:
    rollout = shop.start().rollout
    shop.rollouts.command("shop", "abort", ONCE)
    shop.first.look()
    assert shop.rollouts.command("shop", "abort", ONCE).rollout.state == "rolled_back"
    another = shop.start("v3").rollout
    assert shop.rollouts.command("shop", "abort", ONCE).rollout.id == rollout.id
    assert shop.entry(another.id).rollout.state == "canary", "the key was of the one before"


def test_a_key_belongs_to_one_command(shop: Shop) -> None:
    shop.start()
    shop.rollouts.command("shop", "pause", ONCE)
    with pytest.raises(MalformedRequest, match="'once' was used for another command"):
        shop.rollouts.command("shop", "resume", ONCE)
    with pytest.raises(MalformedRequest):
        shop.traffic().rollback("shop", ONCE)


def test_a_command_that_was_refused_may_be_sent_again_under_its_key(shop: Shop) -> None:
    rollout = shop.start().rollout
    with pytest.raises(WrongRolloutState):
        shop.rollouts.command("shop", "resume", ONCE)
    shop.rollouts.command("shop", "pause", ANN)
    assert shop.rollouts.command("shop", "resume", ONCE).rollout.state == "canary"
    assert shop.entry(rollout.id).rollout.paused_because is None


@pytest.mark.parametrize("name", ["pause", "widen", "promote", "abort", "approve", "resume"])
def test_a_command_decided_on_another_generation_is_refused_and_changes_nothing(
    shop: Shop, name: Any
) -> None:
    rollout = shop.start().rollout
    before = shop.entry(rollout.id)
    with pytest.raises(GenerationConflict):
        shop.rollouts.command("shop", name, Order(who="ann", expected=1, key="k"))
    assert shop.entry(rollout.id) == before
    generation = rollout.generation
    assert generation == 2
    shop.rollouts.command("shop", "pause", Order(who="ann", expected=generation))
