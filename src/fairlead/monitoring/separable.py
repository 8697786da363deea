"""Whether two samples of rows can be told apart by all their fields together: a domain classifier. Pure.

Fields that each look as ever may hang together otherwise than before. So a ridge logistic regression learns
to tell which sample a row is of, from numbers, their squares and products, and categories; each fifth of the
rows is scored by a model of the others. The area under the curve is 0.5 where nobody can tell them apart, and
1 where everybody can (Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", 2017); its interval is
that of DeLong, DeLong & Clarke-Pearson (1988).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ["FLOOR", "Separated", "separate"]

Array = npt.NDArray[np.float64]

FLOOR = 0.55
"""An area below this is told, and matters to nobody."""
_FOLDS = 5
_LEAST_ROWS = 200
_MOST_CATEGORIES = 20
_MOST_MULTIPLIED = 12
"""Of so many numbers, those that spread most evenly, all products are taken."""
_FAR = 5.0
_RIDGE = 10.0
_STEPS = 8
_MOST_LEADING = 5


class Separated(msgspec.Struct, frozen=True, kw_only=True):
    """How well rows of a window can be told from those of a reference.

    `auc` lies between `low` and `high` with 95 %; `p` is the chance of so much or more where nobody can tell.
    An alarm where p is at most the level and the area `FLOOR` or more. `leading` names the fields, or pairs
    of them, that tell most, with their share of what the classifier goes by. `problem` says what is missing.
    """

    status: Literal["ok", "alarm", "insufficient"]
    n: int
    reference_n: int
    auc: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    leading: tuple[tuple[str, float], ...] = ()
    problem: str = ""


def separate(
    reference: Mapping[str, Sequence[Any]],
    current: Mapping[str, Sequence[Any]],
    *,
    level: float,
    generator: np.random.Generator,
) -> Separated:
    """How well a classifier tells the samples apart: columns by name, scalars or None; lists are left out.

    Columns that one of them lacks are left out. No values raise; too few rows, or nothing that varies, are
    insufficient.
    """
    names = [name for name in reference if name in current]
    n, m = (len(held[names[0]]) if names else 0 for held in (current, reference))
    if min(n, m) < _LEAST_ROWS:
        problem = f"There are {n:,} rows and {m:,} of the reference; {_LEAST_ROWS} of each are needed."
        return Separated(status="insufficient", n=n, reference_n=m, problem=problem)
    columns, made_of = _columns({name: [*reference[name], *current[name]] for name in names})
    if not made_of:
        return Separated(status="insufficient", n=n, reference_n=m, problem="No field varies.")
    table = np.column_stack([np.ones(n + m), *columns])
    truth = np.concatenate([np.zeros(m), np.ones(n)])
    fold = _folds(truth, generator)
    areas, weights = [], np.zeros(len(made_of))
    for place in range(_FOLDS):
        learnt, held = fold != place, fold == place
        beta = _fit(table[learnt], truth[learnt])
        areas.append(_area(table[held] @ beta, truth[held] > 0.5))
        weights += np.abs(beta[1:])
    auc = sum(area for area, _ in areas) / _FOLDS
    error = math.sqrt(sum(variance for _, variance in areas)) / _FOLDS
    p = 0.5 * math.erfc((auc - 0.5) / (error * math.sqrt(2.0))) if error else float(auc <= 0.5)
    return Separated(
        status="alarm" if p <= level and auc >= FLOOR else "ok",
        n=n,
        reference_n=m,
        auc=auc,
        low=max(0.0, auc - 1.96 * error),
        high=min(1.0, auc + 1.96 * error),
        p=p,
        leading=_leading(weights, made_of),
    )


# --- columns ------------------------------------------------------------------------------------------------


def _columns(fields: Mapping[str, list[Any]]) -> tuple[list[Array], list[str]]:
    """What the classifier sees, each with mean 0 and variance 1, and which field or pair it is made of."""
    found: list[Array] = []
    made_of: list[str] = []
    numbers: dict[str, Array] = {}

    def add(name: str, values: Array) -> None:
        spread = float(values.std())
        if spread > 1e-9:
            found.append((values - values.mean()) / spread)
            made_of.append(name)

    for name, values in fields.items():
        if any(isinstance(value, list) for value in values):
            continue
        add(name, np.array([value is None for value in values], np.float64))
        if all(value is None or _is_number(value) for value in values):
            scaled = _scaled(values)
            if scaled is not None:
                numbers[name] = scaled
                add(name, scaled)
                add(name, scaled * scaled)
        else:
            for category, _ in Counter(map(str, values)).most_common(_MOST_CATEGORIES):
                add(name, np.array([str(value) == category for value in values], np.float64))
    evenest = sorted(numbers, key=lambda name: float(np.mean(numbers[name] ** 4)))[:_MOST_MULTIPLIED]
    for one, other in itertools.combinations([name for name in numbers if name in evenest], 2):
        add(f"{one} × {other}", numbers[one] * numbers[other])
    return found, made_of


def _scaled(values: list[Any]) -> Array | None:
    """Deviations from the median in quarters' distances, no further than `_FAR`; 0 where nothing is known."""
    known = np.array([np.nan if value is None else float(value) for value in values])
    known[~np.isfinite(known)] = np.nan
    if np.isnan(known).all():
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        low, middle, high = np.nanquantile(known, (0.25, 0.5, 0.75))
        width = (high - low) / 1.349 or float(np.nanstd(known))
        if not math.isfinite(width) or width <= 0.0:
            return None
        found: Array = np.nan_to_num(np.clip((known - middle) / width, -_FAR, _FAR))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- classifier ---------------------------------------------------------------------------------------------


