"""A plan: who gets which version of one model. Data and the arithmetic of shares; no I/O, no clock."""

from __future__ import annotations

from typing import Literal

import msgspec

from fairlead.errors import InvalidPlan

__all__ = ["SLOTS", "Arm", "Plan", "Role", "Stage"]

SLOTS = 10_000
"""Slots per model: one slot is 0.01 % of the units."""

Role = Literal["stable", "control", "canary", "variant", "shadow"]
Stage = Literal["none", "staging", "shadow", "canary", "production", "archived"]

STAGE_OF_ROLE: dict[Role, Stage] = {
    "stable": "production",
    "control": "production",
    "canary": "canary",
    "variant": "canary",
    "shadow": "shadow",
}


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


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole truth about one model's traffic at one generation.

    `slots` has 10,000 bytes; byte s is the index in `arms` of the arm that owns slot s. `salt` fixes which
    unit falls on which slot and stays for the model's life, so that nobody moves when weights do.
    `rollout` seeds the order in which slots are handed out, so that each canary meets other units.
    """

    model: str
    generation: int
    salt: str
    arms: tuple[Arm, ...]
    slots: bytes
    rollout: str
    experiment: str | None = None

    def shares(self) -> dict[str, float]:
        """Share of the units per arm name; they add up to exactly 1 within float rounding."""
        return {arm.name: self.slots.count(index) / SLOTS for index, arm in enumerate(self.arms)}

    def weights(self) -> dict[str, float]:
        """Percent of the units per version."""
        found: dict[str, float] = {}
        for index, arm in enumerate(self.arms):
            if arm.role != "shadow":
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
        if any(arm.role == "shadow" and self.slots.count(i) for i, arm in enumerate(self.arms)):
            raise InvalidPlan("A shadow arm answers nobody: it owns no slots.")
        for arm in self.arms:
            if arm.role != "shadow" and arm.mirror:
                raise InvalidPlan(f"Arm {arm.name!r} answers: only a shadow gets copies of requests.")
            if arm.role == "shadow" and not 0 < arm.mirror <= 100:  # false for NaN, too
                raise InvalidPlan(
                    f"Shadow {arm.name!r} gets copies of {arm.mirror:g} % of the requests.",
                    remedy="Mirror more than 0 and up to 100 percent.",
                )
        return self
