"""Rules, holdouts and layers by command, alone and under a rollout, on real databases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import GateClosed, InvalidPlan, InvalidRollout, RolloutInProgress, VersionNotFound
from fairlead.rollouts import layers, ledger
from fairlead.rollouts.beside import hold_out, set_rules
from fairlead.rollouts.layers import free_ranges
from fairlead.rollouts.reading import read_spec
from fairlead.rollouts.spec import RolloutSpec
from fairlead.rollouts.traffic import Order
from fairlead.routing import plans
from fairlead.routing.plan import SLOTS, Plan
from fairlead.routing.router import Router
from fairlead.routing.targeting import Rule
from fairlead.stores.blobs import Blobs
from fairlead.stores.database import Database
from tests.rollouts.fakes import FakeFleet
from tests.rollouts.shop import register
from tests.rollouts.test_controller import STEPS, Shop

ANN = Order(who="ann")
BETA = Rule(name="beta", header="X-Group", one_of=("beta",), version="v2")
OLD = Rule(name="old", feature="age", at_least=65.0)
UNITS = [f"user-{number}" for number in range(4_000)]


@pytest.fixture
def shop(database: Database, blobs: Blobs, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(database, blobs, tmp_path)
    register(made.registry, blobs, "v1", "v2", model="books")
    register(made.registry, blobs, "v1", "v2", model="toys")
    with FakeFleet(database, "g0").running():
        for model in ("shop", "books", "toys"):
            made.traffic().deploy(model, "v1", ANN, strategy="direct")
        yield made


def plan_of(shop: Shop, model: str = "shop") -> Plan:
    with shop.database.read() as connection:
        plan = plans.active(connection, model)
    assert plan is not None
    return plan


def events(shop: Shop, identifier: str) -> list[Any]:
    with shop.database.read() as connection:
        return ledger.events(connection, identifier)


def hold(shop: Shop, percent: float, **more: Any) -> Any:
    return hold_out(shop.traffic(), "shop", percent, ANN, now=shop.now, **{"until": None, **more})


def layered(percent: float, weight: float = 50) -> RolloutSpec:
    steps = [{"weight": weight, "minimum": "1m", "events": 300}, {"weight": 100}]
    return read_spec({"steps": steps, "layer": "home", "traffic": percent})


def candidates(shop: Shop, model: str) -> set[str]:
    """The units that are in the model's experiment."""
    router = Router(plan_of(shop, model))
    return {unit for unit in UNITS if router.assigned(unit, {}, dict).how == "split"}


# --- rules --------------------------------------------------------------------------------------------------


def test_rules_are_a_generation_of_their_own_and_audited(shop: Shop) -> None:
    done = set_rules(shop.traffic(), "shop", [BETA, OLD], ANN)
    assert (done.generation, done.weights) == (2, {"v1": 100})
    plan = plan_of(shop)
    assert {arm.name: arm.version for arm in plan.arms} == {
        "stable": "v1",
        "rule:beta": "v2",
        "rule:old": "v1",
    }
    entry = shop.registry.audit("shop")[0]
    assert (entry.action, entry.who) == ("targeting", "ann")
    assert entry.details["rules"][0] == {"name": "beta", "version": "v2"}
    assert set_rules(shop.traffic(), "shop", [], ANN).generation == 3
    assert [arm.name for arm in plan_of(shop).arms] == ["stable"]


def test_a_rule_may_name_an_alias_and_no_version_that_is_not_there(shop: Shop) -> None:
    shop.registry.set_alias("shop", "next", "v3", who="ann")
    rule = Rule(name="r", units=("u",), version="next")
    set_rules(shop.traffic(), "shop", [rule], ANN)
    assert plan_of(shop).rules[0].version == "v3"
    for wrong, error in (("v9", VersionNotFound), ("", VersionNotFound)):
        with pytest.raises(error):
            set_rules(shop.traffic(), "shop", [Rule(name="r", units=("u",), version=wrong)], ANN)
    assert plan_of(shop).generation == 2


