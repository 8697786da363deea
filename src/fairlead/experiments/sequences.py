"""Intervals that hold at every look, however often one looks and whenever one stops.

With d an estimate, se its standard error, z = d / se and k the variance of the mixture in units of se²:

    e(z, k) = (1 + k)^(-1/2) exp(k z² / (2 (1 + k)))
    half(k) = se sqrt((1 + k) / k (ln(1 + k) + 2 ln(1 / alpha)))

k = n rho² is the asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, arXiv
2103.06476, equations 9 and 155), narrowest at the number of units where one plans to decide; k = tau² / se²
is the mSPRT (Johari, Koomen, Pekelis, Walsh, KDD 2017). Asymptotic: believe them from some 100 units and 10
events per arm, and see `exact.py` below that. Units must be independent: one per user, not one per request of
a user.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from fairlead.experiments.aggregates import Mean, Proportion, Ratio

__all__ = [
    "AlwaysValidP",
    "Arm",
    "Interval",
    "Side",
    "difference",
    "interval",
    "level",
    "log_e",
    "mixture",
    "relative_lift",
    "verify_alpha",
]

Arm = Proportion | Mean | Ratio
Side = Literal["both", "lower", "upper"]
"""Which bounds are wanted; the other is infinite, and the one that is left is nearer to the estimate."""


class Interval(msgspec.Struct, frozen=True):
    """An estimate, where the truth lies, its standard error, and the units that it rests on.

    Where the data say nothing the estimate is 0, the bounds and the standard error are infinite; so
    `low > margin` and `high < margin` are both False there, and nothing is ever NaN.
    """

    estimate: float
    low: float
    high: float
    se: float
    n: int

    @property
    def known(self) -> bool:
        """Whether the data said anything at all."""
        return math.isfinite(self.se)


class AlwaysValidP(msgspec.Struct, frozen=True):
    """The least p-value so far: valid at every look, and never rising."""

    p: float = 1.0

    def after(self, log_e: float) -> AlwaysValidP:
        """What it is after a look whose evidence against equality has this logarithm."""
        return AlwaysValidP(min(self.p, math.exp(-max(log_e, 0.0))))


def difference(
    control: Arm, treated: Arm, *, alpha: float = 0.05, planned: int = 5000, side: Side = "both"
) -> Interval:
    """Treated minus control, in the metric's own unit.

    `planned` is the number of units of both arms at which one expects to decide; fix it before the data come.
    An arm whose units are all alike is given the other's spread. Raises ValueError for alpha outside (0, 0.5)
    and `planned` below 1.
    """
    n = control.n + treated.n
    if control.mean is None or treated.mean is None:
        return _nothing(n, alpha, planned)
    before, after = _spreads(control, treated)
    se = math.sqrt(before / control.n + after / treated.n)
    return _at(treated.mean - control.mean, se, n, alpha, planned, side)


def relative_lift(
    control: Arm, treated: Arm, *, alpha: float = 0.05, planned: int = 5000, side: Side = "both"
) -> Interval:
    """(Treated - control) / |control| by the delta method: 0.1 is ten percent more.

    Says nothing while control's mean is 0. Else as `difference`.
    """
    n = control.n + treated.n
    if not control.mean or treated.mean is None:
        return _nothing(n, alpha, planned)
    before, after = _spreads(control, treated)
    base = abs(control.mean)
    ratio = treated.mean / control.mean
    se = math.sqrt(after / treated.n + ratio * ratio * before / control.n) / base
    return _at((treated.mean - control.mean) / base, se, n, alpha, planned, side)


def level(arm: Arm, *, alpha: float = 0.05, planned: int = 5000, side: Side = "both") -> Interval:
    """The mean of one arm alone, to be held against a fixed limit. A share never leaves 0 to 1."""
    if arm.mean is None:
        return _nothing(arm.n, alpha, planned)
    found = _at(arm.mean, math.sqrt((arm.variance or 0.0) / arm.n), arm.n, alpha, planned, side)
    if isinstance(arm, Proportion):
        return msgspec.structs.replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))
    return found


def interval(
    estimate: float, se: float, k: float, *, n: int, alpha: float = 0.05, side: Side = "both"
) -> Interval:
    """The interval of any asymptotically normal estimate under a mixture of variance `k` se².

    A standard error of 0 is no knowledge but a lack of spread to learn it from: the bounds are infinite.
    """
    verify_alpha(alpha)
    if not (se > 0.0 and k > 0.0 and math.isfinite(se) and math.isfinite(estimate)):
        return Interval(0.0, -math.inf, math.inf, math.inf, n)
    if side == "both":
        room = math.log1p(k) + 2.0 * math.log(1.0 / alpha)
    else:
        room = 2.0 * math.log1p(math.sqrt(k + 1.0) / (2.0 * alpha))
    half = se * math.sqrt((1.0 + k) / k * room)
    low = -math.inf if side == "upper" else estimate - half
    high = math.inf if side == "lower" else estimate + half
    return Interval(estimate, low, high, se, n)


def mixture(n: int, *, alpha: float = 0.05, planned: int = 5000, side: Side = "both") -> float:
    """k at `n` units for the interval that is narrowest at `planned`: n rho²."""
    verify_alpha(alpha)
    if planned < 1:
        raise ValueError(f"planned is {planned} units: must be 1 or more")
    a = alpha if side == "both" else 2.0 * alpha
    spent = -2.0 * math.log(a)
    return n * (spent + math.log1p(spent)) / planned


def log_e(z: float, k: float) -> float:
    """Logarithm of the evidence against "no difference" in an estimate of z standard errors."""
    return 0.5 * (k * z * z / (1.0 + k) - math.log1p(k))


def verify_alpha(alpha: float) -> None:
    """Raises ValueError unless alpha, the chance of a false alarm, is above 0 and below 0.5."""
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha:g}: must be above 0 and below 0.5")


def _at(estimate: float, se: float, n: int, alpha: float, planned: int, side: Side) -> Interval:
    k = mixture(n, alpha=alpha, planned=planned, side=side)
    return interval(estimate, se, k, n=n, alpha=alpha, side=side)


def _nothing(n: int, alpha: float, planned: int) -> Interval:
    return _at(0.0, 0.0, n, alpha, planned, "both")


def _spreads(control: Arm, treated: Arm) -> tuple[float, float]:
    before, after = control.variance or 0.0, treated.variance or 0.0
    return before or after, after or before
