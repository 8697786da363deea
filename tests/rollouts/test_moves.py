"""The laws of a change of traffic: exact shares, nobody moved without need, refusals that say why."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import InvalidPlan, NothingToRollBack, RolloutInProgress
from fairlead.rollouts.moves import (
    blue_green,
    deploy,
    direct,
    is_split,
    promote,
    rollback,
    set_weights,
    shadow,
    start,
)
from fairlead.routing.plan import SLOTS, Arm, Plan

VERSIONS = ("v1", "v2", "v3", "v4", "stable", "canary", "control", "variant-canary")

percents = st.integers(1, SLOTS).map(lambda slots: slots / 100)
seeds = st.text(max_size=8)


def first(version: str = "v1") -> Plan:
    return start("shop", version, "salt", "r0")


def owners(plan: Plan) -> list[str]:
    return [plan.arms[index].name for index in plan.slots]


def served(plan: Plan) -> list[str]:
    return [plan.arms[index].version for index in plan.slots]


def slots_of(plan: Plan, arm: str) -> set[int]:
    return {slot for slot, name in enumerate(owners(plan)) if name == arm}


def moved(before: Plan, after: Plan) -> int:
    return sum(a != b for a, b in zip(served(before), served(after), strict=True))


def fewest(before: Plan, after: Plan) -> int:
    """The total variation distance between two plans' versions, in slots."""
    old, new = Counter(served(before)), Counter(served(after))
    return sum(max(0, new[version] - old[version]) for version in new)


@st.composite
def splits(draw: st.DrawFn, versions: tuple[str, ...] = VERSIONS) -> dict[str, float]:
    """Weights in hundredths of a percent that add up to 100, at least one slot each."""
    named = draw(st.lists(st.sampled_from(versions), min_size=1, max_size=5, unique=True))
    cuts = draw(
        st.lists(st.integers(1, SLOTS - 1), min_size=len(named) - 1, max_size=len(named) - 1, unique=True)
    )
    edges = [0, *sorted(cuts), SLOTS]
    return {
        version: (high - low) / 100 for version, low, high in zip(named, edges[:-1], edges[1:], strict=True)
    }


def counts_of(weights: dict[str, float]) -> dict[str, int]:
    return {version: round(weight * 100) for version, weight in weights.items()}


# --- the first version, and a canary ------------------------------------------------------------------------


def test_the_first_version_gets_everyone() -> None:
    plan = first()
    assert plan.shares() == {"stable": 1.0}
    assert plan.stages() == {"v1": "production"}
    assert plan.generation == 1


@given(percents, seeds)
@settings(max_examples=25, deadline=None)
def test_a_canary_and_its_control_have_the_same_size_and_share_nobody(weight: float, rollout: str) -> None:
    plan = deploy(first(), "v2", weight, rollout)
    canary, control, rest = (slots_of(plan, name) for name in ("canary", "control", "stable"))
    assert len(canary) == round(weight * 100)
    assert len(control) == min(len(canary), SLOTS - len(canary))
    assert len(canary) + len(control) + len(rest) == SLOTS
    assert not canary & control
    assert plan.weights()["v2"] == pytest.approx(weight)
    assert sum(plan.shares().values()) == pytest.approx(1)


@given(st.lists(percents, min_size=2, max_size=5), seeds)
@settings(max_examples=25, deadline=None)
def test_widening_a_canary_takes_nobody_out_of_it(weights: list[float], rollout: str) -> None:
    plan = first()
    inside: set[int] = set()
    for weight in sorted(weights):
        plan = deploy(plan, "v2", weight, rollout)
        canary = slots_of(plan, "canary")
        assert inside <= canary
        inside = canary


@given(percents, percents, seeds)
@settings(max_examples=25, deadline=None)
def test_canary_and_control_grow_together_out_of_the_rest(small: float, large: float, rollout: str) -> None:
    small, large = sorted((small / 2, large / 2))
    before = deploy(first(), "v2", max(small, 0.01), rollout)
    after = deploy(before, "v2", max(large, 0.01), rollout)
    assert slots_of(before, "canary") <= slots_of(after, "canary")
    assert slots_of(before, "control") <= slots_of(after, "control")


@given(percents, percents, seeds)
@settings(max_examples=25, deadline=None)
def test_shrinking_a_canary_undoes_growing_it(small: float, large: float, rollout: str) -> None:
    small, large = sorted((max(0.01, small / 2), max(0.01, large / 2)))
    before = deploy(first(), "v2", small, rollout)
    again = deploy(deploy(before, "v2", large, rollout), "v2", small, rollout)
    assert owners(again) == owners(before)


