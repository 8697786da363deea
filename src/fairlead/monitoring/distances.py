"""How far what came lies from the reference, from counts on the same bins. Pure.

A field's histogram holds all that came: the bins of its values, then one bin for missing values and one for
misfits. So a surge of either is a distance like any other. Formulas: Lin, "Divergence measures based on the
Shannon entropy" (1991) for Jensen-Shannon; Yurdakul, "Statistical properties of the population stability
index" (2018) for PSI, which is the sum of both Kullback-Leibler divergences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.counts import Bins, FieldCounts
from fairlead.contracts.profile import NumberProfile
from fairlead.experiments.sample_ratio import chi_square_survival

__all__ = [
    "MEASURES", "ChiSquare", "chi_square", "distances", "g_test", "hellinger", "histogram", "js_distance",
    "js_divergence", "l_infinity", "psi", "total_variation", "wasserstein",
]  # fmt: skip

Counts = Sequence[float] | npt.NDArray[Any]

_HALF = 0.5
"""What PSI adds to every bin where one of two samples left a bin empty."""


class ChiSquare(msgspec.Struct, frozen=True):
    """A test of two samples coming from one distribution: the statistic, its degrees of freedom, and p."""

    statistic: float
    freedom: int
    p: float


def histogram(held: FieldCounts) -> npt.NDArray[np.float64]:
    """All that came in a field: its bins, then missing values, then misfits."""
    return np.array([*held.counts, held.nulls, held.misfits], dtype=np.float64)


def psi(reference: Counts, current: Counts) -> float:
    """The population stability index: the sum of (q - p) ln(q / p), 0 for the same shares.

    Bins that are empty in both do not count. Where one is empty in one of them, half a count is added to
    each bin of both; without that PSI would be infinite, and a smaller addition would make it arbitrarily
    large. Raises ValueError, as all distances do, for different bins or a sample without any value.
    """
    first, second = _counts(reference, current)
    seen = (first + second) > 0.0
    first, second = first[seen], second[seen]
    if not (first.all() and second.all()):
        first, second = first + _HALF, second + _HALF
    p, q = first / first.sum(), second / second.sum()
    return float(((q - p) * np.log(q / p)).sum())


def js_divergence(reference: Counts, current: Counts, *, base: float = 2.0) -> float:
    """Jensen-Shannon divergence: half the Kullback-Leibler divergences from both to their middle. In base 2
    between 0 and 1. Needs no smoothing."""
    p, q = _shares(reference, current)
    middle = (p + q) / 2.0
    found = (_kullback_leibler(p, middle) + _kullback_leibler(q, middle)) / 2.0
    return max(0.0, found) / math.log(base)


def js_distance(reference: Counts, current: Counts, *, base: float = 2.0) -> float:
    """The square root of the Jensen-Shannon divergence: a metric."""
    return math.sqrt(js_divergence(reference, current, base=base))


def l_infinity(reference: Counts, current: Counts) -> float:
    """The largest difference of one bin's share."""
    p, q = _shares(reference, current)
    return float(np.abs(q - p).max())


def total_variation(reference: Counts, current: Counts) -> float:
    """The share that would have to move to make one of them the other: half the sum of all differences."""
    p, q = _shares(reference, current)
    return float(np.abs(q - p).sum() / 2.0)


def hellinger(reference: Counts, current: Counts) -> float:
    """Hellinger distance: the root of 1 - sum of sqrt(p q), between 0 and 1."""
    p, q = _shares(reference, current)
    return math.sqrt(max(0.0, 1.0 - float(np.sqrt(p * q).sum())))


def chi_square(reference: Counts, current: Counts) -> ChiSquare:
    """Pearson's test of a table of two rows, so that the reference counts as the sample that it is and not as
    the truth. Bins that are empty in both do not count."""
    first, second = _filled(reference, current)
    expected = _expected(first, second)
    found = float(((np.stack([first, second]) - expected) ** 2 / expected).sum())
    freedom = first.size - 1
    return ChiSquare(found, freedom, chi_square_survival(found, freedom))


