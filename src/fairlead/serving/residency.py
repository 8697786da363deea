"""Which models leave memory, and in what order. Pure: time is given, and nothing is loaded or closed here."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

__all__ = ["Rank", "Resident", "gone_idle", "to_evict"]


class Rank(IntEnum):
    """What a version is to its model's traffic; the lowest leaves memory first, and `PREPARED` never."""

    UNNAMED = 0
    """No plan in force names it."""
    KEPT = 1
    """A rollback would need it."""
    WEIGHTLESS = 2
    """An arm of the plan that has no share of the traffic at the moment."""
    WEIGHTED = 3
    """An arm with a share."""
    PREPARED = 4
    """A traffic command was told that it is loaded."""


class Resident(NamedTuple):
    """A model in memory; `bytes` is its part of the budget. `used` is when it ran last, in seconds of any
    clock; `busy` while a request is with it; after `idle` seconds without one it may go, 0 is never."""

    key: bytes
    bytes: int
    used: float
    rank: Rank = Rank.WEIGHTED
    busy: bool = False
    idle: float = 0.0

    @property
    def may_go(self) -> bool:
        """Whether it may be evicted at all."""
        return not self.busy and self.rank is not Rank.PREPARED


def to_evict(residents: Iterable[Resident], budget: int, wanted: int = 0) -> list[bytes]:
    """The keys of those that must leave, in this order, so that `wanted` more bytes fit into the budget.

    The lowest rank goes first, and within a rank what was used least recently. When all that may go is not
    enough, all of it goes.
    """
    here = list(residents)
    over = sum(resident.bytes for resident in here) + wanted - budget
    leaving = []
    for resident in sorted(here, key=lambda resident: (resident.rank, resident.used)):
        if over <= 0:
            break
        if resident.may_go and resident.bytes:
            leaving.append(resident.key)
            over -= resident.bytes
    return leaving


def gone_idle(residents: Iterable[Resident], now: float) -> list[bytes]:
    """The keys of those whose own time without a request is over."""
    return [
        resident.key for resident in residents if resident.may_go and 0 < resident.idle < now - resident.used
    ]
