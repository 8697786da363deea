"""Whether probabilities mean what they say. Pure, from cells of scores and labels.

ECE             sum over bins of (share of rows) · |mean label - mean score|; bins of equal width or mass
floor           what the ECE of a perfectly calibrated model reads by chance:
                sum of (share) · sqrt(2/π) · sqrt(Σ p(1-p)) / n_b
Brier           mean (p - y)² = reliability - resolution + uncertainty + what lies within bins
                (Murphy, J. Appl. Meteorology 12, 1973; Stephenson et al., Weather and Forecasting 23, 2008)
in the large    (mean label - mean score), with z = Σ(y - p) / sqrt(Σ p(1-p))
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.monitoring.scored import Scored

__all__ = ["Bin", "Brier", "Calibration", "Cut", "brier", "calibration", "ece", "reliability"]

Array = npt.NDArray[Any]
Cut = Literal["width", "mass"]
BINS = 10


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """`n` labelled rows with scores near each other: their mean score, and the share that was positive."""

    n: int
    score: float
    share: float
    spread: float
    """Σ p(1-p): the variance of how many are positive, if the scores are right."""


class Brier(msgspec.Struct, frozen=True, kw_only=True):
    """The Brier score and its parts; `within` is what the bins hide, so that all add up."""

    score: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How `n` labelled rows stand. `excess` is ECE beyond what chance would make of right scores, and
    `limit` where chance ends: a right model's excess is above it once in a thousand looks. `shift` is mean
    label minus mean score, `z` in standard errors."""

    n: int
    ece: float
    ece_mass: float
    floor: float
    excess: float
    limit: float
    shift: float
    z: float
    brier: Brier
    bins: tuple[Bin, ...]


def calibration(cells: Scored, bins: int = BINS, *, alpha: float = 0.001) -> Calibration | None:
    """All of it; None without labels. `alpha` is the chance that a right model's excess is above `limit`."""
    n = int(cells.labelled.sum())
    if not n:
        return None
    by_mass = reliability(cells, "mass", bins)
    floor, limit = _by_chance(by_mass, n, alpha)
    p, labelled = cells.score, cells.labelled
    missed = float((cells.positive - labelled * p).sum())
    variance = float((labelled * p * (1.0 - p)).sum())
    found = ece(by_mass)
    return Calibration(
        n=n,
        ece=ece(reliability(cells, "width", bins)),
        ece_mass=found,
        floor=floor,
        excess=found - floor,
        limit=limit,
        shift=missed / n,
        z=missed / math.sqrt(variance) if variance > 0.0 else (0.0 if missed == 0.0 else math.inf * missed),
        brier=brier(cells, bins),
        bins=tuple(reliability(cells, "width", bins)),
    )


def reliability(cells: Scored, cut: Cut = "width", bins: int = BINS) -> list[Bin]:
    """The labelled rows in bins of equal width, or of as equal a number of rows as cells allow; empty ones
    are left out."""
    labelled = cells.labelled
    total = float(labelled.sum())
    if not total:
        return []
    if cut == "width":
        where = np.clip(np.floor(cells.score * bins + 1e-9), 0, bins - 1)
    else:
        middle = np.cumsum(labelled) - labelled / 2.0
        where = np.clip(np.floor(middle / total * bins), 0, bins - 1)
    found = []
    for index in np.unique(where):
        inside = where == index
        n, positive = float(labelled[inside].sum()), float(cells.positive[inside].sum())
        if n:
            p = cells.score[inside]
            score = float((labelled[inside] * p).sum()) / n
            spread = float((labelled[inside] * p * (1.0 - p)).sum())
            found.append(Bin(n=int(n), score=score, share=positive / n, spread=spread))
    return found


def ece(bins: list[Bin]) -> float:
    """The expected calibration error over those bins; 0 without any."""
    n = sum(one.n for one in bins)
    return math.fsum(one.n * abs(one.share - one.score) for one in bins) / n if n else 0.0


def brier(cells: Scored, bins: int = BINS) -> Brier:
    """The Brier score of the labelled rows and its parts over bins of equal width; zeros without labels."""
    n = float(cells.labelled.sum())
    if not n:
        return Brier(score=0.0, reliability=0.0, resolution=0.0, uncertainty=0.0, within=0.0)
    p = cells.score
    score = float((cells.positive * (1.0 - p) ** 2 + cells.negative * p**2).sum()) / n
    rate = float(cells.positive.sum()) / n
    parts = reliability(cells, "width", bins)
    off = math.fsum(one.n * (one.score - one.share) ** 2 for one in parts) / n
    told = math.fsum(one.n * (one.share - rate) ** 2 for one in parts) / n
    uncertainty = rate * (1.0 - rate)
    return Brier(
        score=score,
        reliability=off,
        resolution=told,
        uncertainty=uncertainty,
        within=score - (off - told + uncertainty),
    )


_TILTS = np.geomspace(0.1, 30.0, 120)


def _by_chance(bins: list[Bin], n: int, alpha: float) -> tuple[float, float]:
    """The mean of the ECE if the scores are right, and what more it has with that chance at most: each bin's
    miss is half a normal, and far out their sum has more than a normal would. For every tilt s > 0

        P(Σ d|Z| ≥ t) ≤ exp(-s t) Π 2 exp(s² d² / 2) Φ(s d)        (Chernoff)
    """
    deviations = np.array([math.sqrt(max(one.spread, 0.0)) / n for one in bins])
    mean = math.sqrt(2.0 / math.pi) * float(deviations.sum())
    size = math.sqrt(float(deviations @ deviations))
    if not size:
        return mean, 0.0
    tilts = _TILTS / size
    shares = np.outer(tilts, deviations)
    below = np.array([[0.5 * math.erfc(-one / math.sqrt(2.0)) for one in row] for row in shares.tolist()])
    logs = (np.log(2.0 * below) + shares**2 / 2.0).sum(axis=1)
    highest = float(((logs - math.log(alpha)) / tilts).min())
    return mean, highest - mean
