"""How far a candidate treats groups apart. Pure.

The gap is that between the groups with the highest and the lowest share: of all rows that are chosen
(demographic parity), or of those among rows whose truth is positive and among the others, the larger of both
(equalized odds), as fairlearn defines them. It is judged by its interval, not by the shares themselves: in
small groups they differ by chance. The groups are chosen by what was seen, so alpha is divided by the number
of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import gap, wilson
from fairlead.experiments.sequences import Interval

__all__ = ["Gap", "equalized_odds", "parity", "widest"]

Array = npt.NDArray[Any]


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The widest gap: between which groups, among which rows, and where it lies. `shares` has every group's
    share with its Wilson interval; `small` names groups that are too small, with their rows."""

    among: str
    highest: str
    lowest: str
    width: Interval
    shares: dict[str, Interval]
    small: dict[str, int]


def parity(groups: Mapping[str, Array], chosen: Array, *, minimum: int, alpha: float) -> list[Gap]:
    """The gap in the share of rows that are chosen; nothing with fewer than two groups that are large
    enough."""
    found = _gap("all rows", groups, chosen, np.ones(len(chosen), bool), minimum, alpha)
    return [] if found is None else [found]


def equalized_odds(
    groups: Mapping[str, Array], chosen: Array, positive: Array, *, minimum: int, alpha: float
) -> list[Gap]:
    """The gaps in the share that is chosen, among rows whose truth is positive and among the others; without
    those that fewer than two groups are large enough for."""
    kinds = {"rows that are positive": positive, "rows that are negative": ~positive}
    found = [
        _gap(name, groups, chosen, within, minimum, alpha / len(kinds)) for name, within in kinds.items()
    ]
    return [one for one in found if one is not None]


def widest(among: str, arms: Mapping[str, Proportion], *, minimum: int, alpha: float) -> Gap | None:
    """The widest gap between groups of `minimum` rows or more; None with fewer than two of them."""
    small = {name: arm.n for name, arm in arms.items() if arm.n < minimum}
    large = {name: arm for name, arm in arms.items() if arm.n >= minimum}
    if len(large) < 2:
        return None
    highest = max(large, key=lambda name: large[name].mean or 0.0)
    lowest = min(large, key=lambda name: large[name].mean or 0.0)
    pairs = len(large) * (len(large) - 1) // 2
    width = gap(large[highest], large[lowest], alpha=alpha / pairs)
    shares = {name: wilson(arm, alpha=alpha) for name, arm in large.items()}
    return Gap(among=among, highest=highest, lowest=lowest, width=width, shares=shares, small=small)


def _gap(
    among: str, groups: Mapping[str, Array], chosen: Array, within: Array, minimum: int, alpha: float
) -> Gap | None:
    arms = {
        name: Proportion(int((rows & within).sum()), int((rows & within & chosen).sum()))
        for name, rows in groups.items()
    }
    return widest(among, arms, minimum=minimum, alpha=alpha)
