"""Intervals for one look that was fixed beforehand: a test set is judged once, and looking costs nothing.

For arms that are looked at again and again see `sequences.py`, which costs more units.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.sequences import Interval, verify_alpha

__all__ = ["UNKNOWN", "gap", "paired", "student", "wilson"]

Array = npt.NDArray[Any]
_NORMAL = NormalDist()

UNKNOWN = Interval(0.0, -math.inf, math.inf, math.inf, 0)
"""What fewer than two rows say."""


def student(p: float, degrees: float) -> float:
    """The quantile of Student's t, by four terms of its expansion around the normal one (Abramowitz &
    Stegun 26.7.5): within 0.1 % from 10 degrees of freedom and p between 0.0001 and 0.9999."""
    if not 0.0 < p < 1.0 or degrees <= 0.0:
        raise ValueError(f"no quantile {p:g} of t with {degrees:g} degrees of freedom")
    z = _NORMAL.inv_cdf(p)
    terms = (
        (z**3 + z) / 4.0,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96.0,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384.0,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160.0,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def paired(
    differences: Array, weights: Array | None = None, *, alpha: float = 0.05, events: bool = False
) -> Interval:
    """Where the weighted mean of per-row differences lies, alpha / 2 on either side, by Student's t.

    With `events` the differences are -1, 0 or 1 and two pseudo-rows join, half a row for each way that a pair
    can fall (Agresti & Min, Statistics in Medicine 24, 2005): rows that all agree still leave room for doubt.
    The estimate stays the plain mean. `UNKNOWN` for fewer than two rows, or where all weights are 0.
    """
    verify_alpha(alpha)
    values = np.asarray(differences, np.float64)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    if (weight < 0.0).any():
        raise ValueError("a weight is below 0")
    total, squares = float(weight.sum()), float((weight**2).sum())
    if len(values) < 2 or total <= 0.0:
        return UNKNOWN
    estimate = float((weight * values).sum()) / total
    effective = total * total / squares
    if effective < 2.0:
        return UNKNOWN
    times = np.ones(len(values))
    if events:
        usual = squares / total
        values = np.concatenate((values, (1.0, -1.0, 0.0)))
        weight = np.concatenate((weight, (usual, usual, usual)))
        times = np.concatenate((times, (0.5, 0.5, 1.0)))
    whole = float((times * weight).sum())
    centre = float((times * weight * values).sum()) / whole
    spread = float((times * weight**2 * (values - centre) ** 2).sum()) / whole**2
    se = math.sqrt(spread * effective / (effective - 1.0))
    half = student(1.0 - alpha / 2.0, effective - 1.0) * se
    return Interval(estimate, centre - half, centre + half, se, len(differences))


def wilson(arm: Proportion, *, alpha: float = 0.05) -> Interval:
    """Where a rate lies, alpha / 2 on either side (Wilson, JASA 22, 1927); 0 to 1 without units."""
    verify_alpha(alpha)
    if not arm.n:
        return Interval(0.0, 0.0, 1.0, math.inf, 0)
    z = _NORMAL.inv_cdf(1.0 - alpha / 2.0)
    rate = arm.successes / arm.n
    scale = 1.0 + z * z / arm.n
    centre = (rate + z * z / (2 * arm.n)) / scale
    half = z / scale * math.sqrt(rate * (1.0 - rate) / arm.n + z * z / (4.0 * arm.n**2))
    # The ends are 0 and 1 exactly where no unit, or every unit, had the event.
    low = 0.0 if not arm.successes else centre - half
    high = 1.0 if arm.successes == arm.n else centre + half
    return Interval(rate, low, high, math.sqrt(rate * (1.0 - rate) / arm.n), arm.n)


def gap(higher: Proportion, lower: Proportion, *, alpha: float = 0.05) -> Interval:
    """How far one rate lies above another of other units: Newcombe's hybrid of the two Wilson intervals
    (Statistics in Medicine 17, 1998, method 10)."""
    a, b = wilson(higher, alpha=alpha), wilson(lower, alpha=alpha)
    if not a.known or not b.known:
        return UNKNOWN
    estimate = a.estimate - b.estimate
    low = estimate - math.hypot(a.estimate - a.low, b.high - b.estimate)
    high = estimate + math.hypot(a.high - a.estimate, b.estimate - b.low)
    return Interval(estimate, low, high, math.hypot(a.se, b.se), min(a.n, b.n))
