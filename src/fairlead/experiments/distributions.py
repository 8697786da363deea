"""How far two distributions over the same classes lie apart, from counts alone."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import exact_level
from fairlead.experiments.sequences import verify_alpha

__all__ = ["Shift", "total_variation"]


class Shift(msgspec.Struct, frozen=True):
    """The total variation distance of two distributions: the share that would have to be moved to make one
    of them the other, 0 for the same and 1 for those that have nothing in common.

    `estimate` is that of the counts, which chance alone makes larger than the truth; `low` is what the truth
    is surely not below, at every look. `n` counts the smaller arm.
    """

    estimate: float
    low: float
    n: int


def total_variation(control: Sequence[int], treated: Sequence[int], *, alpha: float = 0.05) -> Shift:
    """How far the arms' counts per class lie apart; each unit counts once.

    The distance is the largest difference that any set of classes shows. `low` is that of the set whose
    classes the treated arm has more of, each rate at its near end (`exact_level`); since the data chose the
    set, alpha is shared by all sets that could have been chosen: 2^(classes-1) - 1, a set and its complement
    being one question. Exact at every look and any count for units that are drawn independently, with classes
    that were settled before. Raises ValueError for counts of different classes.
    """
    verify_alpha(alpha)
    if len(control) != len(treated):
        raise ValueError(f"{len(control)} classes are compared with {len(treated)}")
    n, m = sum(control), sum(treated)
    if not n or not m or len(control) < 2:
        return Shift(0.0, 0.0, min(n, m))
    risen = [index for index in range(len(control)) if treated[index] * n > control[index] * m]
    theirs = Proportion(n, sum(control[index] for index in risen))
    mine = Proportion(m, sum(treated[index] for index in risen))
    share = alpha / 2.0 / (2 ** (len(control) - 1) - 1)
    low = exact_level(mine, alpha=share).low - exact_level(theirs, alpha=share).high
    return Shift((mine.mean or 0.0) - (theirs.mean or 0.0), max(0.0, low), min(n, m))