def test_each_rollout_meets_other_units() -> None:
    one = slots_of(deploy(first(), "v2", 10, "monday"), "canary")
    other = slots_of(deploy(first(), "v3", 10, "tuesday"), "canary")
    assert 50 < len(one & other) < 160  # a tenth of a tenth of all: 100 expected


def test_the_weight_of_a_canary_keeps_its_order_whatever_the_command_brings() -> None:
    before = deploy(first(), "v2", 5, "monday")
    assert deploy(before, "v2", 10, "tuesday").rollout == "monday"


def test_a_canary_at_a_hundred_percent_leaves_stable_without_units() -> None:
    plan = deploy(first(), "v2", 100, "r")
    assert plan.shares() == {"stable": 0.0, "canary": 1.0}
    assert rollback(plan, None).weights() == {"v1": 100.0}


@pytest.mark.parametrize("weight", [0, -1, 100.01, float("nan"), float("inf")])
def test_a_canary_of_no_sensible_weight_is_refused(weight: float) -> None:
    with pytest.raises(InvalidPlan, match="weight"):
        deploy(first(), "v2", weight, "r")


def test_a_tiny_canary_has_one_slot() -> None:
    assert deploy(first(), "v2", 0.0001, "r").weights()["v2"] == 0.01


def test_the_version_in_production_cannot_be_its_own_canary() -> None:
    with pytest.raises(InvalidPlan, match=r"'v1'.*in production already"):
        deploy(first(), "v1", 5, "r")


def test_a_second_rollout_is_refused_unless_it_supersedes_the_first() -> None:
    plan = deploy(first(), "v2", 5, "r1")
    with pytest.raises(RolloutInProgress, match="v2 5 %"):
        deploy(plan, "v3", 5, "r2")
    after = deploy(plan, "v3", 5, "r2", supersede=True)
    assert after.weights() == {"v1": 95.0, "v3": 5.0}
    assert after.generation == plan.generation + 1
    assert after.rollout == "r2"
    assert slots_of(after, "canary") == slots_of(deploy(first(), "v3", 5, "r2"), "canary")


def test_a_split_by_hand_counts_as_a_rollout() -> None:
    plan = set_weights(first(), {"v1": 50, "v2": 50}, "r")
    with pytest.raises(RolloutInProgress):
        deploy(plan, "v2", 5, "r2")
    with pytest.raises(RolloutInProgress):
        blue_green(plan, "v2")


def test_blue_green_moves_everyone_at_once() -> None:
    plan = blue_green(first(), "v2")
    assert plan.weights() == {"v2": 100.0}
    assert plan.stable() == "v2"
    with pytest.raises(InvalidPlan, match="all traffic already"):
        blue_green(plan, "v2")


def test_blue_green_may_finish_its_own_canary_but_not_another() -> None:
    plan = deploy(first(), "v2", 5, "r")
    assert blue_green(plan, "v2").weights() == {"v2": 100.0}
    with pytest.raises(RolloutInProgress):
        blue_green(plan, "v3")
    assert blue_green(plan, "v3", supersede=True).weights() == {"v3": 100.0}


# --- weights by hand ----------------------------------------------------------------------------------------


@given(splits(), splits(), seeds)
@settings(max_examples=25, deadline=None)
def test_weights_are_exact_and_move_the_fewest_units(
    before: dict[str, float], after: dict[str, float], rollout: str
) -> None:
    one = set_weights(first(), before, rollout)
    two = set_weights(one, after, "another order")
    assert Counter(served(two)) == counts_of(after)
    assert moved(one, two) == fewest(one, two)
    assert sum(two.weights().values()) == pytest.approx(100)


@given(splits(), splits(), seeds)
@settings(max_examples=25, deadline=None)
def test_no_unit_leaves_a_version_that_grows(
    before: dict[str, float], after: dict[str, float], rollout: str
) -> None:
    one = set_weights(first(), before, rollout)
    two = set_weights(one, after, rollout)
    for version in set(before) & set(after):
        if after[version] >= before[version]:
            held = {slot for slot, name in enumerate(served(one)) if name == version}
            assert held <= {slot for slot, name in enumerate(served(two)) if name == version}


