"""How large a model's errors are before labels come: direct loss estimation. Pure.

The size of the error is learned from labelled rows, of the features and the answer, by boosted regression
trees over bins (Friedman, Annals of Statistics 29, 2001; with histograms as LightGBM has them), and its mean
over other rows is what is expected of them. A sum of parts per feature is not enough: where an answer is
wrong often hangs on several features together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.monitoring.estimates import LEAST_LABELLED, Estimate

__all__ = ["LossModel", "expected_loss", "learn_loss"]

Array = npt.NDArray[Any]
_ROUNDS, _RATE, _DEPTH, _LEAST_ROWS = 150, 0.1, 4, 20
_BINS = 32
_FOLDS = 2
_RARE = 5
"""A category with fewer labelled rows is as good as unknown."""


class _Coding(NamedTuple):
    """How a column becomes small whole numbers: by edges, or by what each category is called. 0 is no value,
    the last code what labelled rows have not shown."""

    edges: Array | None
    codes: Mapping[str, int]
    low: float
    high: float

    @property
    def unseen(self) -> int:
        return _BINS + 1

    def of(self, values: Sequence[Any]) -> Array:
        if self.edges is None:
            named = [0 if value is None else self.codes.get(str(value), self.unseen) for value in values]
            return np.array(named, np.int64)
        numbers = np.array([_number(value) for value in values], np.float64)
        found: Array = 1 + np.searchsorted(self.edges, np.nan_to_num(numbers), side="right")
        found[np.isnan(numbers)] = 0
        found[(numbers < self.low) | (numbers > self.high)] = self.unseen
        return found


class _Tree(NamedTuple):
    """Per node of a full tree the column and the code up to which a row goes left; then the leaves."""

    column: Array
    code: Array
    leaves: Array


class LossModel(NamedTuple):
    """What was learned from `n` rows. `spread` is the standard deviation of the sizes around what is expected
    of rows that were not learned from."""

    names: tuple[str, ...]
    codings: tuple[_Coding, ...]
    base: float
    trees: tuple[_Tree, ...]
    spread: float
    n: int


def learn_loss(columns: Mapping[str, Sequence[Any]], sizes: Sequence[float]) -> LossModel | None:
    """Learns the size of errors: columns by name, scalars or None; lists are left out. None with fewer than
    300 rows of a finite size."""
    size = np.asarray(sizes, np.float64)
    finite = np.isfinite(size)
    if int(finite.sum()) < LEAST_LABELLED:
        return None
    kept = np.flatnonzero(finite).tolist()
    held = {
        name: [values[row] for row in kept]
        for name, values in columns.items()
        if not any(isinstance(value, list) for value in values)
    }
    codings = tuple(_coding(values, size[finite]) for values in held.values())
    table = _coded(codings, tuple(held.values()), len(kept))
    left_over = np.empty(len(kept))
    fold = np.arange(len(kept)) % _FOLDS
    for place in range(_FOLDS):
        learnt = fold != place
        base, trees = _boosted(table[learnt], size[finite][learnt])
        left_over[~learnt] = size[finite][~learnt] - _said(base, trees, table[~learnt])
    base, trees = _boosted(table, size[finite])
    return LossModel(tuple(held), codings, base, trees, float(left_over.std()), len(kept))


def expected_loss(model: LossModel, columns: Mapping[str, Sequence[Any]]) -> tuple[Estimate, float] | None:
    """The mean size of errors to expect of these rows, and the largest share of rows with a value of a
    feature that no labelled row had. The band is that of sampling, three standard errors on either side: it
    does not know how far the model of the errors is wrong where rows have moved. None without rows."""
    n = len(next(iter(columns.values()), ()))
    if not n:
        return None
    nothing = [None] * n
    table = _coded(model.codings, tuple(columns.get(name, nothing) for name in model.names), n)
    value = max(float(_said(model.base, model.trees, table).mean()), 0.0)
    codes = [coding.unseen for coding in model.codings]
    unseen = float((table == codes).mean(axis=0).max()) if codes else 0.0
    half = 3.0 * model.spread * math.sqrt(1.0 / n + 1.0 / model.n)
    return Estimate(name="mae", value=value, n=n, low=max(value - half, 0.0), high=value + half), unseen


def _coding(values: Sequence[Any], size: Array) -> _Coding:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        numbers = np.array(known, np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size:
            steps = np.arange(1, _BINS) / _BINS
            edges = np.unique(np.quantile(numbers, steps, method="higher"))
            return _Coding(edges, {}, float(numbers.min()), float(numbers.max()))
    sums: dict[str, list[float]] = {}
    for value, one in zip(values, size.tolist(), strict=True):
        if value is not None:
            sums.setdefault(str(value), []).append(one)
    # In the order of their mean error, the best cut of categories in two is one of neighbours (Fisher, 1958).
    common = [name for name, held in sums.items() if len(held) >= _RARE]
    ranked = sorted(common, key=lambda name: sum(sums[name]) / len(sums[name]))
    codes = {name: 1 + place * _BINS // max(len(ranked), 1) for place, name in enumerate(ranked)}
    return _Coding(None, codes, 0.0, 0.0)


def _number(value: Any) -> float:
    """A value of a column of numbers: NaN where there is none, beyond all edges where it is none."""
    if value is None:
        return math.nan
    return float(value) if isinstance(value, int | float) else math.inf


def _coded(codings: Sequence[_Coding], columns: Sequence[Sequence[Any]], rows: int) -> Array:
    found = [coding.of(values) for coding, values in zip(codings, columns, strict=True)]
    return np.column_stack(found) if found else np.zeros((rows, 0), np.int64)


def _boosted(table: Array, size: Array) -> tuple[float, tuple[_Tree, ...]]:
    base = float(size.mean())
    left = size - base
    trees = []
    for _ in range(_ROUNDS if table.shape[1] else 0):
        tree = _grown(table, left)
        left = left - _leaf_values(tree, table)
        trees.append(tree)
    return base, tuple(trees)


def _grown(table: Array, left: Array) -> _Tree:
    inner = 2**_DEPTH - 1
    column, code = np.zeros(inner, np.int64), np.full(inner, _BINS + 2, np.int64)
    node = np.zeros(len(table), np.int64)
    width = _BINS + 2
    for depth in range(_DEPTH):
        count, first = 2**depth, 2**depth - 1
        best = np.full(count, 1e-12)
        for index in range(table.shape[1]):
            place = (node - first) * width + table[:, index]
            rows = np.bincount(place, minlength=count * width).reshape(count, width).cumsum(axis=1)
            sums = np.bincount(place, weights=left, minlength=count * width).reshape(count, width)
            sums = sums.cumsum(axis=1)
            n, total = rows[:, -1:], sums[:, -1:]
            more, rest = n - rows, total - sums
            with np.errstate(divide="ignore", invalid="ignore"):
                gain = sums**2 / rows + rest**2 / more - total**2 / n
            gain[(rows < _LEAST_ROWS) | (more < _LEAST_ROWS)] = 0.0
            cut = gain.argmax(axis=1)
            gained = gain[np.arange(count), cut]
            better = gained > best
            best[better] = gained[better]
            column[first : first + count][better] = index
            code[first : first + count][better] = cut[better]
        node = 2 * node + 1 + (table[np.arange(len(table)), column[node]] > code[node])
    leaf = node - inner
    counts = np.bincount(leaf, minlength=inner + 1)
    sums = np.bincount(leaf, weights=left, minlength=inner + 1)
    return _Tree(column, code, _RATE * sums / np.maximum(counts, 1))


def _leaf_values(tree: _Tree, table: Array) -> Array:
    node = np.zeros(len(table), np.int64)
    rows = np.arange(len(table))
    for _ in range(_DEPTH):
        node = 2 * node + 1 + (table[rows, tree.column[node]] > tree.code[node])
    found: Array = tree.leaves[node - len(tree.column)]
    return found


def _said(base: float, trees: Sequence[_Tree], table: Array) -> Array:
    found = np.full(len(table), base)
    for tree in trees:
        found += _leaf_values(tree, table)
    return found
