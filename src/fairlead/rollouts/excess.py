"""Whether an arm's rate is above a fixed limit beyond chance: exact at every look and any count."""

from __future__ import annotations

import math

from fairlead.experiments.aggregates import Proportion

__all__ = ["exceeds", "log_excess"]

_FACTORS = tuple(1.2 * 1.25**i for i in range(24))
"""How many times the limit's odds are looked for: from a fifth more to two hundred times as many."""


def log_excess(arm: Proportion, limit: float) -> float:
    """Logarithm of the evidence that the arm's rate is above `limit`. While the rate is not, this passes
    ln(1 / alpha) at any look with probability alpha at most.

    The mean of likelihood ratios of rates above the limit to the limit. Each is a supermartingale under every
    rate up to it: a success multiplies it by more than 1, anything else by less, and under the limit itself
    its mean stays (Wald 1945; Ville 1939). One-sided: it takes fewer events than an interval's lower bound.
    """
    if not 0.0 < limit < 1.0:
        raise ValueError(f"the limit is {limit:g}: must be between 0 and 1")
    if not arm.n:
        return 0.0
    odds = limit / (1.0 - limit)
    terms = []
    for factor in _FACTORS:
        rate = factor * odds / (1.0 + factor * odds)
        terms.append(
            arm.successes * math.log(rate / limit)
            + (arm.n - arm.successes) * math.log((1.0 - rate) / (1.0 - limit))
        )
    most = max(terms)
    return most + math.log(math.fsum(math.exp(term - most) for term in terms) / len(terms))


def exceeds(arm: Proportion, limit: float, alpha: float) -> bool:
    """Whether the arm's rate is above the limit, where that is wrong with probability alpha at most, however
    often one looks. A limit of 1 or more is never exceeded."""
    return limit < 1.0 and log_excess(arm, limit) >= math.log(1.0 / alpha)
