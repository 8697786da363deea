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

__all__ = ["NAMES", "shipped"]

Values = NDArray[Any]

NAMES = {
    "psi": "PSI of 0.1 or more",
    "js": "Jensen-Shannon distance of 0.1 or more",
    "p": "KS or chi-square p below 0.05",
    "w1": "Wasserstein over σ of 0.1 or more",
}
_FLOOR = 1e-4
_LEAST_STD = 0.001


def shipped(reference: Values, current: Values) -> dict[str, bool]:
    """Which rule alarms for one field's present values. Nothing alarms without values."""
    if not reference.size or not current.size:
        return dict.fromkeys(NAMES, False)
    numbers = reference.dtype == np.float64
    before, after = (
        _shares_of_numbers(reference, current) if numbers else _shares_of_texts(reference, current)
    )
    p, q = (np.where(shares == 0.0, _FLOOR, shares) for shares in (before, after))
    middle = (before + after) / 2.0
    divergence = (_kl(before, middle) + _kl(after, middle)) / 2.0
    if numbers:
        significance = _ks(reference, current)
        moved = _wasserstein(reference, current)
    else:
        n = current.size
        known = before > 0.0
        statistic = float((((after - before)[known] * n) ** 2 / (before[known] * n)).sum())
        significance, moved = chi_square_survival(statistic, int(known.sum()) - 1), 0.0
    return {
        "psi": float(((q - p) * np.log(q / p)).sum()) >= 0.1,
        "js": math.sqrt(max(0.0, divergence)) >= 0.1,
        "p": significance < 0.05,
        "w1": moved >= 0.1,
    }


def _shares_of_numbers(reference: Values, current: Values) -> tuple[Values, Values]:
    edges = np.histogram_bin_edges(np.concatenate([reference, current]), "sturges")
    return tuple(np.histogram(values, edges)[0] / values.size for values in (reference, current))  # type: ignore[return-value]


def _shares_of_texts(reference: Values, current: Values) -> tuple[Values, Values]:
    before, after = Counter(reference.tolist()), Counter(current.tolist())
    names = list(before | after)
    first = np.array([before[name] for name in names]) / reference.size
    return first, np.array([after[name] for name in names]) / current.size


def _kl(p: Values, q: Values) -> float:
    some = p > 0.0
    return float((p[some] * np.log(p[some] / q[some])).sum())


def _ks(reference: Values, current: Values) -> float:
    """The asymptotic p of the Kolmogorov-Smirnov test of two samples."""
    both = np.unique(np.concatenate([reference, current]))
    apart = np.abs(_heights(reference, both) - _heights(current, both)).max()
    scaled = float(apart) * math.sqrt(reference.size * current.size / (reference.size + current.size))
    if scaled < 0.2:
        return 1.0
    terms = range(1, 101)
    return min(1.0, 2.0 * sum((-1) ** (k - 1) * math.exp(-2.0 * (k * scaled) ** 2) for k in terms))


def _wasserstein(reference: Values, current: Values) -> float:
    both = np.unique(np.concatenate([reference, current]))
    apart = np.abs(_heights(reference, both) - _heights(current, both))[:-1]
    return float((apart * np.diff(both)).sum()) / max(float(reference.std()), _LEAST_STD)


def _heights(values: Values, at: Values) -> Values:
    found: Values = np.searchsorted(np.sort(values), at, side="right") / values.size
    return found
