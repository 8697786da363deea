"""Which arm a request gets by a plan, and how that came. Pure: the gateways and every audit ask here.

    1. a unit of the holdout gets the stable version;
    2. else the first rule that matches decides;
    3. else a unit that is not in the plan's part of its layer gets the stable version;
    4. else the arm that owns the unit's slot.

A pinned request is outside of all this, and so is a version that stands in for one that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Literal, NamedTuple

from fairlead.routing.assign import slot_of
from fairlead.routing.plan import HOLDOUT, SLOTS, Arm, Plan
from fairlead.routing.targeting import Columns, condition_of

__all__ = ["Assigned", "How", "Router", "assigned"]

How = Literal["holdout", "rule", "layer", "split"]


class Assigned(NamedTuple):
    """The arm of a request. By `holdout`, `rule` and `layer` nobody takes part in an experiment: only what
    came by `split` is an exposure."""

    arm: Arm
    how: How


class Router:
    """One plan, made ready to assign many requests. `headers` and `features` are the names that its
    rules read."""

    def __init__(self, plan: Plan) -> None:
        by_name = {arm.name: arm for arm in plan.arms}
        self._plan = plan
        self._stable = next(arm for arm in plan.arms if arm.role == "stable")
        self._rules = [(condition_of(rule), by_name[rule.arm]) for rule in plan.rules]
        self._held = by_name.get(HOLDOUT)
        self._inside: bytes | None = None
        if plan.layer is not None:
            inside = bytearray(SLOTS)
            for start, stop in plan.layer.ranges:
                inside[start:stop] = b"\x01" * (stop - start)
            self._inside = bytes(inside)
        self.headers = tuple(sorted({rule.header for rule in plan.rules if rule.header is not None}))
        self._rereads = sum(rule.feature is not None for rule in plan.rules) > 1
        self.features = frozenset(rule.feature for rule in plan.rules if rule.feature is not None)

    @property
    def plain(self) -> bool:
        """Whether the unit's slot alone decides."""
        return not self._rules and self._held is None and self._inside is None

    def assigned(self, unit: str, headers: Mapping[str, str], features: Callable[[], Columns]) -> Assigned:
        """The arm of a unit's request. `headers` have lower-case names; `features` is asked by rules about
        them, and answers a value for each row that is asked for together."""
        plan = self._plan
        holdout = plan.holdout
        if holdout is not None and self._held is not None and slot_of(holdout.salt, unit) < holdout.slots:
            return Assigned(self._held, "holdout")
        if self._rereads:
            features = cache(features)  # reading a request's features costs more than all comparisons
        for matches, arm in self._rules:
            if matches(unit, headers, features):
                return Assigned(arm, "rule")
        layer, inside = plan.layer, self._inside
        if layer is not None and inside is not None and not inside[slot_of(layer.salt, unit)]:
            return Assigned(self._stable, "layer")
        return Assigned(plan.arms[plan.slots[slot_of(plan.salt, unit)]], "split")


def assigned(
    plan: Plan, unit: str, headers: Mapping[str, str] = {}, features: Mapping[str, object] = {}
) -> Assigned:
    """The arm of one request of one row. A `Router` is quicker for many requests of one plan."""
    return Router(plan).assigned(unit, headers, lambda: {name: (value,) for name, value in features.items()})
