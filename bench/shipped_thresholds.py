"""Fixed thresholds as common tools ship them, computed as they do; `simulated_drift.py` shows them beside.

As in Evidently 0.7: Sturges' bins over both samples together for numbers, every single value for categories,
shares of 0 become 1e-4; chi-square of one sample. Missing values are dropped, as they are there.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.experiments.sample_ratio import chi_square_survival

__all__ = ["NAMES", "Shipped"]

Values = NDArray[Any]

NAMES = {
    "psi": "PSI of 0.1 or more",
    "js": "Jensen-Shannon distance of 0.1 or more",
    "p": "KS or chi-square p below 0.05",
    "w1": "Wasserstein over σ of 0.1 or more",
}
_FLOOR = 1e-4
_LEAST_STD = 0.001


class Shipped:
    """The present values of one field's reference; floats, or texts."""

    def __init__(self, reference: Values) -> None:
        self._numbers = reference.dtype == np.float64
        self._size = reference.size
        self._sorted = np.sort(reference) if self._numbers else reference
        self._counts = Counter(() if self._numbers else reference.tolist())
        self._std = max(float(reference.std()), _LEAST_STD) if self._numbers and self._size else 0.0

    def alarms(self, current: Values) -> dict[str, bool]:
        """Which rule alarms for a window's present values. Nothing alarms without values."""
        if not self._size or not current.size:
            return dict.fromkeys(NAMES, False)
        before, after = self._shares_of_numbers(current) if self._numbers else self._shares_of_texts(current)
        p, q = (np.where(shares == 0.0, _FLOOR, shares) for shares in (before, after))
        middle = (before + after) / 2.0
        divergence = (_kl(before, middle) + _kl(after, middle)) / 2.0
        if self._numbers:
            significance, moved = self._ks_and_wasserstein(np.sort(current))
        else:
            n, known = current.size, before > 0.0
            statistic = float((((after - before)[known] * n) ** 2 / (before[known] * n)).sum())
            significance, moved = chi_square_survival(statistic, int(known.sum()) - 1), 0.0
        return {
            "psi": float(((q - p) * np.log(q / p)).sum()) >= 0.1,
            "js": math.sqrt(max(0.0, divergence)) >= 0.1,
            "p": significance < 0.05,
            "w1": moved >= 0.1,
        }

    def _shares_of_numbers(self, current: Values) -> tuple[Values, Values]:
        edges = np.histogram_bin_edges(np.concatenate([self._sorted, current]), "sturges")
        before = np.diff(np.searchsorted(self._sorted, edges))
        before[-1] += self._size - before.sum()
        return before / self._size, np.histogram(current, edges)[0] / current.size

    def _shares_of_texts(self, current: Values) -> tuple[Values, Values]:
        after = Counter(current.tolist())
        names = list(self._counts | after)
        first = np.array([self._counts[name] for name in names]) / self._size
        return first, np.array([after[name] for name in names]) / current.size

    def _ks_and_wasserstein(self, current: Values) -> tuple[float, float]:
        """The asymptotic p of the Kolmogorov-Smirnov test of two samples, and the distance over σ."""
        both = np.sort(np.concatenate([self._sorted, current]), kind="stable")
        below = np.searchsorted(self._sorted, both, side="right") / self._size
        apart = np.abs(below - np.searchsorted(current, both, side="right") / current.size)
        moved = float((apart[:-1] * np.diff(both)).sum()) / self._std
        scaled = float(apart.max()) * math.sqrt(self._size * current.size / (self._size + current.size))
        if scaled < 0.2:
            return 1.0, moved
        terms = range(1, 101)
        p = 2.0 * sum((-1) ** (k - 1) * math.exp(-2.0 * (k * scaled) ** 2) for k in terms)
        return min(1.0, p), moved


def _kl(p: Values, q: Values) -> float:
    some = p > 0.0
    return float((p[some] * np.log(p[some] / q[some])).sum())
