"""How well a model does before labels come. Pure, from counts alone.

Of classes, confidence-based estimation (CBPE; Białek et al., arXiv 2401.05062): with c the calibrated chance
of the positive class, learned by isotonic regression on labelled rows,

    TP = Σ c over rows that were answered positive    FP = Σ (1 - c) over the same rows
    FN = Σ c over the others                          TN = Σ (1 - c) over the others

and AUC is that of the raw scores, each row weighing c as positive and 1 - c as negative. It holds as long as
what a score means does not change: a change of the concept cannot be seen without labels.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.monitoring.scored import Scored, auc

__all__ = [
    "Calibrator",
    "Estimate",
    "Validity",
    "calibrator_of",
    "estimated",
    "isotonic",
    "validity",
]

Array = npt.NDArray[Any]

LEAST_LABELLED = 300
"""With fewer labelled rows there is nothing to learn from."""
MOST_UNSEEN = 0.05
"""With more rows than this share where the reference had none, an estimate is a guess."""


class Calibrator(msgspec.Struct, frozen=True, kw_only=True):
    """What a score has meant: straight lines between points, level outside of them. It comes from `n`
    labelled rows, of which `accuracy` were answered rightly and `counts` lie in each tenth of the score."""

    scores: tuple[float, ...]
    chances: tuple[float, ...]
    n: int
    accuracy: float
    counts: tuple[float, ...]

    def of(self, score: Array) -> Array:
        """The calibrated chance at each score."""
        return np.interp(score, self.scores, self.chances)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """An estimated figure over `n` rows; its band is three standard errors of sampling wide on either side,
    as NannyML's is, and knows nothing of a change of the concept."""

    name: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an estimate may be believed; `reason` says why not."""

    valid: bool
    reason: str = ""


def isotonic(score: Array, mean: Array, weight: Array) -> tuple[Array, Array]:
    """The rising step function nearest to the means, by pooling adjacent violators (Barlow et al., 1972), as
    points between which to draw straight lines. `score` ascends and is distinct; weights are above 0."""
    values: list[float] = []
    weights: list[float] = []
    lengths: list[int] = []
    for value, held in zip(mean.tolist(), weight.tolist(), strict=True):
        values.append(value)
        weights.append(held)
        lengths.append(1)
        while len(values) > 1 and values[-2] >= values[-1]:
            total = weights[-2] + weights[-1]
            values[-2] = (values[-2] * weights[-2] + values[-1] * weights[-1]) / total
            weights[-2] = total
            lengths[-2] += lengths[-1]
            del values[-1], weights[-1], lengths[-1]
    level = np.repeat(values, lengths)
    # Of each level its first and last score are enough.
    keep = np.ones(len(level), bool)
    keep[1:-1] = (level[1:-1] != level[:-2]) | (level[1:-1] != level[2:])
    return score[keep], level[keep]


def calibrator_of(cells: Scored) -> Calibrator | None:
    """What the scores of labelled rows have meant; None with fewer than 300 of them, or one class alone."""
    labelled = cells.labelled
    n = int(labelled.sum())
    if n < LEAST_LABELLED or not cells.positive.sum() or not cells.negative.sum():
        return None
    distinct, where = np.unique(cells.score, return_inverse=True)
    where = where.reshape(-1)
    weight = np.bincount(where, weights=labelled, minlength=len(distinct))
    positive = np.bincount(where, weights=cells.positive, minlength=len(distinct))
    held = weight > 0.0
    scores, chances = isotonic(distinct[held], positive[held] / weight[held], weight[held])
    right = float(np.where(cells.chosen, cells.positive, cells.negative).sum())
    return Calibrator(
        scores=tuple(scores.tolist()),
        chances=tuple(chances.tolist()),
        n=n,
        accuracy=right / n,
        counts=tuple(_tenths(cells.score, labelled).tolist()),
    )


def estimated(cells: Scored, calibrator: Calibrator) -> list[Estimate]:
    """Accuracy, precision, recall, F1 and AUC of all rows, whether labels have come or not."""
    rows = cells.rows
    n = int(rows.sum())
    if not n:
        return []
    chance = calibrator.of(cells.score)
    yes, no = rows * chance, rows * (1.0 - chance)
    tp, fp = float(yes[cells.chosen].sum()), float(no[cells.chosen].sum())
    fn, tn = float(yes[~cells.chosen].sum()), float(no[~cells.chosen].sum())
    sampling = math.sqrt(calibrator.accuracy * (1.0 - calibrator.accuracy) / n)
    found = [_banded("accuracy", (tp + tn) / n, sampling, n)]
    for name, of in (("precision", tp + fp), ("recall", tp + fn), ("f1", tp + 0.5 * (fp + fn))):
        if of > 0.0:
            value = tp / of
            found.append(_banded(name, value, math.sqrt(max(value * (1.0 - value), 0.0) / of), n))
    area = auc(cells.score, yes, no)
    if area is not None:
        found.append(_banded("auc", *area, n))
    return found


def validity(cells: Scored, calibrator: Calibrator, *, unseen: float = 0.0, concept: str = "") -> Validity:
    """Whether the estimate of these rows may be believed. `unseen` is the largest share of rows of any
    feature where the reference had none; `concept` says how labels that have come contradict it."""
    rows = cells.rows
    total = float(rows.sum())
    if not total:
        return Validity(valid=False, reason="there are no rows")
    if concept:
        return Validity(valid=False, reason=concept)
    now = _tenths(cells.score, rows) / total
    beyond = float(now[np.asarray(calibrator.counts) < _FEW].sum())
    if max(unseen, beyond) > MOST_UNSEEN:
        what = "a feature" if unseen > beyond else "the score"
        reason = (
            f"{max(unseen, beyond):.1%} of the rows have a value of {what} of which too few labels are known"
        )
        return Validity(valid=False, reason=reason)
    return Validity(valid=True)


_FEW = 10
"""A tenth of the score with fewer labelled rows than this tells nothing."""


def _banded(name: str, value: float, se: float, n: int) -> Estimate:
    low, high = max(value - 3.0 * se, 0.0), min(value + 3.0 * se, 1.0)
    return Estimate(name=name, value=value, n=n, low=low, high=high)


def _tenths(score: Array, weight: Array) -> Array:
    where = np.clip(np.floor(score * 10), 0, 9).astype(np.int64)
    return np.bincount(where, weights=weight, minlength=10)
