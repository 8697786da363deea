"""How well answers met their labels, each figure with an interval. Pure, from counts alone.

    accuracy, precision, recall     shares, with Wilson's interval
    f1                              2 J / (1 + J), J = TP / (TP + FP + FN) with Wilson's interval
    auc                             DeLong's
    log_loss, brier, mae            means, by the normal distribution
    rmse                            the root of a mean of squares, and of the ends of its interval
    hit@k, ndcg@k                   of rankings, where one item was right

Of more than two classes precision, recall and F1 are the plain average over the classes that occur as label
(`precision_macro`, …), and have no interval. A figure that the labels do not tell is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import wilson
from fairlead.monitoring.scored import Scored, auc, scored_cells
from fairlead.predictions.labelled_counts import Cell, ErrorCell, PlaceCell

__all__ = ["CUTS", "Confusion", "Figure", "clicks_of", "of_classes", "of_errors", "of_places", "of_scores"]

ALPHA = 0.05
CUTS = (1, 3, 10)
"""The k of hit@k and ndcg@k."""
_MOST_PLACES = 20
_LEAST = 1e-15


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure over `n` rows and where the truth lies, at 95 %; None where that is not known."""

    name: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """Labelled rows of two classes, by what was answered and what was true."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @property
    def n(self) -> int:
        """All of them."""
        return self.tp + self.fp + self.fn + self.tn


def of_classes(cells: Sequence[Cell], classes: Sequence[str]) -> list[Figure]:
    """The figures of a classifier. With two classes the second is the positive one."""
    if len(classes) != 2:
        return _of_many(cells)
    confusion = confusion_of(cells, classes[1])
    return [*_of_two(confusion), *of_scores(scored_cells(cells, classes[1]))]


def confusion_of(cells: Iterable[Cell], positive: str) -> Confusion:
    """The counts of two classes."""
    found: Counter[tuple[bool, bool]] = Counter()
    for cell in cells:
        if cell.label is not None:
            found[cell.answered == positive, cell.label == positive] += cell.n
    return Confusion(
        tp=found[True, True], fp=found[True, False], fn=found[False, True], tn=found[False, False]
    )


def of_scores(cells: Scored) -> list[Figure]:
    """The figures of probabilities of the positive class."""
    n = int(cells.labelled.sum())
    if not n:
        return []
    figures = []
    area = auc(cells.score, cells.positive, cells.negative)
    if area is not None:
        figures.append(_around("auc", *area, n, 0.0, 1.0))
    score = np.clip(cells.score, _LEAST, 1.0 - _LEAST)
    for name, yes, no, highest in (
        ("log_loss", -np.log(score), -np.log1p(-score), math.inf),
        ("brier", (1.0 - cells.score) ** 2, cells.score**2, 1.0),
    ):
        total = float((cells.positive * yes + cells.negative * no).sum())
        squares = float((cells.positive * yes**2 + cells.negative * no**2).sum())
        figures.append(_mean(name, total, squares, n, highest))
    return figures


def of_errors(cells: Iterable[ErrorCell]) -> list[Figure]:
    """The figures of answered numbers; `bias` is the mean of answer minus label."""
    known = [cell for cell in cells if cell.bucket is not None]
    n = sum(cell.n for cell in known)
    error, size, square, fourth = (
        math.fsum(getattr(cell, name) for cell in known) for name in ("error", "size", "square", "fourth")
    )
    if not n or not math.isfinite(square):
        return []
    figures = [_mean("mae", size, square, n), _mean("bias", error, square, n, least=-math.inf)]
    if math.isfinite(fourth):
        squared = _mean("rmse", square, fourth, n)
        ends = (squared.low, squared.high)
        low, high = (None if end is None else math.sqrt(end) for end in ends)
        figures.append(Figure(name="rmse", value=math.sqrt(squared.value), n=n, low=low, high=high))
    return figures


def of_places(cells: Iterable[PlaceCell], cuts: Sequence[int] = CUTS) -> list[Figure]:
    """The figures of rankings. With one right item at place i the gain is 1 / log2(i + 1), and the ideal's 1
    (Järvelin & Kekäläinen, TOIS 20, 2002); `mrr` is the mean of 1 / i."""
    places = _places(cells)
    n = places.total()
    if not n:
        return []
    figures = []
    for cut in cuts:
        within = {place: count for place, count in places.items() if 0 < place <= cut}
        figures.append(_share(f"hit@{cut}", sum(within.values()), n))
        gains = [(count, 1.0 / math.log2(place + 1)) for place, count in within.items()]
        total = math.fsum(count * gain for count, gain in gains)
        squares = math.fsum(count * gain**2 for count, gain in gains)
        figures.append(_mean(f"ndcg@{cut}", total, squares, n, 1.0))
    found = [(count, 1.0 / place) for place, count in places.items() if place > 0]
    total = math.fsum(count * gain for count, gain in found)
    figures.append(_mean("mrr", total, math.fsum(count * gain**2 for count, gain in found), n, 1.0))
    return figures


def clicks_of(cells: Iterable[PlaceCell]) -> list[Figure]:
    """Per place down to the last that was right, 20 at most: the share of labelled rankings whose right item,
    such as the one that was clicked, stood there; `place 1` first. None without labels."""
    places = _places(cells)
    last = min(max(places, default=0), _MOST_PLACES)
    return [_share(f"place {place}", places[place], places.total()) for place in range(1, last + 1)]


def _places(cells: Iterable[PlaceCell]) -> Counter[int]:
    """How often the right item stood at which place, from 1; 0 where it was not shown."""
    places: Counter[int] = Counter()
    for cell in cells:
        if cell.place is not None:
            places[cell.place] += cell.n
    return places


def _of_two(counts: Confusion) -> list[Figure]:
    if not counts.n:
        return []
    figures = [_share("accuracy", counts.tp + counts.tn, counts.n)]
    for name, of in (("precision", counts.tp + counts.fp), ("recall", counts.tp + counts.fn)):
        if of:
            figures.append(_share(name, counts.tp, of))
    if met := counts.tp + counts.fp + counts.fn:
        share = _share("f1", counts.tp, met)
        value, low, high = (2.0 * x / (1.0 + x) for x in (share.value, share.low or 0.0, share.high or 0.0))
        figures.append(Figure(name="f1", value=value, n=met, low=low, high=high))
    return figures


def _of_many(cells: Iterable[Cell]) -> list[Figure]:
    right: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    for cell in cells:
        if cell.label is None:
            continue
        answered[cell.answered] += cell.n
        labels[cell.label] += cell.n
        if cell.answered == cell.label:
            right[cell.label] += cell.n
    n = labels.total()
    if not n:
        return []
    figures = [_share("accuracy", right.total(), n)]
    met = sorted(label for label, count in labels.items() if count)
    precision = [right[one] / answered[one] if answered[one] else 0.0 for one in met]
    recall = [right[one] / labels[one] for one in met]
    f1 = [2.0 * right[one] / (answered[one] + labels[one]) for one in met]
    for name, parts in (("precision_macro", precision), ("recall_macro", recall), ("f1_macro", f1)):
        figures.append(Figure(name=name, value=math.fsum(parts) / len(parts), n=n))
    return figures


def _share(name: str, successes: int, n: int) -> Figure:
    found = wilson(Proportion(n, successes), alpha=ALPHA)
    return Figure(name=name, value=found.estimate, n=n, low=found.low, high=found.high)


def _mean(
    name: str, total: float, squares: float, n: int, highest: float = math.inf, least: float = 0.0
) -> Figure:
    value = total / n
    if n < 2:
        return Figure(name=name, value=value, n=n)
    spread = max(squares / n - value * value, 0.0) * n / (n - 1)
    return _around(name, value, math.sqrt(spread / n), n, least, highest)


def _around(name: str, value: float, se: float, n: int, least: float, highest: float) -> Figure:
    half = NormalDist().inv_cdf(1.0 - ALPHA / 2.0) * se
    return Figure(name=name, value=value, n=n, low=max(value - half, least), high=min(value + half, highest))
