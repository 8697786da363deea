"""The audit: what can be recomputed is, and what cannot is told apart."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.rollouts import moves
from fairlead.rollouts.assignments import AssignmentAudit, audit
from fairlead.routing.assign import mirror_slot_of, slot_of
from fairlead.routing.plan import Arm, Holdout, Plan
from fairlead.routing.router import assigned
from fairlead.routing.targeting import Rule

FIRST = moves.start("shop", "v1", salt="s", rollout="r0")
HALF = moves.deploy(FIRST, "v2", 50, "e1", supersede=True)
STAFF = Rule(name="staff", version="v2", units=("u1", "u2"))
BETA = Rule(name="beta", version="v3", header="x-beta", one_of=("yes",))
OLD = Rule(name="old", feature="age", at_least=65.0)


def row(plan: Plan, unit: str | None, arm: str, **changes: Any) -> dict[str, Any]:
    """A record that says so of that arm of the plan."""
    found = next(one for one in plan.arms if one.name == arm)
    return {
        "generation": plan.generation, "source": "online", "unit": unit, "arm": arm, "role": found.role,
        "version": found.version, "records": 1, "request_id": "r", **changes,
    }  # fmt: skip


def true_row(plan: Plan, unit: str) -> dict[str, Any]:
    return row(plan, unit, assigned(plan, unit).arm.name)


def look(plan: Plan, *rows: dict[str, Any]) -> AssignmentAudit:
    return audit(rows, {plan.generation: plan})


def test_what_a_list_of_units_decided_is_recomputed() -> None:
    plan = moves.target(HALF, (STAFF,))
    found = look(plan, *(true_row(plan, f"u{number}") for number in range(50)))
    assert (found.records, found.recomputed, found.differing) == (50, 50, 0)
    assert found.kinds == {"rule": 2, "split": 48}
    assert found.not_recomputed == {}


def test_a_unit_that_is_not_on_the_list_is_found_out() -> None:
    plan = moves.target(HALF, (STAFF,))
    found = look(plan, row(plan, "u7", "rule:staff"))
    assert (found.recomputed, found.differing) == (1, 1)
    assert found.different[0].expected_arm == assigned(plan, "u7").arm.name


def test_a_unit_on_the_list_that_the_split_took_is_found_out() -> None:
    plan = moves.target(HALF, (STAFF,))
    found = look(plan, row(plan, "u1", "canary"))
    assert [one.expected_arm for one in found.different] == ["rule:staff"]


def test_rules_on_headers_and_features_are_told_apart_from_what_is_recomputed() -> None:
    plan = moves.target(HALF, (BETA, OLD, STAFF))
    believed = (row(plan, "u9", "rule:beta"), row(plan, "u8", "rule:old"))
    found = look(plan, *believed, true_row(plan, "u1"), true_row(plan, "u3"))
    assert (found.records, found.recomputed, found.differing) == (4, 2, 0)
    assert found.not_recomputed == {"rule on the request": 2}
    assert found.sentence == (
        "All 2 records say what the plan gave their unit; "
        "2 more cannot be recomputed from the log (rules on headers or features 2)."
    )


def test_a_rule_on_the_request_is_not_believed_against_the_plan() -> None:
    """It serves what the plan says, and what stands before it and needs no request goes before it."""
    plan = moves.target(HALF, (STAFF, BETA))
    for wrong, expected in (
        (row(plan, "u1", "rule:beta"), "rule:staff"),
        (row(plan, "u9", "rule:beta", version="v9"), "rule:beta"),
        (row(plan, "u9", "rule:beta", role="canary"), "rule:beta"),
    ):
        found = look(plan, wrong)
        assert [one.expected_arm for one in found.different] == [expected], wrong
    before = moves.target(HALF, (BETA, STAFF))
    assert look(before, row(before, "u1", "rule:beta")).differing == 0, "the header stands before the list"


def test_a_rule_that_the_plan_does_not_have_is_found_out() -> None:
    plan = moves.target(HALF, (BETA,))
    found = audit([row(plan, "u9", "rule:beta")], {plan.generation: moves.target(HALF, ())})
    assert found.differing == 1


def test_units_of_the_holdout_are_recomputed_and_go_before_every_rule() -> None:
    plan = moves.hold_out(moves.target(HALF, (BETA,)), Holdout(salt="h", percent=10.0, since=0.0))
    units = [f"u{number}" for number in range(300)]
    assert plan.holdout is not None
    held = [unit for unit in units if slot_of("h", unit) < plan.holdout.slots]
    found = look(plan, *(true_row(plan, unit) for unit in units))
    assert found.kinds == {"holdout": len(held), "split": 300 - len(held)}
    assert (found.recomputed, found.differing) == (300, 0)
    free = next(unit for unit in units if unit not in held)
    for wrong in (row(plan, held[0], "canary"), row(plan, held[0], "rule:beta"), row(plan, free, "holdout")):
        assert look(plan, wrong).differing == 1


def test_copies_for_a_shadow_are_recomputed_from_their_own_hash() -> None:
    shadow = Arm(name="shadow", version="v2", role="shadow", mirror=30.0)
    plan = msgspec.structs.replace(FIRST, arms=(*FIRST.arms, shadow))
    slots = plan.arms[-1].mirror_slots
    units = [f"u{number}" for number in range(200)]
    copied = [unit for unit in units if mirror_slot_of(plan.salt, unit) < slots]
    assert 30 < len(copied) < 90
    found = look(plan, *(row(plan, unit, "shadow", source="shadow") for unit in copied))
    assert (found.kinds, found.recomputed, found.differing) == ({"shadow": len(copied)}, len(copied), 0)
    other = next(unit for unit in units if unit not in copied)
    assert look(plan, row(plan, other, "shadow", source="shadow")).differing == 1
    assert look(plan, row(plan, copied[0], "stable", source="shadow")).differing == 1


def test_pins_and_local_rollbacks_and_refusals_are_only_counted() -> None:
    rows = [
        {**row(HALF, "u1", "canary"), "arm": arm, "role": role, "records": count}
        for arm, role, count in (("pin", "pin", 3), ("override", "stable", 2), (None, None, 1))
    ]
    found = look(HALF, *rows)
    assert (found.records, found.recomputed) == (6, 0)
    assert found.not_recomputed == {"override": 2, "pin": 3, "unassigned": 1}


def test_a_records_unit_may_be_any_text() -> None:
    for unit in ("", " ", "ünïcode 💶", "x" * 5_000, "a\x00b"):
        assert look(HALF, true_row(HALF, unit)).differing == 0
    assert look(HALF, row(HALF, None, "canary")).differing == 1
