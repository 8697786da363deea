"""Phases of an experiment put together without mixing them up.

Where the shares of the arms change in the middle, units of before and after must not be pooled: a good week
that falls together with a larger share would look like a better arm (Simpson's paradox). So arms are compared
within each stratum, and the differences are averaged with weights n0 n1 / (n0 + n1) (Cochran 1954; Mantel and
Haenszel 1959), the ones that tell most where units differ alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from fairlead.experiments.aggregates import Mean
from fairlead.experiments.sample_ratio import SampleRatio, chi_square_survival, sample_ratio
from fairlead.experiments.sequences import Arm

__all__ = ["Stratum", "split_of", "standardised"]

CONTROL, TREATED = "control", "canary"


class Stratum(msgspec.Struct, frozen=True, kw_only=True):
    """Units among which the arm was drawn with the same chance: `share` is the treated arm's part of them.

    `adjusted` are the same arms with what was foreseeable taken out (`cuped.py`), where there is anything.
    """

    control: Arm
    treated: Arm
    share: float = 0.5
    adjusted: tuple[Mean, Mean] | None = None


def standardised(strata: Sequence[Stratum]) -> tuple[Arm, Arm]:
    """Control and treated as if both had the same mix of strata.

    A stratum where an arm has nobody compares with nothing and is left out. A single one comes back as it
    is; several become a `Mean` each, whose variance is that of the average.
    """
    told = [pair for pair in (s.adjusted or (s.control, s.treated) for s in strata) if _compares(*pair)]
    if not told:
        return (strata[0].control, strata[0].treated) if strata else (Mean(), Mean())
    if len(told) == 1:
        return told[0]
    weights = [a.n * b.n / (a.n + b.n) for a, b in told]
    total = sum(weights)
    shares = [weight / total for weight in weights]
    spreads = [_spreads(a, b) for a, b in told]
    return (
        _average([a for a, _ in told], [before for before, _ in spreads], shares),
        _average([b for _, b in told], [after for _, after in spreads], shares),
    )


def split_of(counts: Sequence[tuple[int, int, float]], *, alpha: float = 0.001) -> SampleRatio:
    """Whether units of all strata fell to the arms as drawn: per stratum the units of control, those of the
    treated arm, and the treated arm's share. Strata hold different units, so evidence adds up.
    """
    found = [
        sample_ratio({CONTROL: a, TREATED: b}, {CONTROL: 1.0 - share, TREATED: share}, alpha=alpha)
        for a, b, share in counts
    ]
    if not found:
        return sample_ratio({}, {CONTROL: 1.0, TREATED: 1.0}, alpha=alpha)
    if len(found) == 1:
        return found[0]
    met = [one for one in found if one.units]
    log_e = sum(one.log_e for one in met)
    statistic = sum(one.statistic for one in met)
    freedom = sum(one.freedom for one in met)
    off = {
        CONTROL: _deviation(sum(a for a, _, _ in counts), sum((a + b) * (1 - s) for a, b, s in counts)),
        TREATED: _deviation(sum(b for _, b, _ in counts), sum((a + b) * s for a, b, s in counts)),
    }
    arm = max(off, key=lambda name: abs(off[name]))
    return SampleRatio(
        units=sum(one.units for one in met),
        log_e=log_e,
        mismatch=log_e >= math.log(1.0 / alpha),
        statistic=statistic,
        freedom=freedom,
        p=0.0 if math.isinf(statistic) else chi_square_survival(statistic, freedom),
        arm=arm,
        deviation=off[arm],
    )


def _deviation(found: int, expected: float) -> float:
    return found / expected - 1.0 if expected else 0.0


def _compares(control: Arm, treated: Arm) -> bool:
    return bool(control.n and treated.n and control.mean is not None and treated.mean is not None)


def _spreads(control: Arm, treated: Arm) -> tuple[float, float]:
    """Variances of one unit; an arm whose units are all alike is given the other's."""
    before, after = control.variance or 0.0, treated.variance or 0.0
    return before or after, after or before


def _average(arms: Sequence[Arm], spreads: Sequence[float], shares: Sequence[float]) -> Mean:
    """The weighted mean of the arms' means, as a `Mean` of their units with the variance of that."""
    n = sum(arm.n for arm in arms)
    mean = sum(share * (arm.mean or 0.0) for arm, share in zip(arms, shares, strict=True))
    squared = sum(
        share * share * spread / arm.n for arm, spread, share in zip(arms, spreads, shares, strict=True)
    )
    return Mean(n, mean * n, squared * n * (n - 1) + mean * mean * n)
