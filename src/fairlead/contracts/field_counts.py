"""The counts of one field, and the name of what was counted: data that profiles and windows are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

__all__ = ["FieldCounts", "FieldKey"]


class FieldKey(NamedTuple):
    """One thing that is counted. `feature`: its value, of a list the length; `elements`: the numbers in a
    list. `prediction` has no name. `score`: a class's, or the first place's of a ranking without a name."""

    part: Literal["feature", "elements", "prediction", "score"]
    name: str


class FieldCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one field in one window.

    `counts` lies on the bins as a profile's `counts` does: for numbers the first and last lie outside all
    edges, for categories the last is of those that nobody knew. `nulls` had no value, `misfits` one of
    another type or one that is not finite. `mean` and `m2`, the sum of squared deviations from it, are of the
    finite numbers; so are `low` and `high`. `new` names the most frequent unknown categories.
    """

    counts: tuple[int, ...]
    nulls: int = 0
    misfits: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: float | None = None
    high: float | None = None
    new: dict[str, int] = {}

    @property
    def n(self) -> int:
        """How many values lie in a bin."""
        return sum(self.counts)

    @property
    def rows(self) -> int:
        """How many there were in all."""
        return self.n + self.nulls + self.misfits

    @property
    def variance(self) -> float | None:
        """The variance of the numbers; None for fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else None
