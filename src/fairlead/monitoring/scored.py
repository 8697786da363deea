"""Answers of a classifier with their scores and labels, counted: what figures of two classes are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.predictions.labelled_counts import Cell

__all__ = ["Scored", "auc", "scored", "scored_cells"]

Array = npt.NDArray[Any]


class Scored(NamedTuple):
    """Cells in ascending order of score, each an entry of every array. `chosen`: the positive class was
    answered. `positive` and `negative` count the labels, `unknown` the rows without one."""

    score: Array
    chosen: Array
    positive: Array
    negative: Array
    unknown: Array

    @property
    def labelled(self) -> Array:
        """Rows with a label, in each cell."""
        return self.positive + self.negative

    @property
    def rows(self) -> Array:
        """All rows of each cell."""
        return self.labelled + self.unknown


def scored(scores: Any, chosen: Any, labels: Any = None) -> Scored:
    """Rows as cells: of each distinct score, answered and not. `labels` are 1, 0 or NaN (unknown); all are
    unknown where they are left out. Rows whose score is no finite number are left out."""
    values = np.asarray(scores, np.float64)
    picked = np.asarray(chosen, bool)
    known = np.full(len(values), np.nan) if labels is None else np.asarray(labels, np.float64)
    finite = np.isfinite(values)
    values, picked, known = values[finite], picked[finite], known[finite]
    distinct, cell = np.unique(np.column_stack((values, picked)), axis=0, return_inverse=True)
    cell = cell.reshape(-1)

    def count(which: Array) -> Array:
        return np.bincount(cell[which], minlength=len(distinct)).astype(np.float64)

    return Scored(
        distinct[:, 0], distinct[:, 1] > 0.0, count(known == 1.0), count(known == 0.0), count(np.isnan(known))
    )


def scored_cells(cells: Iterable[Cell], positive: str | None) -> Scored:
    """The log's cells. `positive` names the positive class of two; with None it is being right that counts,
    and every score is that of the class that was answered."""
    found: dict[tuple[float, bool], list[float]] = {}
    for cell in cells:
        if cell.bin is None or not cell.n:
            continue
        picked = positive is None or cell.answered == positive
        held = found.setdefault((cell.bin, picked), [0.0, 0.0, 0.0, 0.0])
        held[0] += cell.score
        if cell.label is None:
            held[3] += cell.n
        elif cell.label == (cell.answered if positive is None else positive):
            held[1] += cell.n
        else:
            held[2] += cell.n
    rows = [
        (total / (yes + no + unknown), picked, yes, no, unknown)
        for (_, picked), (total, yes, no, unknown) in found.items()
    ]
    table = np.array(sorted(rows), np.float64).reshape(-1, 5)
    return Scored(table[:, 0], table[:, 1] > 0.0, table[:, 2], table[:, 3], table[:, 4])


def auc(score: Array, positive: Array, negative: Array) -> tuple[float, float] | None:
    """The area under the ROC curve of weighted cells, equal scores counting half, and its standard error
    (DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988). None where a class has no weight."""
    order, tied = np.unique(score, return_inverse=True)
    tied = tied.reshape(-1)
    yes = np.bincount(tied, weights=positive, minlength=len(order))
    no = np.bincount(tied, weights=negative, minlength=len(order))
    ones, zeros = float(yes.sum()), float(no.sum())
    if ones <= 0.0 or zeros <= 0.0:
        return None
    below = (np.cumsum(no) - 0.5 * no) / zeros
    above = (ones - np.cumsum(yes) + 0.5 * yes) / ones
    area = float((yes * below).sum() / ones)
    spread = float((yes * (below - area) ** 2).sum()) / ones / max(ones - 1.0, 1.0)
    spread += float((no * (above - area) ** 2).sum()) / zeros / max(zeros - 1.0, 1.0)
    return area, float(np.sqrt(spread))