def g_test(reference: Counts, current: Counts) -> ChiSquare:
    """The likelihood ratio's test of the same table. Where chi-square's p is far too small, as it is in the
    far tail of bins that hold little, this one is not (Woolf 1957; Quine & Robinson 1985)."""
    first, second = _filled(reference, current)
    observed, expected = np.stack([first, second]), _expected(first, second)
    some = observed > 0.0
    found = 2.0 * float((observed[some] * np.log(observed[some] / expected[some])).sum())
    freedom = first.size - 1
    return ChiSquare(max(0.0, found), freedom, chi_square_survival(found, freedom))


def wasserstein(bins: Bins, reference: FieldCounts, current: FieldCounts) -> float | None:
    """How far values would have to be moved on average, in standard deviations of the reference:
    Wasserstein-1 between numbers whose mass lies evenly within each bin.

    What lies outside all edges is taken to reach as far as it was seen to, but no further than the width of
    all bins: one absurd value is no shift of all. The part that moved one way on balance is no more than
    what the means, which are exact, say. None where values are no numbers or do not spread, and for a sample
    without numbers.
    """
    if not isinstance(bins, NumberProfile) or not bins.std or len(bins.edges) < 2:
        return None
    if not reference.n or not current.n:
        return None
    edges = np.asarray(bins.edges, dtype=np.float64)
    reach = edges[-1] - edges[0]
    if not math.isfinite(reach) or reach <= 0.0:
        return None
    lows = [one.low for one in (reference, current) if one.low is not None]
    highs = [one.high for one in (reference, current) if one.high is not None]
    low = min(max(min(lows, default=edges[0]), edges[0] - reach), edges[0])
    high = max(min(max(highs, default=edges[-1]), edges[-1] + reach), edges[-1])
    points = np.concatenate(([low], edges, [high]))
    p, q = _shares(reference.counts, current.counts)
    apart = np.concatenate(([0.0], np.cumsum(q - p)))
    width = np.diff(points)
    balance = abs(float(((apart[:-1] + apart[1:]) * width).sum() / 2.0))
    known = min(balance, abs(current.mean - reference.mean))
    return (_area(apart, width) - balance + known) / bins.std


MEASURES: dict[str, Callable[[Counts, Counts], float]] = {
    "psi": psi,
    "js-divergence-base-2": js_divergence,
    "js-distance-base-2": js_distance,
    "l-infinity": l_infinity,
    "total-variation": total_variation,
    "hellinger": hellinger,
}
"""Every distance of two histograms under the name of its exact variant."""


def distances(bins: Bins, reference: FieldCounts, current: FieldCounts) -> dict[str, float]:
    """Every distance that can be measured, by the name of its variant: those of `MEASURES`, the statistic
    "chi-square", and "wasserstein-1-over-std" where there is one. Raises ValueError as `psi` does."""
    first, second = histogram(reference), histogram(current)
    found = {name: measure(first, second) for name, measure in MEASURES.items()}
    found["chi-square"] = chi_square(first, second).statistic
    moved = wasserstein(bins, reference, current)
    return found if moved is None else found | {"wasserstein-1-over-std": moved}


def _counts(reference: Counts, current: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, second = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"counts of {first.size} bins are compared with counts of {second.size}")
    if not first.sum() > 0.0 or not second.sum() > 0.0:
        raise ValueError("a sample without any value has no distance from anything")
    return first, second


def _shares(reference: Counts, current: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, second = _counts(reference, current)
    return first / first.sum(), second / second.sum()


def _filled(reference: Counts, current: Counts) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    first, second = _counts(reference, current)
    some = (first + second) > 0.0
    return first[some], second[some]


def _expected(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    both = first + second
    found: npt.NDArray[np.float64] = np.outer([first.sum(), second.sum()], both / both.sum())
    return found


def _kullback_leibler(p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> float:
    some = p > 0.0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _area(heights: npt.NDArray[np.float64], width: npt.NDArray[np.float64]) -> float:
    """The area between 0 and straight lines between those heights, so wide apart, where they cross 0 as
    well."""
    left, right = heights[:-1], heights[1:]
    size = np.abs(left) + np.abs(right)
    crosses = left * right < 0.0
    halves = np.where(crosses, (left * left + right * right) / np.where(size > 0.0, size, 1.0), size)
    return float((halves * width).sum() / 2.0)
