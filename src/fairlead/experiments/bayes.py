"""How likely the treated arm is better, and what shipping it may cost: for the report, never to stop by.

Two Beta(1, 1) priors. Looked at every day, "95 % likely better" errs as often as any test that is looked at
every day; verdicts come from `sequences.py`.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from fairlead.experiments.aggregates import Proportion

__all__ = ["Belief", "belief", "belief_of_difference"]

_EXACT = 100_000
"""Above so many successes of an arm the sum over them gives way to the normal approximation, which then
agrees."""


class Belief(msgspec.Struct, frozen=True):
    """`better`: P(treated > control). `loss_if_shipped`, `loss_if_kept`: by how much, in the rate's own unit,
    one expects to have chosen the worse arm, counting 0 where one chose the better."""

    better: float
    loss_if_shipped: float
    loss_if_kept: float


def belief(control: Proportion, treated: Proportion) -> Belief:
    """What two counts make one believe; without units 0.5 and what two flat priors say."""
    a, b = 1 + control.successes, 1 + control.n - control.successes
    c, d = 1 + treated.successes, 1 + treated.n - treated.successes
    if max(a, c) > _EXACT:
        return _by_normals(a, b, c, d)
    better = _above(a, b, c, d)
    before, after = a / (a + b), c / (c + d)
    # E[(x - y)+] = E[x] P(x' > y) - E[y] P(x > y'), where ' has one success more.
    shipped = before * (1.0 - _above(a + 1, b, c, d)) - after * (1.0 - _above(a, b, c + 1, d))
    kept = after * _above(a, b, c + 1, d) - before * _above(a + 1, b, c, d)
    return Belief(better, max(shipped, 0.0), max(kept, 0.0))


def belief_of_difference(rise: float, se: float) -> Belief:
    """The same of any estimate that is about normal, `rise` being treated minus control, under a flat prior
    (GrowthBook's `gbstats`: chance to win Phi(r / se), risk se phi(r / se) - r Phi(-r / se)). Of a standard
    error of 0 or infinity nothing is believed."""
    if not (0.0 < se < math.inf):
        return Belief(0.5, 0.0, 0.0)
    z = rise / se
    density = math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi)
    better, worse = math.erfc(-z / math.sqrt(2.0)) / 2.0, math.erfc(z / math.sqrt(2.0)) / 2.0
    return Belief(better, max(se * density - rise * worse, 0.0), max(se * density + rise * better, 0.0))


def _above(a: int, b: int, c: int, d: int) -> float:
    """P(Beta(c, d) > Beta(a, b)): the sum over i < c of B(a + i, b + d) / ((d + i) B(1 + i, d) B(a, b))
    (Miller 2014, "Formulas for Bayesian A/B testing")."""
    first = _log_beta(a, b + d) - _log_beta(a, b)
    i = np.arange(c - 1, dtype=np.float64)
    steps = np.log((a + i) / (a + b + d + i)) + np.log((d + i) / (1.0 + i))
    logs = first + np.concatenate(([0.0], np.cumsum(steps)))
    return min(float(np.exp(logs).sum()), 1.0)


def _by_normals(a: int, b: int, c: int, d: int) -> Belief:
    before, after = a / (a + b), c / (c + d)
    se = math.sqrt(before * b / (a + b) / (a + b + 1) + after * d / (c + d) / (c + d + 1))
    return belief_of_difference(after - before, se)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
