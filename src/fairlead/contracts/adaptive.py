"""Intervals and sets whose level follows the labels: adaptive conformal inference. Pure.

    a_1 = 1 - coverage,    a_{t+1} = a_t + rate * (1 - coverage - err_t)

where err_t is 1 when the label of answer t lies outside of what a_t would have said (Gibbs & Candès, Adaptive
Conformal Inference Under Distribution Shift, NeurIPS 2021, arXiv 2106.00170). Their Proposition 4.1: whatever
the rows are like, the mean of err over T answers is within (max(a_1, 1 - a_1) + rate) / (T * rate) of
1 - coverage. It takes that nothing lies outside once a_t is below 0, which there is an interval without end.
Here it is one that is twice as wide for each `_DOUBLING` below the least share that the calibration rows can
tell, and `LEAST` bounds a_t: the proposition holds as long as no label lies further off than 256 times the
largest error of calibration. A set with every class holds every label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fairlead.contracts.uncertainty import Uncertainty

__all__ = ["KEPT", "LEAST", "learnt", "quantile_at", "thinned"]

KEPT = 500
"""So many scores of calibration are kept of more, evenly by rank. Never change it: readers count on it."""
LEAST, _MOST = -0.8, 1.0
_DOUBLING = 0.1


def thinned(scores: Any) -> tuple[float, ...]:
    """The scores that `quantile_at` needs, smallest first: at most `KEPT`, and none that is infinite."""
    held = np.sort(np.asarray(scores, np.float64))
    kept = min(held.size, KEPT)
    places = [-(-place * held.size // kept) - 1 for place in range(1, kept + 1)]
    return tuple(score for score in held[places].tolist() if math.isfinite(score))


def quantile_at(said: Uncertainty, scores: Sequence[float], outside: float) -> float:
    """The quantile by which all but a share `outside` of the labels lie within, or the next larger one that
    was kept. `scores` are what `thinned` kept of the `said.n` rows. Always finite."""
    rank = math.ceil((said.n + 1) * (1.0 - outside) - 1e-9)
    if rank <= 0:
        return 0.0
    place = (rank - 1) * min(said.n, KEPT) // said.n
    if place < len(scores):
        return scores[place]
    if said.kind == "set":
        return 1.0
    told = -(-len(scores) * said.n // min(said.n, KEPT)) / (said.n + 1)
    beyond = max(1.0 - outside - told, 0.0)
    return scores[-1] * float(2.0 ** (beyond / _DOUBLING))


def learnt(
    said: Uncertainty, scores: Sequence[float], outside: float, labelled: Iterable[float], rate: float
) -> float:
    """The share outside after labels have come, from the one before them: `labelled` are their scores in
    order of time. Each is held against the level that those before it have led to, so that it does not matter
    how late labels are, or how many come at once."""
    for score in labelled:
        missed = score > quantile_at(said, scores, outside)
        outside += rate * (1.0 - said.coverage - missed)
        outside = min(max(outside, LEAST), _MOST)
    return outside
