"""A plan: who gets which version of one model. Data and the arithmetic of shares; no I/O, no clock."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.errors import InvalidPlan
from fairlead.routing.targeting import Rule, verify_rules

__all__ = ["BESIDE", "HOLDOUT", "SLOTS", "Arm", "Holdout", "Layer", "Plan", "Role", "Stage"]

SLOTS = 10_000
"""Slots per model: one slot is 0.01 % of the units."""

Role = Literal["stable", "control", "canary", "variant", "shadow", "rule", "holdout", "pin"]
Stage = Literal["none", "staging", "shadow", "canary", "production", "archived"]

STAGE_OF_ROLE: dict[Role, Stage] = {
    "stable": "production",
    "control": "production",
    "canary": "canary",
    "variant": "canary",
    "shadow": "shadow",
    "rule": "canary",
    "holdout": "production",
    "pin": "none",
}

BESIDE: frozenset[Role] = frozenset({"rule", "holdout"})
"""Roles of arms that answer units apart from the split: they own no slots."""

HOLDOUT = "holdout"
"""The name of the arm of held-out units."""


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One share of a model's traffic. Two arms may hold the same version (canary's control, A/A test).

    `mirror` is the percent of the requests that a shadow gets a copy of; other arms have none.
    """

    name: str
    version: str
    role: Role
    mirror: float = 0.0

    @property
    def mirror_slots(self) -> int:
        """So many of the slots for copies (see `assign.mirror_slot_of`), from the first on, are the arm's."""
        return max(1, round(self.mirror * SLOTS / 100)) if self.mirror else 0


class Holdout(msgspec.Struct, frozen=True, kw_only=True):
    """Units that get no candidate, whatever the split and the rules say, between two moments.

    They are those on the first slots of `salt` (`assign.slot_of`), `percent` of all. Times are Unix seconds.
    The plan that ends it is made when `until` is over; None is open.
    """

    percent: float
    salt: str
    since: float
    until: float | None = None

    @property
    def slots(self) -> int:
        """How many slots, from the first on, are held out."""
        return max(1, round(self.percent * SLOTS / 100))


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the units that a plan's experiment has among those of other models in the same layer.

    A unit is in it when its slot by the layer's `salt` is in one of `ranges` (first, and last plus 1).
    """

    name: str
    salt: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def share(self) -> float:
        """Percent of all units."""
        return sum(stop - start for start, stop in self.ranges) * 100 / SLOTS


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole truth about one model's traffic at one generation.

    `slots` has 10,000 bytes; byte s is the index in `arms` of the arm that owns slot s. `salt` fixes which
    unit falls on which slot and stays for the model's life, so that nobody moves when weights do.
    `rollout` seeds the order in which slots are handed out, so that each canary meets other units.

    Before the slots count come `holdout`, `rules` and `layer`, in this order (`routing/router.py`). Each rule
    and the holdout have an arm of their own without slots.
    """

    model: str
    generation: int
    salt: str
    arms: tuple[Arm, ...]
    slots: bytes
    rollout: str
    experiment: str | None = None
    rules: tuple[Rule, ...] = ()
    holdout: Holdout | None = None
    layer: Layer | None = None

    def shares(self) -> dict[str, float]:
        """Share of the units per arm name; they add up to exactly 1 within float rounding."""
        return {arm.name: self.slots.count(index) / SLOTS for index, arm in enumerate(self.arms)}

    def weights(self) -> dict[str, float]:
        """Percent of the split's units per version."""
        found: dict[str, float] = {}
        for index, arm in enumerate(self.arms):
            if arm.role != "shadow" and arm.role not in BESIDE:
                share = self.slots.count(index) * 100 / SLOTS
                found[arm.version] = found.get(arm.version, 0.0) + share
        return found

    def stable(self) -> str:
        """The version in production."""
        for arm in self.arms:
            if arm.role == "stable":
                return arm.version
        raise InvalidPlan(f"The plan of {self.model!r} has no stable arm.")

    def stages(self) -> dict[str, Stage]:
        """Stage per version as it follows from the arms; the more exposed stage wins."""
        order: tuple[Stage, ...] = ("shadow", "canary", "production")
        found: dict[str, Stage] = {}
        for arm in self.arms:
            stage = STAGE_OF_ROLE[arm.role]
            held = found.get(arm.version)
            if held is None or order.index(stage) > order.index(held):
                found[arm.version] = stage
        return found

    def completed(self) -> Plan:
        """This plan, verified, with the arms that its rules and holdout need and no others of their kind.

        A rule without a version, and the holdout, have the stable version, whichever that is now.
        """
        stable = self.stable()
        kept = [index for index, arm in enumerate(self.arms) if arm.role not in BESIDE]
        beside = [
            Arm(name=rule.arm, version=rule.version or stable, role="rule")
            for rule in verify_rules(self.rules)
        ]
        if self.holdout is not None:
            beside.append(Arm(name=HOLDOUT, version=stable, role="holdout"))
        places = bytearray(range(256))
        for place, index in enumerate(kept):
            places[index] = place
        return msgspec.structs.replace(
            self,
            arms=(*(self.arms[index] for index in kept), *beside),
            slots=self.slots.translate(places),
            rules=verify_rules(self.rules),
        ).verify()

    def verify(self) -> Plan:
        """This plan, or `InvalidPlan` saying which rule it breaks."""
        if len(self.slots) != SLOTS:
            raise InvalidPlan(f"A plan has {SLOTS} slots, not {len(self.slots)}.")
        if self.slots and max(self.slots) >= len(self.arms):
            raise InvalidPlan("A slot names an arm that the plan does not have.")
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise InvalidPlan("Two arms have the same name.")
        if sum(arm.role == "stable" for arm in self.arms) != 1:
            raise InvalidPlan("A plan has exactly one stable arm.")
        slotless = BESIDE | {"shadow"}
        if any(arm.role in slotless and self.slots.count(i) for i, arm in enumerate(self.arms)):
            raise InvalidPlan("An arm of a shadow, a rule or a holdout owns no slots.")
        if any(arm.role == "pin" for arm in self.arms):
            raise InvalidPlan("A plan pins nothing: a request does.")
        self._verify_beside()
        for arm in self.arms:
            if arm.role != "shadow" and arm.mirror:
                raise InvalidPlan(f"Arm {arm.name!r} answers: only a shadow gets copies of requests.")
            if arm.role == "shadow" and not 0 < arm.mirror <= 100:  # false for NaN, too
                raise InvalidPlan(
                    f"Shadow {arm.name!r} gets copies of {arm.mirror:g} % of the requests.",
                    remedy="Mirror more than 0 and up to 100 percent.",
                )
        return self

    def _verify_beside(self) -> None:
        wanted = {rule.arm for rule in self.rules} | ({HOLDOUT} if self.holdout else set())
        if {arm.name for arm in self.arms if arm.role in BESIDE} != wanted:
            raise InvalidPlan("Each rule and the holdout have one arm, and no other is beside the split.")
        if self.holdout is not None and not 0 < self.holdout.percent < 100:  # false for NaN, too
            raise InvalidPlan(
                f"A holdout of {self.holdout.percent:g} % is none.",
                remedy="Hold out more than 0 and less than 100 percent.",
            )
        before = 0
        for start, stop in self.layer.ranges if self.layer else ():
            if not before <= start < stop <= SLOTS:
                raise InvalidPlan(f"A layer's ranges are in order within 0 and {SLOTS}.")
            before = stop
