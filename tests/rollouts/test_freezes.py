"""Freeze windows: no version gets more traffic in them, what goes back always may, and what waits goes on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import FreezeNotFound, Frozen, InvalidFreeze, ModelNotFound
from fairlead.registry import audit
from fairlead.rollouts import freezes
from fairlead.rollouts.freezes import Freeze
from fairlead.rollouts.reading import preset
from fairlead.rollouts.traffic import Order
from tests.rollouts.running import ANN, STEPS, Shop
from tests.rollouts.seen import START
from tests.rollouts.shop import register

HURRY = Order(who="bob", override="the old one charges twice")
DAY = timedelta(days=1)


def frozen(shop: Shop, model: str | None = "shop", *, days: float = 1.0, **more: Any) -> Freeze:
    """A window that holds now; by the true clock, too, by which commands of traffic go."""
    now = datetime.now(START.tzinfo)
    begins = min(shop.now, now) - timedelta(hours=1)
    told = {"reason": "Black Friday", "weekly": False, "who": "ann", **more}
    with shop.database.write() as connection:
        return freezes.add(
            connection,
            model=model,
            starts_at=begins,
            ends_at=max(shop.now, now) + days * DAY,
            now=shop.now,
            **told,
        )


def thaw(shop: Shop, window: Freeze) -> None:
    with shop.database.write() as connection:
        freezes.end(connection, window.id, who="ann", why="over", now=shop.now)


@pytest.mark.parametrize("model", [None, "shop"])
def test_nothing_starts_deploys_or_splits_in_a_window_and_the_refusal_says_why(
    shop: Shop, model: str | None
) -> None:
    frozen(shop, model)
    for command in (
        lambda: shop.rollouts.start("shop", "v2", STEPS, ANN),
        lambda: shop.rollouts.start("shop", "v2", preset("direct"), ANN),
        lambda: shop.traffic().deploy("shop", "v2", ANN, strategy="direct"),
        lambda: shop.traffic().deploy("shop", "v2", ANN, weight=10),
        lambda: shop.traffic().set_weights("shop", {"v1": 90, "v2": 10}, ANN),
    ):
        with pytest.raises(Frozen, match=r"frozen until .* by ann: Black Friday.*--override"):
            command()
    assert shop.weights() == {"v1": 100.0}


def test_a_window_of_another_model_or_another_time_hinders_nothing(shop: Shop) -> None:
    register(shop.registry, shop.registry.blobs, "v1", model="other")
    frozen(shop, "other")
    with shop.database.write() as connection:
        freezes.add(
            connection,
            model="shop",
            starts_at=shop.now + 400 * DAY,
            ends_at=shop.now + 401 * DAY,
            weekly=False,
            reason="next year",
            who="ann",
            now=shop.now,
        )
    assert shop.start().rollout.state == "canary"


def test_a_models_first_version_serves_nobody_else_instead_and_may_come(shop: Shop) -> None:
    register(shop.registry, shop.registry.blobs, "v1", model="new")
    frozen(shop, None)
    shop.traffic().deploy("new", "v1", ANN, strategy="direct")


def test_what_goes_back_or_waits_is_never_hindered(shop: Shop) -> None:
    rollout = shop.start().rollout
    frozen(shop)
    assert shop.rollouts.command("shop", "pause", ANN).rollout.state == "paused"
    assert shop.rollouts.command("shop", "resume", ANN).rollout.state == "canary"
    shop.rollouts.command("shop", "abort", ANN)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    shop.traffic().deploy("shop", "v2", HURRY, strategy="direct")
    shop.traffic().rollback("shop", ANN)
    assert shop.weights() == {"v1": 100.0}


def test_a_split_may_shrink_and_end_in_a_window_but_not_grow(shop: Shop) -> None:
    shop.traffic().set_weights("shop", {"v1": 80, "v2": 20}, ANN)
    frozen(shop)
    shop.traffic().set_weights("shop", {"v1": 90, "v2": 10}, ANN)
    with pytest.raises(Frozen):
        shop.traffic().set_weights("shop", {"v1": 89, "v2": 11}, ANN)
    with pytest.raises(Frozen):
        shop.traffic().promote("shop", ANN)
    shop.traffic().set_weights("shop", {"v1": 100}, ANN)
    assert shop.weights() == {"v1": 100.0}


def test_a_rollout_under_way_holds_at_its_step_and_goes_on_after(shop: Shop) -> None:
    rollout = shop.start().rollout
    window = frozen(shop)
    for name in ("widen", "promote"):
        with pytest.raises(Frozen):
            shop.rollouts.command("shop", name, ANN)  # type: ignore[arg-type]
    shop.serve(4_000)
    shop.first.look()
    held = shop.rollouts.get("shop", None)
    assert (held.entry.rollout.state, held.entry.rollout.step) == ("canary", 0)
    assert held.held is not None
    assert "Black Friday" in held.held
    thaw(shop, window)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.step == 1
    assert shop.rollouts.get("shop", None).held is None


def test_a_candidate_that_fails_in_a_window_is_rolled_back_all_the_same(shop: Shop) -> None:
    rollout = shop.start().rollout
    frozen(shop)
    shop.serve(400, canary_errors=100)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"


def test_a_bake_ends_in_a_window_since_nothing_moves(shop: Shop) -> None:
    rollout = shop.start(spec=preset("blue-green", bake=60)).rollout
    frozen(shop)
    shop.serve(1_000, seconds=61)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "succeeded"


def test_a_rollout_that_was_to_begin_waits_for_the_end_of_the_window(shop: Shop) -> None:
    begun = shop.rollouts.start("shop", "v2", STEPS, ANN).rollout
    window = frozen(shop)
    shop.first.look()
    assert shop.entry(begun.id).rollout.state == "pending"
    thaw(shop, window)
    shop.first.look()
    assert shop.entry(begun.id).rollout.state == "canary"


def test_an_override_with_a_reason_lets_a_rollout_go_all_the_way_and_is_audited(shop: Shop) -> None:
    frozen(shop)
    rollout = shop.rollouts.start("shop", "v2", STEPS, HURRY).rollout
    shop.first.look()
    shop.serve(4_000)
    shop.first.look()
    found = shop.entry(rollout.id).rollout
    assert (found.unfrozen, found.step, shop.weights()) == (True, 1, {"v1": 50.0, "v2": 50.0})
    with shop.database.read() as connection:
        entry = next(one for one in audit.entries(connection, "shop", 50) if one.action == "override")
    assert (entry.who, entry.why, entry.details["command"]) == ("bob", HURRY.override, "rollout")
    assert "Black Friday" in entry.details["freeze"]


def test_a_rollout_that_is_widened_past_a_window_is_not_held_by_it_any_more(shop: Shop) -> None:
    rollout = shop.start().rollout
    frozen(shop)
    shop.rollouts.command("shop", "widen", HURRY)
    shop.first.look()
    shop.serve(4_000)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "baking"


def test_an_override_where_nothing_is_frozen_changes_nothing(shop: Shop) -> None:
    rollout = shop.rollouts.start("shop", "v2", STEPS, HURRY).rollout
    assert not rollout.unfrozen


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"reason": "  "}, "no reason"),
        ({"ends_at": START}, "ends before it begins"),
        ({"starts_at": START - 3 * DAY, "ends_at": START - DAY}, "over already"),
        ({"weekly": True, "ends_at": START + 7 * DAY}, "a week or longer"),
    ],
)
def test_a_window_that_could_not_be_meant_is_refused(shop: Shop, more: dict[str, Any], words: str) -> None:
    told: dict[str, Any] = {"starts_at": START, "ends_at": START + DAY, "reason": "sale", "weekly": False}
    with shop.database.write() as connection:
        with pytest.raises(InvalidFreeze, match=words):
            freezes.add(connection, model=None, who="ann", now=START, **(told | more))
        with pytest.raises(ModelNotFound, match="shoop"):
            freezes.add(connection, model="shoop", who="ann", now=START, **told)
        with pytest.raises(FreezeNotFound, match="nope"):
            freezes.end(connection, "nope", who="ann", why="", now=START)


def test_windows_are_listed_until_they_are_over_and_ending_one_twice_is_once(shop: Shop) -> None:
    window = frozen(shop, None)
    with shop.database.write() as connection:
        assert freezes.every(connection, "shop", shop.now) == [window]
        ended = freezes.end(connection, window.id, who="bob", why="", now=shop.now)
        assert freezes.end(connection, window.id, who="eve", why="", now=shop.now + DAY) == ended
        assert ended.ended_by == "bob"
        assert freezes.every(connection, None, shop.now) == []
        assert freezes.every(connection, None, shop.now, over=True) == [ended]
        assert freezes.in_force(connection, "shop", shop.now) is None


spans = st.floats(0.01, 6.9).map(lambda days: days * DAY)


def window(length: timedelta, *, weekly: bool) -> Freeze:
    return Freeze(
        id="f", model=None, starts_at=START, ends_at=START + length, weekly=weekly, reason="r", who="ann",
        created_at=START,
    )  # fmt: skip


@given(spans, st.floats(-3, 30).map(lambda days: days * DAY))
def test_a_window_holds_from_its_start_until_before_its_end_and_a_weekly_one_every_week(
    length: timedelta, since: timedelta
) -> None:
    now = START + since
    once, weekly = window(length, weekly=False).until(now), window(length, weekly=True).until(now)
    assert (once is not None) == (timedelta(0) <= since < length)
    assert once in (None, START + length)
    if since < timedelta(0):
        assert weekly is None
    else:
        assert weekly == window(length, weekly=True).until(now + 7 * DAY) or weekly is not None
        assert (weekly is not None) == (since % (7 * DAY) < length)
    if weekly is not None:
        assert timedelta(0) < weekly - now <= length
