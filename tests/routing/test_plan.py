"""A plan's arithmetic, its stages, and what makes no plan."""

from __future__ import annotations

import msgspec
import pytest

from fairlead.errors import InvalidPlan
from fairlead.routing.plan import SLOTS, Arm, Plan, Role


def plan_of(*arms: tuple[str, str, Role, int]) -> Plan:
    """A plan from (name, version, role, slots) in order."""
    return Plan(
        model="shop",
        generation=1,
        salt="s",
        arms=tuple(
            Arm(name=name, version=version, role=role, mirror=100.0 if role == "shadow" else 0.0)
            for name, version, role, _ in arms
        ),
        slots=b"".join(bytes([index]) * arm[3] for index, arm in enumerate(arms)),
        rollout="r",
    )


CANARY = plan_of(
    ("stable", "v1", "stable", 9000), ("control", "v1", "control", 500), ("canary", "v2", "canary", 500)
)


def mirroring(arm: str, percent: float) -> Plan:
    """A plan with a shadow, in which that arm mirrors so many percent."""
    plan = plan_of(("stable", "v1", "stable", SLOTS), ("shadow", "v2", "shadow", 0))
    arms = tuple(
        msgspec.structs.replace(held, mirror=percent) if held.name == arm else held for held in plan.arms
    )
    return msgspec.structs.replace(plan, arms=arms)


def test_a_mirror_has_its_percent_of_the_slots_and_at_least_one() -> None:
    found = [mirroring("shadow", percent).verify().arms[1].mirror_slots for percent in (100, 12.34, 0.001)]
    assert found == [SLOTS, 1234, 1]
    assert CANARY.arms[0].mirror_slots == 0


def test_a_plan_that_was_stored_before_there_were_mirrors_still_decodes() -> None:
    arms = [{"name": arm.name, "version": arm.version, "role": arm.role} for arm in CANARY.arms]
    stored = msgspec.json.encode({**msgspec.to_builtins(CANARY), "arms": arms})
    assert msgspec.json.decode(stored, type=Plan) == CANARY


def test_shares_are_per_arm_and_weights_per_version() -> None:
    assert CANARY.verify().shares() == {"stable": 0.9, "control": 0.05, "canary": 0.05}
    assert CANARY.weights() == {"v1": 95.0, "v2": 5.0}
    assert CANARY.stable() == "v1"


def test_the_more_exposed_stage_of_a_version_counts() -> None:
    plan = plan_of(
        ("stable", "v1", "stable", SLOTS),
        ("canary", "v2", "canary", 0),
        ("s1", "v2", "shadow", 0),
        ("s2", "v3", "shadow", 0),
    )
    assert plan.verify().stages() == {"v1": "production", "v2": "canary", "v3": "shadow"}


def test_a_shadow_has_no_weight() -> None:
    plan = plan_of(("stable", "v1", "stable", SLOTS), ("shadow", "v2", "shadow", 0))
    assert plan.verify().weights() == {"v1": 100.0}


def test_two_arms_may_hold_the_same_version() -> None:
    assert plan_of(("stable", "v1", "stable", 5000), ("b", "v1", "variant", 5000)).verify().weights() == {
        "v1": 100.0
    }


@pytest.mark.parametrize(
    ("plan", "rule"),
    [
        (plan_of(("stable", "v1", "stable", SLOTS - 1)), "10000 slots, not 9999"),
        (plan_of(), "10000 slots, not 0"),
        (msgspec.structs.replace(CANARY, slots=bytes([3]) * SLOTS), "arm that the plan does not have"),
        (plan_of(("a", "v1", "stable", 5000), ("a", "v2", "canary", 5000)), "same name"),
        (plan_of(("a", "v1", "variant", SLOTS)), "exactly one stable arm"),
        (plan_of(("a", "v1", "stable", 5000), ("b", "v2", "stable", 5000)), "exactly one stable arm"),
        (plan_of(("a", "v1", "stable", 9999), ("b", "v2", "shadow", 1)), "owns no slots"),
        (mirroring("stable", 10), "'stable' answers"),
        (mirroring("shadow", 0), "copies of 0 %"),
        (mirroring("shadow", 100.5), "copies of 100.5 %"),
        (mirroring("shadow", -1), "copies of -1 %"),
        (mirroring("shadow", float("nan")), "copies of nan %"),
    ],
)
def test_what_makes_no_plan_is_refused_with_the_rule(plan: Plan, rule: str) -> None:
    with pytest.raises(InvalidPlan, match=rule):
        plan.verify()


def test_a_plan_without_a_stable_arm_has_no_stable_version() -> None:
    with pytest.raises(InvalidPlan, match="no stable arm"):
        plan_of(("a", "v1", "variant", SLOTS)).stable()


def test_a_plan_survives_the_way_through_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(CANARY), type=Plan) == CANARY
