"""Which features a model goes by, over many rows: the share of each in all that features move. Pure.

The shares of the reference rows travel with a version; those of live rows are found in the same way, against
the same background rows, and held against them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np

from fairlead.contracts.contract import Output
from fairlead.evaluation.scored import Scored
from fairlead.experiments.multiplicity import benjamini_hochberg
from fairlead.explanations.attribution import Score, attribute
from fairlead.explanations.measure import Measure, measure

__all__ = [
    "IMPORTANCE_FILE",
    "LEAST_ROWS",
    "Change",
    "Importance",
    "Share",
    "changes",
    "importance",
    "ndcg",
    "sample_size",
]

IMPORTANCE_FILE = "importance.json"
"""The name of the reference rows' importance among the files of a version."""
LEAST_ROWS = 30
"""Fewer rows say nothing."""
MOST_ROWS = 100
_RUNS = 10_000
_MOST_BESIDE = 10
"""Each row is explained beside so many background rows, drawn anew: many rows are surer than sure rows."""
_RUNS_A_ROW = 1_000

Row = Sequence[Any]
Ask = Callable[[Sequence[Row]], Sequence[Scored]]


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """`mean`: how far the feature moves an answer on average, whichever way. `share`: of what all features
    move, with its standard `error`."""

    mean: float
    share: float
    error: float


class Importance(msgspec.Struct, frozen=True, kw_only=True):
    """What a model goes by in `rows` rows, in contract order. All shares are 0 where nothing moves it.
    `failed` rows were not answered, or most mixtures of them were not."""

    rows: int
    failed: int
    features: dict[str, Share]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """How a feature's share changed: it lies between `low` and `high` with 95 %. `p` is adjusted for all
    features."""

    feature: str
    expected: float
    seen: float
    low: float
    high: float
    p: float

    @property
    def change(self) -> float:
        """The share now less the share before."""
        return self.seen - self.expected


def sample_size(features: int) -> int:
    """How many rows are explained of a model with so many features."""
    return max(LEAST_ROWS, min(MOST_ROWS, _RUNS // (2 * _MOST_BESIDE * max(1, features))))


def importance(
    rows: Sequence[Row],
    background: Sequence[Row],
    ask: Ask,
    output: Output,
    names: Sequence[str],
    generator: np.random.Generator,
    *,
    goes_on: Callable[[], bool] = lambda: True,
) -> Importance | None:
    """The importance of the features `names` for these rows, each beside some of the background rows.

    `goes_on` is asked before each row, and the rows so far count when it says no; None where fewer than
    `LEAST_ROWS` could be explained. Raises `NotExplainable` for lists and rankings, and what `ask` raises.
    """
    found: list[Sequence[float]] = []
    failed = 0
    most = max(2, min(_MOST_BESIDE, _RUNS_A_ROW // (2 * len(names)), len(background)))
    for row, answer in zip(rows, ask(rows), strict=True):
        if not goes_on():
            break
        _, read = measure(output, answer.prediction, answer.probabilities)
        beside = generator.choice(len(background), min(most, len(background)), replace=False)
        one = (
            attribute(
                row,
                [background[index] for index in beside],
                _scores(ask, read),
                generator,
                most_runs=most * max(64, 2 * len(names)),
            )
            if answer.status == "ok"
            else None
        )
        if one is None:
            failed += 1
        else:
            found.append(one.contributions)
    if len(found) < LEAST_ROWS:
        return None
    sizes = np.abs(np.array(found))
    means = sizes.mean(axis=0)
    total = float(means.sum())
    shares = means / total if total else np.zeros(len(names))
    # The linear part of the ratio's error (delta method).
    rests = (sizes - np.outer(sizes.sum(axis=1), shares)) / (total or 1.0)
    errors = rests.std(axis=0, ddof=1) / math.sqrt(len(found))
    table = zip(names, means.tolist(), shares.tolist(), errors.tolist(), strict=True)
    features = {name: Share(mean=mean, share=share, error=error) for name, mean, share, error in table}
    return Importance(rows=len(found), failed=failed, features=features)


def ndcg(reference: Mapping[str, Share], live: Mapping[str, Share]) -> float | None:
    """How well the live ranking keeps the reference's leading features in front: 1 where the order is the
    same. Normalised discounted cumulative gain, the reference's shares the gains. None where the reference's
    shares are all 0. `live` has the names of `reference`."""
    gains = np.array([one.share for one in reference.values()])
    if not gains.sum():
        return None
    weights = 1.0 / np.log2(np.arange(gains.size) + 2.0)
    ranked = sorted(range(gains.size), key=lambda index: -list(live.values())[index].share)
    return float((gains[ranked] * weights).sum() / (np.sort(gains)[::-1] * weights).sum())


def changes(reference: Mapping[str, Share], live: Mapping[str, Share]) -> list[Change]:
    """The change of each feature's share, the largest first; p by the normal distribution, adjusted for all
    of them together (Benjamini and Hochberg, 1995)."""
    normal = NormalDist()
    raw = []
    for name, before in reference.items():
        now = live[name]
        error = math.hypot(before.error, now.error)
        moved = abs(now.share - before.share)
        raw.append((name, before, now, error, _p(moved, error, normal)))
    adjusted = benjamini_hochberg({name: p for name, *_, p in raw})
    half = normal.inv_cdf(0.975)
    found = [
        Change(
            feature=name,
            expected=before.share,
            seen=now.share,
            low=now.share - before.share - half * error,
            high=now.share - before.share + half * error,
            p=adjusted[name],
        )
        for name, before, now, error, _ in raw
    ]
    return sorted(found, key=lambda one: -abs(one.change))


def _scores(ask: Ask, read: Measure) -> Score:
    return lambda rows: [read(scored) for scored in ask(rows)]


def _p(moved: float, error: float, normal: NormalDist) -> float:
    if not error:
        return 1.0 if moved < 1e-12 else 0.0
    return 2.0 * (1.0 - normal.cdf(moved / error))