@given(st.lists(st.one_of(splits(), percents), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_sequence_of_moves_leads_to_a_sound_plan(commands: list[dict[str, float] | float]) -> None:
    plan = first()
    for number, command in enumerate(commands, start=2):
        if isinstance(command, float):
            target = "v2" if plan.stable() != "v2" else "v1"
            plan = deploy(plan, target, command, f"r{number}", supersede=True)
        else:
            plan = set_weights(plan, command, f"r{number}")
        plan.verify()
        assert plan.generation == number
        assert plan.salt == "salt"
        assert all(plan.slots.count(i) or arm.role == "stable" for i, arm in enumerate(plan.arms))


def test_existing_arms_keep_name_and_role_and_a_new_version_becomes_a_variant() -> None:
    plan = set_weights(deploy(first(), "v2", 5, "r"), {"v1": 70, "v2": 10, "v3": 20}, "r2")
    roles = {arm.name: (arm.version, arm.role) for arm in plan.arms}
    assert roles == {
        "stable": ("v1", "stable"),
        "control": ("v1", "control"),
        "canary": ("v2", "canary"),
        "v3": ("v3", "variant"),
    }
    assert plan.shares() == {"stable": 0.6, "control": 0.1, "canary": 0.1, "v3": 0.2}
    assert plan.stages() == {"v1": "production", "v2": "canary", "v3": "canary"}


def test_growing_a_canary_by_hand_takes_nobody_out_of_it() -> None:
    before = deploy(first(), "v2", 5, "r")
    after = set_weights(before, {"v1": 60, "v2": 40}, "r2")
    assert slots_of(before, "canary") <= slots_of(after, "canary")
    assert slots_of(before, "control") <= slots_of(after, "control")
    assert len(slots_of(after, "control")) == 4000


def test_the_heaviest_version_becomes_stable_when_the_stable_one_is_not_named() -> None:
    before = deploy(first(), "v2", 20, "r")
    after = set_weights(before, {"v2": 60, "v3": 40}, "r2")
    assert after.stable() == "v2"
    assert [arm.name for arm in after.arms] == ["stable", "v3"]
    assert slots_of(before, "canary") <= slots_of(after, "stable")


def test_of_equally_heavy_versions_the_one_with_more_units_now_becomes_stable() -> None:
    plan = deploy(first(), "v3", 20, "r")
    assert set_weights(plan, {"v2": 50, "v3": 50}, "r2").stable() == "v3"


def test_a_stable_version_named_with_zero_stays_the_one_to_return_to() -> None:
    plan = set_weights(first(), {"v1": 0, "v2": 100}, "r")
    assert plan.stable() == "v1"
    assert is_split(plan)
    assert rollback(plan, "v0").weights() == {"v1": 100.0}


def test_a_version_named_with_zero_loses_its_arm() -> None:
    plan = set_weights(deploy(first(), "v2", 5, "r"), {"v1": 100, "v2": 0}, "r2")
    assert [arm.name for arm in plan.arms] == ["stable"]


@pytest.mark.parametrize("name", ["stable", "control", "canary"])
def test_a_version_named_like_a_role_gets_an_arm_of_another_name(name: str) -> None:
    plan = set_weights(deploy(first(), "v2", 5, "r"), {"v1": 80, "v2": 10, name: 10}, "r2")
    arm = next(arm for arm in plan.arms if arm.version == name)
    assert (arm.name, arm.role) == (f"variant-{name}", "variant")


def test_shadows_stay_when_weights_change_and_own_nobody() -> None:
    plan = shadow(first(), "v9", 100, "r")
    after = set_weights(plan, {"v1": 50, "v2": 50}, "r")
    assert after.stages() == {"v1": "production", "v2": "canary", "v9": "shadow"}
    promoted = set_weights(plan, {"v1": 50, "v9": 50}, "r")
    assert promoted.stages() == {"v1": "production", "v9": "canary"}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({}, "No weights"),
        ({"v1": 50.0}, "add up to 50"),
        ({"v1": 60.0, "v2": 50.0}, "add up to 110"),
        ({"v1": 110.0, "v2": -10.0}, "weight 110"),
        ({"v1": 100.0, "v2": -0.1}, "weight -0.1"),
        ({"v1": float("nan"), "v2": 50.0}, "nan"),
        ({"v1": float("inf")}, "inf"),
    ],
)
def test_weights_that_make_no_plan_are_refused(weights: dict[str, float], reason: str) -> None:
    with pytest.raises(InvalidPlan, match=reason):
        set_weights(first(), weights, "r")


# --- promote and roll back ----------------------------------------------------------------------------------


def test_promote_gives_the_canary_everything() -> None:
    plan = promote(deploy(first(), "v2", 5, "r"))
    assert plan.arms == (Arm(name="stable", version="v2", role="stable"),)
    assert plan.weights() == {"v2": 100.0}


def test_promote_takes_the_only_other_version_when_there_is_no_canary() -> None:
    assert promote(set_weights(first(), {"v1": 50, "v2": 50}, "r")).stable() == "v2"


def test_promote_prefers_the_canary_to_variants() -> None:
    plan = set_weights(deploy(first(), "v2", 5, "r"), {"v1": 80, "v2": 10, "v3": 10}, "r2")
    assert promote(plan).stable() == "v2"


