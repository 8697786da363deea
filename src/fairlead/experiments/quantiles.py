"""Latency quantiles of two arms, compared from their histograms (`telemetry/latency.py`), at every look.

Of n latencies, those up to the q-quantile are a binomial count of chance q; so a bucket can hold the quantile
only while that count, which lies between those of its two edges, is not refuted by the beta-binomial mixture
(Howard & Ramdas, "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", arXiv 1906.09712, theorem 1b and section 5). The mixture is narrowest at the planned number
of requests. Bounds are edges of buckets, so they err to the wide side by a bucket. Latencies that hang
together, such as those of one overloaded minute, know less than their number says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from fairlead.experiments.exact import beta_binomial_log_e
from fairlead.experiments.sequences import Interval, mixture, verify_alpha
from fairlead.telemetry.latency import BOUNDS, BUCKETS, quantile

__all__ = ["quantile_interval", "quantile_ratio", "shift", "slower"]

_NOTHING = Interval(0.0, -math.inf, math.inf, math.inf, 0)


def quantile_interval(
    counts: Sequence[int], q: float, alpha: float = 0.05, *, planned: int = 5000
) -> Interval:
    """The q-quantile in seconds of one histogram of `BUCKETS` counts.

    `planned`: the number of requests at which one expects to decide. Where the quantile may lie in the last,
    open bucket, `high` is infinite. Says nothing without requests. Raises ValueError for another number of
    buckets, negative counts, or q outside (0, 1).
    """
    verify_alpha(alpha)
    counts = _verified(counts, q)
    n = sum(counts)
    evidence = _evidence(counts, q, alpha, planned)
    limit = math.log(1.0 / alpha)
    estimate = quantile(counts, q)
    if estimate is None:
        return _NOTHING
    possible = [index for index, against in enumerate(evidence) if against < limit]
    low, high = _low(possible[0]), _high(possible[-1])
    return Interval(estimate, low, high, _woodruff(counts, q, n), n)


def quantile_ratio(
    control: Sequence[int], treated: Sequence[int], q: float, alpha: float = 0.05, *, planned: int = 5000
) -> Interval:
    """The treated arm's q-quantile by the control's: 1.2 is twenty percent slower.

    `planned`: the number of requests of both arms at which one expects to decide. All ratios of two buckets
    whose evidence together is below 1 / alpha, from the nearest to the farthest edges. Says nothing while an
    arm has no requests. Raises as `quantile_interval`.
    """
    verify_alpha(alpha)
    control, treated = _verified(control, q), _verified(treated, q)
    n = sum(control) + sum(treated)
    before, after = quantile(control, q), quantile(treated, q)
    if not before or not after:
        return Interval(0.0, -math.inf, math.inf, math.inf, n)
    limit = math.log(1.0 / alpha)
    half = max(planned // 2, 1)
    against_control = _evidence(control, q, alpha, half)
    against_treated = _evidence(treated, q, alpha, half)
    low, high = math.inf, 0.0
    least = min(against_treated)
    for base, spent in enumerate(against_control):
        if spent + least >= limit:
            continue  # as with nearly all buckets
        possible = [index for index, against in enumerate(against_treated) if spent + against < limit]
        low = min(low, _low(possible[0]) / _high(base))
        high = max(high, _high(possible[-1]) / _low(base) if base else math.inf)
    ratio = after / before
    noise = _woodruff(control, q, sum(control)) / before, _woodruff(treated, q, sum(treated)) / after
    return Interval(ratio, low, high, ratio * math.hypot(*noise), n)


def slower(control: Sequence[int], treated: Sequence[int]) -> float | None:
    """How often a request of the treated arm is slower than one of control, ties counting half (CLES, the
    Mann-Whitney U over its pairs): 0.5 is no difference. None while an arm has no requests."""
    control, treated = _verified(control, 0.5), _verified(treated, 0.5)
    pairs = sum(control) * sum(treated)
    if not pairs:
        return None
    below, wins = 0, 0.0
    for a, b in zip(control, treated, strict=True):
        wins += b * (below + a / 2.0)
        below += a
    return wins / pairs


def shift(control: Sequence[int], treated: Sequence[int]) -> float | None:
    """By how many seconds the treated arm is slower: the median difference of all pairs (Hodges & Lehmann
    1963), to a bucket's width. None while an arm has no requests."""
    control, treated = _verified(control, 0.5), _verified(treated, 0.5)
    if not sum(control) or not sum(treated):
        return None
    differences = np.subtract.outer(_MIDDLES, _MIDDLES).ravel()
    weights = np.outer(np.asarray(treated, float), np.asarray(control, float)).ravel()
    order = np.argsort(differences, kind="stable")
    reached = np.cumsum(weights[order])
    return float(differences[order[np.searchsorted(reached, reached[-1] / 2.0)]])


def _evidence(counts: Sequence[int], q: float, alpha: float, planned: int) -> list[float]:
    """Per bucket, the least evidence against the quantile's lying in it."""
    n = sum(counts)
    strength = 1.0 / mixture(1, alpha=alpha, planned=planned)
    a, b = strength * q, strength * (1.0 - q)
    # The evidence is convex in the count, and least where the count is what the quantile makes one expect.
    centre = q * n
    found = []
    known: dict[int, float] = {}  # buckets without a request share their counts with the one before
    for upto, count in zip(accumulate(counts), counts, strict=True):
        nearest = min(max(centre, upto - count), upto)
        whole = {min(max(candidate, upto - count), upto) for candidate in (int(nearest), int(nearest) + 1)}
        for one in whole - known.keys():
            known[one] = beta_binomial_log_e(one, n, q, a, b)
        found.append(min(known[one] for one in whole))
    return found


def _woodruff(counts: Sequence[int], q: float, n: int) -> float:
    """A quantile's standard error: half the way between those one standard error of rank away (Woodruff
    1952)."""
    room = math.sqrt(q * (1.0 - q) / n)
    low, high = quantile(counts, max(q - room, 0.0)), quantile(counts, min(q + room, 1.0))
    return ((high or 0.0) - (low or 0.0)) / 2.0


def _low(bucket: int) -> float:
    return BOUNDS[bucket - 1] if bucket else 0.0


def _high(bucket: int) -> float:
    return BOUNDS[bucket] if bucket < len(BOUNDS) else math.inf


_MIDDLES: NDArray[np.float64] = np.array(
    [(_low(bucket) + min(_high(bucket), BOUNDS[-1])) / 2.0 for bucket in range(BUCKETS)]
)


def _verified(counts: Sequence[int], q: float) -> list[int]:
    if len(counts) != BUCKETS:
        raise ValueError(f"a histogram of {len(counts)} buckets: must have {BUCKETS}")
    if min(counts) < 0:
        raise ValueError("a bucket with fewer than 0 requests")
    if not 0.0 < q < 1.0:
        raise ValueError(f"q is {q:g}: must be between 0 and 1")
    return [int(count) for count in counts]