def test_an_archived_version_is_served_by_no_rule(shop: Shop) -> None:
    shop.registry.archive("shop", "v2", who="ann")
    with pytest.raises(InvalidPlan, match="Version 'v2' of 'shop' is archived"):
        set_rules(shop.traffic(), "shop", [BETA], ANN)
    assert plan_of(shop).rules == ()


def test_a_version_without_a_passed_gate_is_served_by_no_rule_unless_somebody_says_why(shop: Shop) -> None:
    shop.registry.configure("shop", None, {"gate_required": True}, who="ann")
    with pytest.raises(GateClosed, match="v2"):
        set_rules(shop.traffic(), "shop", [BETA], ANN)
    assert plan_of(shop).rules == ()
    set_rules(shop.traffic(), "shop", [OLD], ANN)
    set_rules(shop.traffic(), "shop", [BETA], Order(who="ann", override="only staff see it"))
    assert [rule.name for rule in plan_of(shop).rules] == ["beta"]


def test_a_version_that_no_gateway_can_load_is_served_by_no_rule(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    shop = Shop(database, blobs, tmp_path)
    fleet = FakeFleet(database, "g0")
    fleet.cannot_load["v2"] = "out of memory"
    with fleet.running():
        shop.traffic().deploy("shop", "v1", ANN, strategy="direct")
        with pytest.raises(Exception, match="out of memory"):
            set_rules(shop.traffic(), "shop", [BETA], ANN)
    assert plan_of(shop).rules == ()


def test_a_rule_under_a_rollout_begins_a_new_phase_of_its_step(shop: Shop) -> None:
    rollout = shop.start().rollout
    shop.serve(4_000, canary_errors=0, seconds=30)
    with pytest.raises(RolloutInProgress):
        shop.traffic().set_weights("shop", {"v1": 50, "v2": 50}, ANN)
    set_rules(shop.traffic(), "shop", [OLD], ANN)
    shop.now += timedelta(seconds=40)
    shop.first.look()
    found = shop.entry(rollout.id).rollout
    assert (found.state, found.step, found.generation) == ("canary", 0, 3)
    assert found.entered_at == shop.now
    assert "new phase" in events(shop, rollout.id)[-1].reason
    shop.now += timedelta(seconds=61)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.step == 0, "what was counted before the phase is not counted again"
    shop.serve(4_000)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.step == 1
    assert plan_of(shop).rules == (OLD,)


def test_a_paused_rollout_stays_paused_in_its_new_phase(shop: Shop) -> None:
    rollout = shop.start().rollout
    shop.rollouts.command("shop", "pause", ANN)
    set_rules(shop.traffic(), "shop", [OLD], ANN)
    shop.first.look()
    found = shop.entry(rollout.id).rollout
    assert (found.state, found.phase, found.generation) == ("paused", "canary", 3)
    shop.rollouts.command("shop", "resume", ANN)
    shop.serve(4_000)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.step == 1


def test_a_candidate_that_is_rolled_back_is_served_by_no_rule_either(shop: Shop) -> None:
    set_rules(shop.traffic(), "shop", [BETA, OLD], ANN)
    rollout = shop.start().rollout
    shop.serve(400, canary_errors=40, seconds=5)
    shop.first.look()
    assert shop.entry(rollout.id).rollout.state == "rolled_back"
    assert {arm.version for arm in plan_of(shop).arms} == {"v1"}


# --- holdouts -----------------------------------------------------------------------------------------------


def test_a_holdout_outlives_rollouts_and_ends_by_itself(shop: Shop) -> None:
    hold(shop, 10, until=shop.now + timedelta(hours=1))
    shop.start()
    for _ in range(2):
        shop.serve(4_000)
        shop.first.look()
    held = plan_of(shop).holdout
    assert held is not None
    assert (held.percent, shop.weights()) == (10, {"v2": 100.0})
    hold(shop, 20, until=shop.now + timedelta(hours=1))
    wider = plan_of(shop).holdout
    assert wider is not None
    assert (wider.salt, wider.since, wider.percent) == (held.salt, held.since, 20)
    shop.now += timedelta(hours=2)
    shop.first.look()
    assert plan_of(shop).holdout is None
    generation = plan_of(shop).generation
    shop.first.look()
    assert plan_of(shop).generation == generation


def test_a_holdout_that_makes_no_sense_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidPlan, match="nobody"):
        hold(shop, 0)
    with pytest.raises(InvalidPlan, match="at once"):
        hold(shop, 5, until=shop.now)
    with pytest.raises(InvalidPlan, match="has no end"):
        hold(shop, 0, until=shop.now + timedelta(1))
    hold(shop, 5)
    hold(shop, 0)
    assert plan_of(shop).holdout is None