def test_promote_names_the_choices_when_there_are_several() -> None:
    plan = set_weights(first(), {"v1": 40, "v2": 30, "v3": 30}, "r")
    with pytest.raises(InvalidPlan, match="v2, v3"):
        promote(plan)


def test_promote_refuses_when_one_version_is_alone() -> None:
    with pytest.raises(InvalidPlan, match="Nothing can be promoted"):
        promote(first())


def test_rollback_gives_stable_everything_while_others_have_units() -> None:
    for plan in (deploy(first(), "v2", 50, "r"), set_weights(first(), {"v1": 10, "v2": 90}, "r")):
        assert rollback(plan, "v0").weights() == {"v1": 100.0}


def test_rollback_goes_to_the_production_version_before_when_one_is_alone() -> None:
    assert rollback(direct(first(), "v2"), "v1").weights() == {"v1": 100.0}


def test_rollback_without_anywhere_to_go_says_so() -> None:
    with pytest.raises(NothingToRollBack, match="no earlier production version"):
        rollback(first(), None)


def test_rollback_to_a_named_version_gives_it_everything() -> None:
    assert rollback(deploy(first("v3"), "v4", 5, "r"), "v2", to="v1").weights() == {"v1": 100.0}
    with pytest.raises(NothingToRollBack, match="all traffic already"):
        rollback(first(), None, to="v1")


@given(splits(), seeds)
@settings(max_examples=25, deadline=None)
def test_rolling_back_a_split_moves_nobody_who_had_the_stable_version(
    weights: dict[str, float], rollout: str
) -> None:
    split = set_weights(first(), weights, rollout)
    if not is_split(split):
        return
    after = rollback(split, None)
    assert moved(split, after) == fewest(split, after)
    assert after.stable() == split.stable()


def test_the_salt_never_changes() -> None:
    plan = deploy(first(), "v2", 5, "r")
    for after in (promote(plan), rollback(plan, None), set_weights(plan, {"v1": 50, "v2": 50}, "x")):
        assert after.salt == "salt"


# --- shadows ------------------------------------------------------------------------------------------------


def mirrored(plan: Plan) -> dict[str, float]:
    return {arm.version: arm.mirror for arm in plan.arms if arm.role == "shadow"}


def test_a_shadow_gets_copies_and_moves_nobody() -> None:
    after = shadow(first(), "v2", 12.5, "r")
    assert (after.generation, mirrored(after), after.weights()) == (2, {"v2": 12.5}, {"v1": 100.0})
    assert moved(first(), after) == 0
    assert not is_split(after)


def test_the_same_shadow_again_changes_its_percent_and_nothing_else() -> None:
    plan = set_weights(shadow(first(), "v2", 10, "r"), {"v1": 50, "v3": 50}, "r3")
    wider = shadow(plan, "v2", 100, "r2")
    assert mirrored(wider) == {"v2": 100.0}
    assert (wider.slots, wider.rollout, wider.generation) == (plan.slots, plan.rollout, plan.generation + 1)


def test_a_second_shadow_is_refused_unless_it_supersedes_the_first() -> None:
    plan = shadow(first(), "v2", 10, "r")
    with pytest.raises(RolloutInProgress, match="'v2'"):
        shadow(plan, "v3", 10, "r2")
    assert mirrored(shadow(plan, "v3", 10, "r2", supersede=True)) == {"v3": 10.0}


def test_a_shadow_beside_a_split_is_refused_unless_it_supersedes_it() -> None:
    plan = deploy(first(), "v2", 5, "r")
    with pytest.raises(RolloutInProgress):
        shadow(plan, "v3", 10, "r2")
    after = shadow(plan, "v2", 10, "r2", supersede=True)
    assert (after.weights(), mirrored(after)) == ({"v1": 100.0}, {"v2": 10.0})


@pytest.mark.parametrize("percent", [0, -1, 100.01, float("nan"), float("inf")])
def test_a_mirror_outside_of_its_bounds_is_refused(percent: float) -> None:
    with pytest.raises(InvalidPlan, match="cannot have copies"):
        shadow(first(), "v2", percent, "r")


def test_the_version_in_production_shadows_nobody() -> None:
    with pytest.raises(InvalidPlan, match="in production already"):
        shadow(first(), "v1", 10, "r")


def test_a_shadow_that_becomes_the_canary_is_no_shadow_any_more() -> None:
    after = deploy(shadow(first(), "v2", 100, "r"), "v2", 5, "r")
    assert (mirrored(after), after.weights()) == ({}, {"v1": 95.0, "v2": 5.0})


def test_a_direct_move_and_a_rollback_end_a_shadow() -> None:
    plan = shadow(first(), "v2", 100, "r")
    assert mirrored(direct(plan, "v1")) == mirrored(rollback(plan, "v0")) == {}
