"""What the numbers of two arms mean: better, worse, no difference that matters, or not yet known.

May be asked at every look. A benefit has to wait for the minimums and for a split that is as configured; harm
does not. For shares, a tenth of alpha is kept for an exact test of the events alone, which tells harm
before the interval may be believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import conversions_log_e
from fairlead.experiments.sample_ratio import SampleRatio
from fairlead.experiments.sequences import (
    Arm,
    Interval,
    difference,
    log_e,
    mixture,
    relative_lift,
    verify_alpha,
)
from fairlead.experiments.strata import Stratum, standardised

__all__ = ["Finding", "Minimums", "Verdict", "verdict"]

Finding = Literal["better", "worse", "no difference", "not yet known"]

_EARLY = 0.1
"""The part of alpha that the exact test of few events may spend."""


class Minimums(msgspec.Struct, frozen=True):
    """Per arm, before a benefit is told: units, and for shares the rarer of events and their absence. Harm to
    an average is told from `harm_units` per arm."""

    units: int = 100
    events: int = 10
    harm_units: int = 30


_USUAL = Minimums()


class Verdict(msgspec.Struct, frozen=True):
    """What was found and what it rests on: the difference in the metric's unit, the lift relative to control,
    and the p-value of this look (keep the least with `AlwaysValidP`). A share's interval spends 0.9 alpha."""

    finding: Finding
    sentence: str
    difference: Interval
    lift: Interval
    p: float


def verdict(
    control: Arm,
    treated: Arm,
    *,
    metric: str = "conversion",
    higher_is: Literal["better", "worse"] = "better",
    margin: float = 0.0,
    alpha: float = 0.05,
    planned: int = 5000,
    share: float = 0.5,
    minimums: Minimums = _USUAL,
    split: SampleRatio | None = None,
    strata: Sequence[Stratum] = (),
) -> Verdict:
    """The verdict on `treated` beside `control`.

    `strata`: the same units by phase, where there was more than one, or with what was foreseeable taken out;
    they are then compared within each, and `share` is that of each.

    `margin`: the relative change that does not matter, 0.01 for one percent; 0 lets no change pass as none.
    `share`: the treated arm's part of the traffic of both, as configured. With `split.mismatch` nothing
    but harm is told. Raises as `difference`, and ValueError for a negative margin.
    """
    if margin < 0.0:
        raise ValueError(f"a margin of {margin:g}: must be 0 or more")
    verify_alpha(alpha)
    shares = isinstance(control, Proportion) and isinstance(treated, Proportion)
    spent = alpha * (1.0 - _EARLY) if shares else alpha
    compared = standardised(strata) if strata else (control, treated)
    change = difference(*compared, alpha=spent, planned=planned)
    lift = relative_lift(*compared, alpha=spent, planned=planned)
    p = 1.0
    if change.known:
        k = mixture(change.n, alpha=spent, planned=planned)
        p = math.exp(-max(log_e(change.estimate / change.se, k), 0.0))
    told = _Telling(metric, shares, change, lift)

    up, down = change.low > 0.0, change.high < 0.0
    good, bad = (up, down) if higher_is == "better" else (down, up)
    missing = _missing(control, treated, minimums)
    mismatch = split is not None and split.mismatch
    if split is not None and split.mismatch:
        doubt = f"{split.sentence} Until that is explained no comparison counts"
    else:
        doubt = missing
    alike = not doubt and -margin < lift.low and lift.high < margin
    believed = not missing if shares else min(control.n, treated.n) >= minimums.harm_units
    phases = strata or (Stratum(control=control, treated=treated, share=share),)
    few = _harm_of_few(phases, alpha * _EARLY, higher_is) if shares else ""

    finding: Finding = "not yet known"
    if bad and believed and not alike:
        finding, sentence = "worse", f"Worse: {told.change}."
        if doubt:
            sentence += f" But: {doubt}."
    elif few and not alike and not mismatch:
        finding, sentence = "worse", f"Worse: {few}."
    elif doubt:
        sentence = f"Not yet known: {doubt}."
    elif alike:
        finding, sentence = "no difference", f"No difference that matters: {told.within(margin)}."
    elif good:
        finding, sentence = "better", f"Better: {told.change}."
    else:
        sentence = f"Not yet known: {told.open}."
    return Verdict(finding, sentence, change, lift, p)


def _missing(control: Arm, treated: Arm, minimums: Minimums) -> str:
    """What an arm lacks before a benefit may be told; empty when nothing."""
    for name, arm in (("control", control), ("the treated arm", treated)):
        if arm.n < minimums.units:
            return f"{name} has {arm.n:,} of the {minimums.units:,} units that it needs"
        if isinstance(arm, Proportion):
            rarer = min(arm.successes, arm.n - arm.successes)
            if rarer < minimums.events:
                return f"{name} has {rarer:,} of the {minimums.events:,} events that it needs"
    return ""


def _harm_of_few(phases: Sequence[Stratum], alpha: float, higher_is: str) -> str:
    """How the events alone show harm; empty when they do not."""
    proof, expected, fallen, events = 0.0, 0.0, 0, 0
    for phase in phases:
        if isinstance(phase.control, Proportion) and isinstance(phase.treated, Proportion):
            met = phase.control.successes + phase.treated.successes
            proof += conversions_log_e(phase.control, phase.treated, share=phase.share)
            expected += phase.share * met
            fallen += phase.treated.successes
            events += met
    if proof < math.log(1.0 / alpha) or (fallen > expected) is not (higher_is == "worse"):
        return ""
    part = f"{fallen:,} of {events:,} events fell to the treated arm"
    return f"{part}, which has {expected / events:.0%} of the units"


class _Telling(msgspec.Struct, frozen=True):
    """Words for what the intervals say."""

    metric: str
    shares: bool
    difference: Interval
    lift: Interval

    @property
    def change(self) -> str:
        found = self.difference
        way = "higher" if found.estimate > 0.0 else "lower"
        near, far = sorted((abs(found.low), abs(found.high)))
        text = f"{self.metric} is {self._number(abs(found.estimate))}{self._unit} {way} than control's "
        text += f"(between {self._number(near)} and {self._number(far)})"
        if self.lift.known:
            text += f", a change of {self.lift.estimate:+.1%}"
        return f"{text}, after {found.n:,} units"

    @property
    def open(self) -> str:
        found = self.difference
        if not found.known:
            return f"all units are alike in {self.metric}, which does not tell how units differ"
        low, high = self._number(found.low, "+"), self._number(found.high, "+")
        text = f"the difference in {self.metric} is between {low} and {high}{self._unit}"
        return f"{text}, after {found.n:,} units"

    def within(self, margin: float) -> str:
        low, high = f"{self.lift.low:+.1%}", f"{self.lift.high:+.1%}"
        text = f"{self.metric} differs from control's by less than {margin:.1%} (between {low} and {high})"
        return f"{text}, after {self.lift.n:,} units"

    @property
    def _unit(self) -> str:
        return " percentage points" if self.shares else ""

    def _number(self, number: float, sign: str = "") -> str:
        return f"{100.0 * number:{sign}.2f}" if self.shares else f"{number:{sign}.4g}"
