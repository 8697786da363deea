"""What holds at any count, however small: for first looks, rare failures and arms without any event."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.sample_ratio import log_evidence
from fairlead.experiments.sequences import Interval, verify_alpha

__all__ = ["beta_binomial_log_e", "clopper_pearson", "conversions_log_e", "exact_level", "fisher"]

_HALVINGS = 60
_PORTION = 4096


def conversions_log_e(
    control: Proportion, treated: Proportion, *, share: float = 0.5, k: float = 5.0
) -> float:
    """Logarithm of the evidence that the two rates differ, from the events alone; valid at every look.

    Under equal rates the next event falls to the treated arm with probability `share`, its part of the
    traffic of both, whatever the rate does over time (Lindon & Malek 2022). Needs units that were randomised
    by that share, and no sample ratio mismatch. `k` as in `sample_ratio`; few events show only large
    differences, so it is small.
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"the treated arm's share is {share:g}: must be between 0 and 1")
    events = {"control": control.successes, "treated": treated.successes}
    return log_evidence(events, {"control": 1.0 - share, "treated": share}, k=k)


def exact_level(arm: Proportion, *, alpha: float = 0.05) -> Interval:
    """Where an arm's rate lies, at every look and any count.

    All rates against which the beta-binomial mixture with a Beta(1/2, 1/2) prior has less evidence than
    1 / alpha (Robbins 1970; Howard & Ramdas, arXiv 1906.09712). Wider than `clopper_pearson`, which is for
    one look. 0 to 1 without units.
    """
    verify_alpha(alpha)
    if not arm.n:
        return Interval(0.0, 0.0, 1.0, math.inf, 0)
    limit = math.log(1.0 / alpha)
    rate = arm.successes / arm.n

    def refuted(p: float) -> bool:
        return beta_binomial_log_e(arm.successes, arm.n, p, 0.5, 0.5) >= limit

    low = _edge(0.0, rate, refuted) if arm.successes else 0.0
    high = _edge(1.0, rate, refuted) if arm.successes < arm.n else 1.0
    return Interval(rate, low, high, _se(arm), arm.n)


def clopper_pearson(arm: Proportion, *, alpha: float = 0.05) -> Interval:
    """Where an arm's rate lies, for one look that was fixed beforehand; alpha / 2 on either side.

    An upper bound alone at 95 % is `high` at alpha = 0.1; without an event that is 1 - 0.05^(1/n), which the
    rule of three rounds to 3 / n. 0 to 1 without units. (Clopper & Pearson, Biometrika 26, 1934.)
    """
    verify_alpha(alpha)
    if not arm.n:
        return Interval(0.0, 0.0, 1.0, math.inf, 0)
    tail = alpha / 2.0
    rate = arm.successes / arm.n
    failures = arm.n - arm.successes
    low = (
        _edge(0.0, rate, lambda p: 1.0 - _at_most(arm.successes - 1, arm.n, p) < tail)
        if arm.successes
        else 0.0
    )
    high = _edge(1.0, rate, lambda p: _at_most(arm.successes, arm.n, p) < tail) if failures else 1.0
    return Interval(rate, low, high, _se(arm), arm.n)


def fisher(control: Proportion, treated: Proportion) -> float:
    """The p-value of two rates being one, for one look, at any count: twice the smaller tail of the
    hypergeometric distribution of the treated arm's events among those of both (Fisher 1935). 1 without
    units on either side."""
    if not control.n or not treated.n:
        return 1.0
    events = control.successes + treated.successes
    more = _hypergeometric_tail(treated.successes, treated.n, events, control.n + treated.n)
    fewer = _hypergeometric_tail(control.successes, control.n, events, control.n + treated.n)
    return min(1.0, 2.0 * min(more, fewer))


def beta_binomial_log_e(successes: int, n: int, p: float, a: float, b: float) -> float:
    """Logarithm of the evidence against the rate `p` in `successes` of `n`, mixed over Beta(a, b)."""
    failures = n - successes
    if (p <= 0.0 and successes) or (p >= 1.0 and failures):
        return math.inf
    found = math.lgamma(a + successes) + math.lgamma(b + failures) - math.lgamma(a + b + n)
    found -= math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    if successes:
        found -= successes * math.log(p)
    if failures:
        found -= failures * math.log1p(-p)
    return found


def _edge(outside: float, inside: float, refuted: Callable[[float], bool]) -> float:
    """The last rate on the way from `inside` to `outside` that is not refuted, erring to the outside."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2.0
        if refuted(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _at_most(events: int, n: int, p: float) -> float:
    """P(X <= events) for a binomial of n and 0 < p < 1."""
    steps = np.arange(events)
    logs = np.concatenate(([0.0], np.cumsum(np.log((n - steps) / (steps + 1.0)))))
    logs += np.arange(events + 1) * (math.log(p) - math.log1p(-p)) + n * math.log1p(-p)
    return float(np.exp(logs).sum())


def _hypergeometric_tail(least: int, drawn: int, events: int, n: int) -> float:
    """P(X >= least) where X of `events` among n are with the `drawn`."""
    most = min(drawn, events)
    first = max(least, drawn + events - n, 0)
    if first > most:
        return 0.0
    # Summed from the first term on, each from the one before, until the rest cannot be seen any more.
    log_term = _log_choose(events, first) + _log_choose(n - events, drawn - first) - _log_choose(n, drawn)
    total = 0.0
    while True:
        steps = np.arange(first, min(first + _PORTION, most), dtype=np.float64)
        ratios = np.log((events - steps) * (drawn - steps)) - np.log(
            (steps + 1.0) * (n - events - drawn + steps + 1.0)
        )
        logs = log_term + np.concatenate(([0.0], np.cumsum(ratios)))
        total += float(np.exp(logs[:_PORTION]).sum())
        first += _PORTION
        if first > most or (logs[-1] < math.log(max(total, 5e-324)) - 40.0 and ratios[-1] < 0.0):
            return min(1.0, total)
        log_term = float(logs[-1])


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _se(arm: Proportion) -> float:
    return math.sqrt((arm.variance or 0.0) / arm.n)