# --- layers -------------------------------------------------------------------------------------------------


def test_two_rollouts_of_a_layer_share_no_unit_and_a_third_finds_no_room(shop: Shop) -> None:
    shop.start(spec=layered(60))
    with pytest.raises(InvalidRollout, match="room for 40 % of the units, and 41 %"):
        shop.rollouts.start("books", "v2", layered(41), ANN)
    shop.rollouts.start("books", "v2", layered(40), ANN)
    with pytest.raises(InvalidRollout, match="the rest is with books, shop"):
        shop.rollouts.start("toys", "v2", layered(1), ANN)
    shop.first.look()
    one, two = candidates(shop, "shop"), candidates(shop, "books")
    assert one
    assert two
    assert one & two == set()
    assert one | two == set(UNITS)
    with shop.database.read() as connection:
        (layer,) = layers.listed(connection, datetime.now(UTC))
    assert (layer.free, [share.percent for share in layer.shares]) == (0, [60, 40])


@pytest.mark.parametrize("end", ["abort", "supersede", "rollback", "promote"])
def test_the_part_of_a_layer_is_given_back_when_its_rollout_ends(shop: Shop, end: str) -> None:
    shop.start(spec=layered(80))
    if end == "abort":
        shop.rollouts.command("shop", "abort", ANN)
    elif end == "supersede":
        shop.start("v3", STEPS, supersede=True)
    elif end == "rollback":
        shop.traffic().rollback("shop", ANN)
    else:
        shop.rollouts.command("shop", "promote", ANN)
    shop.first.look()
    if end == "promote":
        shop.serve(1_000, seconds=601)
        shop.first.look()
    with shop.database.read() as connection:
        assert [(layer.name, layer.free) for layer in layers.listed(connection, datetime.now(UTC))] == [
            ("home", 100)
        ]
    assert plan_of(shop).layer is None
    shop.rollouts.start("books", "v2", layered(100), ANN)


def test_within_its_layer_a_canary_grows_without_losing_anybody(shop: Shop) -> None:
    steps = [{"weight": weight, "minimum": "1m", "events": 300} for weight in (10, 50)]
    spec = read_spec({"steps": steps, "layer": "home", "traffic": 50})
    shop.start(spec=spec)
    before = Router(plan_of(shop))
    shop.serve(4_000)
    shop.first.look()
    after = Router(plan_of(shop))
    for unit in UNITS:
        one, two = (router.assigned(unit, {}, dict).arm.role for router in (before, after))
        if one in ("canary", "control"):
            assert one == two


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer": "Home"}, "called"),
        ({"traffic": 30}, "no layer"),
        ({"layer": "home", "traffic": 0}, "0 %"),
        ({"layer": "home", "traffic": 101}, "101 %"),
        ({"layer": "home", "strategy": "blue-green", "steps": []}, "splits nothing"),
    ],
)
def test_a_layer_that_keeps_nothing_apart_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRollout, match=says):
        read_spec({"steps": [{"weight": 5}], **changes})


@given(
    st.lists(st.tuples(st.integers(1, 4_000), st.integers(0, SLOTS - 1)), min_size=1, max_size=6),
)
def test_parts_of_a_layer_never_overlap_and_nothing_is_lost_to_gaps(wanted: list[tuple[int, int]]) -> None:
    taken: list[tuple[int, int]] = []
    for count, begin in wanted:
        left = SLOTS - sum(stop - start for start, stop in taken)
        found = free_ranges(taken, count, begin)
        assert (found is None) == (left < count)
        if found is not None:
            assert sum(stop - start for start, stop in found) == count
            slots = [slot for start, stop in (*taken, *found) for slot in range(start, stop)]
            assert len(slots) == len(set(slots))
            taken += found
