"""How many units an experiment needs, and how long that takes.

The classical normal formula n = (z_alpha + z_power)² (v0 / (1 - share) + v1 / share) / difference². For an
experiment that is watched, z_alpha is the multiplier of the confidence sequence at the planned size, 3.04
instead of 1.96 at alpha 0.05; in return it may stop at any time, and with a true effect mostly stops earlier.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from fairlead.experiments.sequences import Side, interval, mixture, verify_alpha

__all__ = ["days_needed", "units_for_means", "units_for_proportions", "units_without_event"]


def units_for_proportions(
    base: float,
    treated: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    share: float = 0.5,
    side: Side = "both",
    watched: bool = True,
) -> int:
    """Units of both arms to tell the rate `treated` from `base` with this power.

    `share` is the treated arm's part of them, `side` "both" for a two-sided question, `watched` whether one
    looks before the end. Raises ValueError for rates outside [0, 1], equal rates, or parameters out of range.
    """
    for rate in (base, treated):
        if not 0.0 <= rate <= 1.0:
            raise ValueError(f"a rate of {rate:g}: must be between 0 and 1")
    variances = base * (1.0 - base), treated * (1.0 - treated)
    return _units(treated - base, *variances, alpha, power, share, side, watched)


def units_for_means(
    deviation: float,
    difference: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    share: float = 0.5,
    side: Side = "both",
    watched: bool = True,
) -> int:
    """Units of both arms to see a difference of means, where units differ by this standard deviation. After
    CUPED, give the deviation that is left. Else as `units_for_proportions`."""
    if not (deviation > 0.0 and math.isfinite(deviation)):
        raise ValueError(f"a standard deviation of {deviation:g}: must be above 0")
    variance = deviation * deviation
    return _units(difference, variance, variance, alpha, power, share, side, watched)


def units_without_event(rate: float, *, alpha: float = 0.05) -> int:
    """How many units without an event make one sure that the true rate is below `rate`: about 3 / rate at 95
    %."""
    verify_alpha(alpha)
    if not 0.0 < rate < 1.0:
        raise ValueError(f"a rate of {rate:g}: must be between 0 and 1")
    return math.ceil(math.log(alpha) / math.log1p(-rate))


def days_needed(units: int, per_day: float, *, share_of_traffic: float = 1.0) -> int:
    """Whole days until so many units were seen, of `per_day` new units and the share of them that takes
    part."""
    daily = per_day * share_of_traffic
    if not (daily > 0.0 and math.isfinite(daily)):
        raise ValueError(f"{daily:g} units a day: must be above 0")
    return math.ceil(units / daily)


def _units(
    difference: float,
    before: float,
    after: float,
    alpha: float,
    power: float,
    share: float,
    side: Side,
    watched: bool,
) -> int:
    verify_alpha(alpha)
    if not 0.0 < power < 1.0 or not 0.0 < share < 1.0:
        raise ValueError(f"power {power:g} and share {share:g}: must be between 0 and 1")
    if not difference * difference or not math.isfinite(difference):
        raise ValueError(f"a difference of {difference:g}: no number of units tells it from none")
    if watched:
        found = interval(0.0, 1.0, mixture(1, alpha=alpha, planned=1, side=side), n=1, alpha=alpha, side=side)
        certain = -found.low if side == "lower" else found.high
    else:
        certain = NormalDist().inv_cdf(1.0 - alpha / (2.0 if side == "both" else 1.0))
    reach = certain + NormalDist().inv_cdf(power)
    spread = before / (1.0 - share) + after / share
    return math.ceil(max(reach, 0.0) ** 2 * spread / (difference * difference) - 1e-9)
