"""Which slot a unit falls on, and which slots an arm gets. Pure: no I/O, no clock, no randomness.

The hash is part of the public promise (docs/reference/assignment.md, with test vectors): changing it would
move every customer of every model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import xxhash

from fairlead.errors import InvalidPlan
from fairlead.routing.plan import SLOTS

__all__ = ["mirror_slot_of", "rebalance", "slot_of", "slot_order", "targets"]

_SEPARATOR = "\x1f"
_ROUNDING = 1e-6


def slot_of(salt: str, unit: str) -> int:
    """The slot, 0 to 9,999, of a unit.

    XXH32 (seed 0) of the UTF-8 bytes of salt, U+001F and unit, times 10,000, shifted right by 32 bits:
    multiply-shift has neither floats nor modulo bias.
    """
    key = f"{salt}{_SEPARATOR}{unit}".encode("utf-8", "surrogatepass")
    return (xxhash.xxh32_intdigest(key) * SLOTS) >> 32


def mirror_slot_of(salt: str, unit: str) -> int:
    """The slot of a unit among those for copies: as `slot_of`, with "mirror" and U+001F before the salt.

    So whether a shadow gets a unit's requests says nothing about the arm that answers them.
    """
    return slot_of(f"mirror{_SEPARATOR}{salt}", unit)


def slot_order(rollout: str) -> list[int]:
    """All slots in the order in which a rollout takes them: sorted by XXH64 of rollout, U+001F and slot."""
    keys = [xxhash.xxh64_intdigest(f"{rollout}{_SEPARATOR}{slot}".encode()) for slot in range(SLOTS)]
    return sorted(range(SLOTS), key=lambda slot: (keys[slot], slot))


def targets(weights: Mapping[str, float]) -> dict[str, int]:
    """Slots per arm for weights in percent that add up to 100: largest remainder, at least one slot each.

    Raises `InvalidPlan` when a weight is negative or not finite or the sum is not 100.
    """
    for arm, weight in weights.items():
        if not 0 <= weight <= 100 + _ROUNDING:  # false for NaN, too
            raise InvalidPlan(
                f"Arm {arm!r} has weight {weight}.", remedy="Weights are from 0 to 100 percent."
            )
    total = sum(weights.values())
    if abs(total - 100) > _ROUNDING:
        raise InvalidPlan(
            f"The weights add up to {total:g} %.", remedy="Make them add up to 100 %.", total=total
        )
    exact = {arm: weight * SLOTS / 100 for arm, weight in weights.items()}
    counts = {arm: int(share + 1e-9) for arm, share in exact.items()}
    left = SLOTS - sum(counts.values())
    by_remainder = sorted(exact, key=lambda arm: (counts[arm] - exact[arm], arm))
    for arm in by_remainder[:left]:
        counts[arm] += 1
    for arm, share in exact.items():
        if share > 0 and counts[arm] == 0:
            counts[max(counts, key=lambda name: counts[name])] -= 1
            counts[arm] = 1
    return counts


def rebalance(
    slots: Sequence[str], wanted: Mapping[str, int], order: Sequence[int], rest: str = "stable"
) -> list[str]:
    """The owner of each slot after a change of weights, moving as few slots as possible.

    `slots` names the owner of each slot now, `wanted` the number each arm shall own (adding up to all of
    them), `order` the rollout's order. An arm that shrinks, or is no longer wanted, releases its last slots
    in that order; an arm that grows takes released slots from the front of it. The arm `rest` does both from
    the other end: what is left after a rollout's arms. So the moves are exactly the total variation distance,
    a growing arm loses nobody, and as long as arms grow out of `rest`, shrinking undoes growing.
    """
    if sum(wanted.values()) != len(slots):
        raise InvalidPlan(f"{sum(wanted.values())} slots are wanted of {len(slots)}.")
    owned: dict[str, list[int]] = {}
    for slot in order:
        owned.setdefault(slots[slot], []).append(slot)
    owners = list(slots)
    released: list[int] = []
    for arm, held in owned.items():
        count = wanted.get(arm, 0)
        released.extend(held[: max(0, len(held) - count)] if arm == rest else held[count:])
    rank = {slot: place for place, slot in enumerate(order)}
    released.sort(key=rank.__getitem__)
    free = iter(released)
    for arm in sorted(wanted, key=lambda name: name == rest):
        for _ in range(wanted[arm] - len(owned.get(arm, ()))):
            owners[next(free)] = arm
    return owners
