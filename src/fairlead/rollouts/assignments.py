"""The audit of an experiment's exposures: every record held against the assignment that its plan gives.

The log says which arm each gateway gave a unit; the stored plan of that generation says which it had to be,
by the function that the gateways use (`routing/router.py`). Headers and features are not asked for again:
where the log says that a rule about them decided, it is believed, if the plan has that rule and nothing that
the log does tell goes before it. Pure but for the plans that it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from fairlead.routing.assign import mirror_slot_of
from fairlead.routing.plan import Plan
from fairlead.routing.router import Assigned, Router

__all__ = ["AssignmentAudit", "Different", "audit"]

_MOST = 100
_ON_REQUEST = "rule on the request"
_DECIDED = {
    "override": "local rollbacks",
    "pin": "pins",
    _ON_REQUEST: "rules on headers or features",
    "unassigned": "refused before a plan was asked",
}

Kind = Literal["split", "rule", "holdout", "pin", "shadow", "override", "unassigned"]


class Different(msgspec.Struct, frozen=True, kw_only=True):
    """Records that say another arm than the plan: what was logged, what it had to be, how many, and one of
    their requests. Null is expected where the plan gives no such arm, or there is no such plan."""

    generation: int
    unit: str | None
    arm: str | None
    version: str | None
    expected_arm: str | None
    expected_version: str | None
    records: int
    request_id: str


class AssignmentAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit found. Of the `records` by `kind`, `recomputed` were held against the plan. Others are
    only counted, in `not_recomputed` by what decided: `pin`, `override` (a local rollback), `rule on the
    request` (on headers or features, which the log does not tell for sure), `unassigned` (refused before a
    plan was asked). `differing` records say something else than the plan; the first 100 kinds are listed."""

    records: int
    recomputed: int
    not_recomputed: dict[str, int]
    kinds: dict[str, int]
    differing: int
    different: list[Different]
    sentence: str


def audit(rows: Iterable[Mapping[str, Any]], plans: Mapping[int, Plan]) -> AssignmentAudit:
    """The audit of rows of `predictions/exposures.assignments` by the plans of their generations."""
    judges = {generation: _Judge(plan) for generation, plan in plans.items()}
    kinds: dict[str, int] = {}
    beside: dict[str, int] = {}
    recomputed = differing = 0
    different: list[Different] = []
    for row in rows:
        count = int(row["records"])
        kind = _kind(row)
        kinds[kind] = kinds.get(kind, 0) + count
        if kind in ("pin", "override", "unassigned"):
            beside[kind] = beside.get(kind, 0) + count
            continue
        judge = judges.get(row["generation"])
        expected = None if judge is None else judge.expected(row, kind)
        if expected == _BELIEVED:
            beside[_ON_REQUEST] = beside.get(_ON_REQUEST, 0) + count
            continue
        recomputed += count
        if expected == (row["arm"], row["role"], row["version"]):
            continue
        differing += count
        if len(different) < _MOST:
            arm, _, version = expected or (None, None, None)
            different.append(
                Different(
                    generation=row["generation"],
                    unit=row["unit"],
                    arm=row["arm"],
                    version=row["version"],
                    expected_arm=arm,
                    expected_version=version,
                    records=count,
                    request_id=row["request_id"],
                )
            )
    total = sum(kinds.values())
    return AssignmentAudit(
        records=total,
        recomputed=recomputed,
        not_recomputed=dict(sorted(beside.items())),
        kinds=dict(sorted(kinds.items())),
        differing=differing,
        different=different,
        sentence=_sentence(total, recomputed, differing, beside),
    )


_Expected = tuple[str | None, str | None, str | None]
_BELIEVED: _Expected = (None, None, None)


class _Judge:
    """One plan, ready to say what each unit had to get."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._router = Router(plan)
        self._shadows = {arm.name: arm for arm in plan.arms if arm.role == "shadow"}
        # What a request's headers and features decided cannot be asked for again.
        self._believed = {
            rule.arm: (rule.arm, "rule", rule.version or plan.stable())
            for rule in plan.rules
            if rule.units is None
        }
        self._order = {rule.arm: place for place, rule in enumerate(plan.rules)}

    def expected(self, row: Mapping[str, Any], kind: Kind) -> _Expected | None:
        """Arm, role and version that the plan gives; None when it gives no such arm."""
        unit = row["unit"]
        if unit is None:
            return None
        if kind == "shadow":
            arm = self._shadows.get(row["arm"])
            if arm is None or mirror_slot_of(self._plan.salt, unit) >= arm.mirror_slots:
                return None
            return arm.name, arm.role, arm.version
        found = self._router.assigned(unit, {}, dict)
        believed = self._believed.get(row["arm"])
        if believed is not None and not self._goes_before(found, row["arm"]):
            return _BELIEVED if believed == (row["arm"], row["role"], row["version"]) else believed
        return found.arm.name, found.arm.role, found.arm.version

    def _goes_before(self, found: Assigned, arm: str) -> bool:
        """Whether what the unit alone decided stands before the rule of that arm."""
        if found.how == "rule":
            return self._order[found.arm.name] < self._order[arm]
        return found.how == "holdout"


def _kind(row: Mapping[str, Any]) -> Kind:
    if row["arm"] is None:
        return "unassigned"
    if row["source"] == "shadow":
        return "shadow"
    if row["arm"] == "override":
        return "override"
    role = row["role"]
    return role if role in ("rule", "holdout", "pin") else "split"


def _sentence(total: int, recomputed: int, differing: int, beside: Mapping[str, int]) -> str:
    if not total:
        return "There is no record of this experiment yet."
    if differing:
        return f"{differing:,} of {recomputed:,} records do not say what the plan gave their unit."
    told = ", ".join(f"{_DECIDED[what]} {count:,}" for what, count in sorted(beside.items()))
    left = f"; {sum(beside.values()):,} more cannot be recomputed from the log ({told})" if beside else ""
    return f"All {recomputed:,} records say what the plan gave their unit{left}."