def _folds(truth: Array, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which fifth each row is in: as many of either sample in each."""
    found = np.empty(truth.size, np.int64)
    for kind in (0.0, 1.0):
        rows = generator.permutation(np.flatnonzero(truth == kind))
        found[rows] = np.arange(rows.size) % _FOLDS
    return found


def _fit(table: Array, truth: Array) -> Array:
    """Ridge logistic regression by Newton's steps; both samples weigh the same, the constant is free."""
    share = truth.mean()
    weight = np.where(truth > 0.5, 0.5 / share, 0.5 / (1.0 - share))
    ridge = np.full(table.shape[1], _RIDGE)
    ridge[0] = 1e-6
    beta = np.zeros(table.shape[1])
    for _ in range(_STEPS):
        fitted = 1.0 / (1.0 + np.exp(-np.clip(table @ beta, -30.0, 30.0)))
        curvature = weight * fitted * (1.0 - fitted) + 1e-9
        slope = table.T @ (weight * (truth - fitted)) - ridge * beta
        step = np.linalg.solve((table.T * curvature) @ table + np.diag(ridge), slope)
        beta = beta + step
        if float(np.abs(step).max()) < 1e-4:
            break
    return beta


def _area(scores: Array, positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The area under the curve, and its variance (DeLong); ties count half."""
    above, below = np.sort(scores[positive]), np.sort(scores[~positive])
    of_above = _places(below, above)
    of_below = 1.0 - _places(above, below)
    variance = of_above.var(ddof=1) / above.size + of_below.var(ddof=1) / below.size
    return float(of_above.mean()), float(variance)


def _places(among: Array, values: Array) -> Array:
    """The share of `among` that lies below each value."""
    left, right = (np.searchsorted(among, values, side=side) for side in ("left", "right"))
    found: Array = (left + right) / (2.0 * among.size)
    return found


def _leading(weights: Array, made_of: list[str]) -> tuple[tuple[str, float], ...]:
    told: Counter[str] = Counter()
    for name, weight in zip(made_of, weights.tolist(), strict=True):
        told[name] += weight
    total = sum(told.values()) or 1.0
    return tuple((name, weight / total) for name, weight in told.most_common(_MOST_LEADING))
