"""How far a model treats the parts of a slice apart, from counts alone. Pure.

Selection rate is the share that is answered with the positive class; TPR and FPR are that share among rows
whose label is positive, and among the others. Demographic parity compares selection rates, equalized odds the
larger gap of TPR and FPR, as fairlearn defines them: the difference is highest minus lowest, the ratio lowest
by highest. Parts of fewer than 100 rows (of those that a rate is among) are reported as too small and take no
part; an alarm needs 385 in both parts, with which a share is known within 5 points.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import wilson
from fairlead.gate.fairness import widest
from fairlead.monitoring.performance import Confusion

__all__ = ["ALARM_ROWS", "REPORT_ROWS", "Disparity", "Fairness", "Part", "Rate", "fairness"]

REPORT_ROWS = 100
ALARM_ROWS = 385
TOLERANCE = 0.1
"""A gap that is no wider than this is no alarm, unless somebody says otherwise."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """A share of `n` rows with Wilson's interval at 95 %; nothing but `n` where that is too small."""

    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """The rates of one part of a slice."""

    name: str
    selection: Rate
    tpr: Rate
    fpr: Rate


class Disparity(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of a slice: `difference` between `highest` and `lowest`, surely within `low` and `high` at
    95 % after all pairs that could have been compared; `ratio` is lowest by highest. Nothing is known with
    fewer than two parts that are large enough. `rows` counts the smaller of both parts."""

    measure: str
    difference: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    highest: str = ""
    lowest: str = ""
    rows: int = 0

    def alarms(self, tolerance: float = TOLERANCE) -> bool:
        """Whether the gap is surely wider than tolerated, between parts that are large enough to tell."""
        return self.low is not None and self.low > tolerance and self.rows >= ALARM_ROWS


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """A slice: its parts, how far apart they are, and which are too small to tell, with their rows."""

    feature: str
    parts: tuple[Part, ...]
    demographic_parity: Disparity
    equalized_odds: Disparity
    small: dict[str, int]


def fairness(
    feature: str,
    selected: Mapping[str, Proportion],
    labelled: Mapping[str, Confusion],
    *,
    alpha: float = 0.05,
) -> Fairness:
    """A slice's fairness. `selected` counts, of every part, all answers and those of the positive class,
    labels or not; `labelled` those with a label."""
    positive = {name: Proportion(held.tp + held.fn, held.tp) for name, held in labelled.items()}
    negative = {name: Proportion(held.fp + held.tn, held.fp) for name, held in labelled.items()}
    parts = tuple(
        Part(
            name=name,
            selection=_rate(selected[name]),
            tpr=_rate(positive.get(name, Proportion())),
            fpr=_rate(negative.get(name, Proportion())),
        )
        for name in selected
    )
    odds = [
        _disparity("equalized odds: true positives", positive, alpha / 2.0),
        _disparity("equalized odds: false positives", negative, alpha / 2.0),
    ]
    known = [one for one in odds if one.difference is not None]
    wider = max(known, key=lambda one: one.difference or 0.0, default=Disparity(measure="equalized odds"))
    ratios = [one.ratio for one in known if one.ratio is not None]
    return Fairness(
        feature=feature,
        parts=parts,
        demographic_parity=_disparity("demographic parity", selected, alpha),
        equalized_odds=msgspec.structs.replace(wider, ratio=min(ratios, default=None)),
        small={name: arm.n for name, arm in selected.items() if arm.n < REPORT_ROWS},
    )


def _rate(arm: Proportion) -> Rate:
    if arm.n < REPORT_ROWS:
        return Rate(n=arm.n)
    found = wilson(arm)
    return Rate(n=arm.n, value=found.estimate, low=found.low, high=found.high)


def _disparity(measure: str, arms: Mapping[str, Proportion], alpha: float) -> Disparity:
    gap = widest(measure, arms, minimum=REPORT_ROWS, alpha=alpha)
    if gap is None:
        return Disparity(measure=measure)
    most, least = gap.shares[gap.highest].estimate, gap.shares[gap.lowest].estimate
    return Disparity(
        measure=measure,
        difference=most - least,
        ratio=least / most if most else None,
        low=gap.width.low,
        high=gap.width.high,
        highest=gap.highest,
        lowest=gap.lowest,
        rows=min(arms[gap.highest].n, arms[gap.lowest].n),
    )
