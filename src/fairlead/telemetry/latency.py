"""The latency histogram that every part of Fairlead shares: its bucket bounds, and quantiles from counts.

Twenty buckets per decade from 10 µs to 100 s keep a quantile within 8 % of the truth, and counts of any two
blocks, minutes or machines simply add.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["BOUNDS", "BUCKETS", "PROMETHEUS_BOUNDS", "bucket_of", "quantile"]

_MANTISSAS = (
    1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.25, 2.5, 2.8, 3.2, 3.6, 4.0, 4.5, 5.0, 5.6, 6.3, 7.1, 7.5, 8.0, 9.0,
)  # fmt: skip

BOUNDS: tuple[float, ...] = (
    *(round(mantissa * 10.0**exponent, 12) for exponent in range(-5, 2) for mantissa in _MANTISSAS),
    100.0,
)
"""Upper bounds in seconds, inclusive. One more bucket holds whatever is slower than the last."""

BUCKETS = len(BOUNDS) + 1

PROMETHEUS_BOUNDS: tuple[float, ...] = (
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
"""The bounds that `/metrics` shows; each is one of `BOUNDS`, so its counts are exact sums."""


def bucket_of(seconds: float) -> int:
    """Index of the bucket that a latency falls into."""
    return bisect_left(BOUNDS, seconds)


def quantile(counts: Sequence[int], q: float) -> float | None:
    """The q-quantile in seconds by linear interpolation within its bucket; None without observations.

    A quantile in the last, open bucket is reported as its lower bound: "at least 100 s".
    """
    total = sum(counts)
    if not total:
        return None
    rank = q * total
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            if index >= len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[index - 1] if index else 0.0
            return low + (BOUNDS[index] - low) * max(0.0, rank - below) / count
        below += count
    return BOUNDS[-1]
