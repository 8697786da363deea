"""Who gets which arm: holdout before rules before layer before slots, the same whoever asks."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import InvalidPlan
from fairlead.rollouts.moves import back, deploy, direct, hold_out, promote, rollback, start, target
from fairlead.routing.assign import slot_of
from fairlead.routing.plan import SLOTS, Arm, Holdout, Layer, Plan
from fairlead.routing.router import Router, assigned
from fairlead.routing.targeting import Rule

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "assignment.md").read_text("utf-8")
UNITS = [f"user-{number}" for number in range(20_000)]

# Chi-square quantiles at 0.9999, from tables. Units and salts are fixed, so a run that passes always does.
CHI_SQUARE = {1: 15.14, 4: 23.51}

PILOT = Rule(name="pilot", units=("user-1",), version="v3")
BETA = Rule(name="beta", header="x-group", one_of=("beta",), version="v2")
OLD = Rule(name="old", feature="age", at_least=65.0)

percents = st.integers(1, 4_999).map(lambda slots: slots / 100)


def first(salt: str = "salt", model: str = "shop") -> Plan:
    return start(model, "v1", salt, "r0")


def held(percent: float = 10.0, salt: str = "h") -> Holdout:
    return Holdout(percent=percent, salt=salt, since=1767225600.0)


def versions(plan: Plan, units: list[str] = UNITS) -> dict[str, str]:
    router = Router(plan)
    return {unit: router.assigned(unit, {}, dict).arm.version for unit in units}


def held_units(plan: Plan, units: list[str] = UNITS) -> set[str]:
    router = Router(plan)
    return {unit for unit in units if router.assigned(unit, {}, dict).how == "holdout"}


# --- the order of what decides ------------------------------------------------------------------------------


def test_the_first_rule_that_matches_decides_and_is_no_part_of_the_split() -> None:
    plan = target(deploy(first(), "v2", 5, "r1"), (PILOT, BETA, OLD))
    both = assigned(plan, "user-1", {"x-group": "beta"}, {"age": 70})
    assert (both.arm.name, both.arm.version, both.how) == ("rule:pilot", "v3", "rule")
    other = assigned(plan, "user-2", {"x-group": "beta"}, {"age": 70})
    assert (other.arm.name, other.arm.version, other.how) == ("rule:beta", "v2", "rule")
    old = assigned(plan, "user-2", {}, {"age": 70})
    assert (old.arm.name, old.arm.version, old.arm.role) == ("rule:old", "v1", "rule")
    rest = assigned(plan, "user-2", {}, {"age": 20})
    assert (rest.how, rest.arm.role in ("stable", "control", "canary")) == ("split", True)


def test_a_requests_features_are_read_once_however_many_rules_are_about_them() -> None:
    rules = [Rule(name=f"r{number}", feature="age", above=100.0 + number) for number in range(20)]
    router = Router(target(first(), [*rules, OLD]))
    asked = []

    def features() -> dict[str, tuple[float]]:
        asked.append("once")
        return {"age": (70.0,)}

    assert router.assigned("user-1", {}, features).arm.name == "rule:old"
    assert asked == ["once"]
    assert router.assigned("user-2", {}, lambda: {"age": (30.0,)}).how == "split"


def test_a_held_out_unit_gets_the_stable_version_whatever_the_rules_say() -> None:
    plan = hold_out(target(first(), (BETA,)), held(50))
    unit = min(held_units(plan))
    found = assigned(plan, unit, {"x-group": "beta"})
    assert (found.arm.name, found.arm.version, found.how) == ("holdout", "v1", "holdout")


def test_a_unit_outside_of_the_layer_gets_stable_and_a_rule_still_reaches_it() -> None:
    layer = Layer(name="checkout", salt="l", ranges=((0, 1), (9_999, SLOTS)))
    plan = target(deploy(first(), "v2", 50, "r1", layer=layer), (BETA,))
    unit = next(unit for unit in UNITS if 1 <= slot_of("l", unit) < 9_999)
    assert assigned(plan, unit)[1] == "layer"
    assert assigned(plan, unit).arm.role == "stable"
    assert assigned(plan, unit, {"x-group": "beta"}).how == "rule"
    inside = next(unit for unit in UNITS if slot_of("l", unit) in (0, 9_999))
    assert assigned(plan, inside).how == "split"


def test_a_plan_with_neither_is_plain_and_reads_nothing() -> None:
    router = Router(deploy(first(), "v2", 5, "r1"))
    assert router.plain
    assert (router.headers, router.features) == ((), frozenset())
    full = Router(target(first(), (PILOT, BETA, OLD)))
    assert not full.plain
    assert (full.headers, full.features) == (("x-group",), {"age"})


def test_the_published_examples_hold() -> None:
    plan = msgspec.json.decode(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1], type=_Example)
    made = hold_out(target(deploy(first("s1"), "v2", 50, "r1", layer=plan.layer), plan.rules), plan.holdout)
    rows = re.findall(r"\| `(\".*?\")` \| `(\{.*?\})` \| `(\{.*?\})` \| (\S+) \| (\S+) \|", PAGE)
    assert len(rows) >= 5
    for unit, headers, features, arm, how in rows:
        found = assigned(made, json.loads(unit), json.loads(headers), json.loads(features))
        assert (found.arm.name, found.how) == (arm, how), unit


class _Example(msgspec.Struct):
    holdout: Holdout
    rules: tuple[Rule, ...]
    layer: Layer


# --- the arms beside ----------------------------------------------------------------------------------------


def test_rules_and_a_holdout_have_arms_that_follow_the_stable_version() -> None:
    plan = hold_out(target(deploy(first(), "v2", 5, "r1"), (PILOT, OLD)), held())
    after = promote(plan)
    arms = {arm.name: arm.version for arm in after.arms}
    assert arms == {"stable": "v2", "rule:pilot": "v3", "rule:old": "v2", "holdout": "v2"}
    assert after.weights() == {"v2": 100}
    assert after.stages() == {"v2": "production", "v3": "canary"}


def test_taking_rules_and_holdout_away_leaves_the_plan_that_was_there() -> None:
    plan = deploy(first(), "v2", 5, "r1")
    after = hold_out(target(hold_out(target(plan, (PILOT, OLD)), held()), ()), None)
    assert msgspec.structs.replace(after, generation=plan.generation) == plan


def test_a_rollback_leaves_everybody_with_one_version() -> None:
    plan = target(deploy(first(), "v2", 5, "r1"), (PILOT, BETA, OLD))
    after = rollback(plan, "v0")
    assert {arm.version for arm in after.arms} == {"v1"}
    assert after.rules == (OLD,)


def test_a_rollback_ends_rules_before_it_touches_the_version_in_production() -> None:
    after = rollback(target(first(), (BETA,)), "v0")
    assert (after.stable(), after.rules) == ("v1", ())
    assert rollback(after, "v0").stable() == "v0"


def test_a_candidate_that_failed_is_served_by_no_rule_and_others_stay() -> None:
    after = back(target(deploy(first(), "v2", 5, "r1"), (PILOT, BETA, OLD)), "v1", "v2")
    assert [rule.name for rule in after.rules] == ["pilot", "old"]


def test_a_plan_of_before_is_read_as_one_without_rules() -> None:
    plan = deploy(first(), "v2", 5, "r1")
    fields = {"rules", "holdout", "layer"}
    old = {name: value for name, value in msgspec.to_builtins(plan).items() if name not in fields}
    assert msgspec.json.decode(msgspec.json.encode(old), type=Plan).verify() == plan


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.0, float("nan")])
def test_a_holdout_is_a_part_of_the_units(percent: float) -> None:
    with pytest.raises(InvalidPlan, match="holdout"):
        hold_out(first(), held(percent))


def test_a_plan_whose_arms_beside_are_not_those_of_its_rules_is_none() -> None:
    plan = target(first(), (PILOT,))
    with pytest.raises(InvalidPlan, match="beside the split"):
        msgspec.structs.replace(plan, rules=()).verify()
    with pytest.raises(InvalidPlan, match="owns no slots"):
        msgspec.structs.replace(plan, slots=bytes(SLOTS - 1) + b"\x01").verify()
    pin = (*plan.arms, Arm(name="pin", version="v1", role="pin"))
    with pytest.raises(InvalidPlan, match="pins nothing"):
        msgspec.structs.replace(plan, arms=pin).verify()
    for ranges in ((5, 5),), ((5, 9), (8, 10)), ((0, SLOTS + 1),):
        with pytest.raises(InvalidPlan, match="ranges"):
            msgspec.structs.replace(plan, layer=Layer(name="l", salt="l", ranges=ranges)).verify()


# --- laws ---------------------------------------------------------------------------------------------------


@given(percents, percents, percents)
@settings(deadline=None, max_examples=40)
def test_a_change_of_weights_moves_only_those_within_the_split(hold: float, old: float, new: float) -> None:
    units = UNITS[:300]
    layer = Layer(name="l", salt="l", ranges=((0, 4_000), (6_000, 8_000)))
    before = hold_out(target(deploy(first(), "v2", old, "r1", layer=layer), (PILOT,)), held(hold))
    after = deploy(before, "v2", new, "r1", layer=layer)
    was, now = Router(before), Router(after)
    for unit in units:
        one, two = was.assigned(unit, {}, dict), now.assigned(unit, {}, dict)
        if one.how != "split":
            assert (one.arm.name, one.how) == (two.arm.name, two.how)
        elif new >= old and one.arm.role in ("canary", "control"):
            assert one.arm.name == two.arm.name


@given(percents, percents)
@settings(deadline=None, max_examples=40)
def test_a_held_out_unit_never_gets_a_candidate_and_a_wider_holdout_keeps_its_units(
    hold: float, weight: float
) -> None:
    units = UNITS[:300]
    narrow = hold_out(first(), held(hold))
    out = held_units(narrow, units)
    plan = narrow
    for step in (weight, min(100.0, 2 * weight), 50.0):
        plan = deploy(plan, "v2", step, "r1")
        assert set(versions(plan, sorted(out)).values()) <= {"v1"}
    wider = hold_out(plan, held(min(99.0, 1.5 * hold)))
    assert out <= held_units(wider, units)
    assert set(versions(direct(plan, "v2"), sorted(out)).values()) <= {"v2"}


def test_two_models_with_holdouts_are_independent_and_so_are_holdout_and_split() -> None:
    one = hold_out(deploy(first("a"), "v2", 20, "r1"), held(20, "h1"))
    two = hold_out(deploy(first("b"), "v2", 20, "r1"), held(20, "h2"))
    left, right = Router(one), Router(two)

    def role(router: Router, unit: str) -> str:
        found = router.assigned(unit, {}, dict)
        return found.arm.role if found.arm.role in ("holdout", "canary") else "rest"

    counts = Counter((role(left, unit), role(right, unit)) for unit in UNITS)
    share = {"holdout": 0.2, "canary": 0.16, "rest": 0.64}
    total = 0.0
    for a, p in share.items():
        row = sum(counts[a, b] for b in share)
        for b in share:
            column = sum(counts[c, b] for c in share)
            expected = row * column / len(UNITS)
            total += (counts[a, b] - expected) ** 2 / expected
        assert row == pytest.approx(p * len(UNITS), rel=0.05)
    assert total < CHI_SQUARE[4]


def test_a_layer_is_no_part_of_the_split() -> None:
    layer = Layer(name="l", salt="l", ranges=((0, 5_000),))
    router = Router(deploy(first(), "v2", 50, "r1", layer=layer))
    found = [router.assigned(unit, {}, dict) for unit in UNITS]
    inside = [one for one in found if one.how == "split"]
    canary = sum(one.arm.role == "canary" for one in inside)
    expected = len(inside) / 2
    assert (canary - expected) ** 2 / (expected / 2) < CHI_SQUARE[1]
    assert len(inside) == pytest.approx(len(UNITS) / 2, rel=0.05)
