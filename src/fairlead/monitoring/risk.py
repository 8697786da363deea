"""The primary alarm: whether a model's risk, the mean of a loss from 0 to 1, has risen above a limit. Pure.

Of every step of time n rows with losses that sum to s are known. Against "the risk is at most θ", a bet of
size λ on more than that wins at least

    (1 + λ (1 - θ))^s (1 - λ θ)^(n - s)        0 < λ < 1 / θ

since the logarithm is concave: exactly for losses of 0 or 1, less than it could for others. The mean over
several sizes of bet is an e-value E for the step: on average 1 at most as long as the risk is at most θ,
whatever came before. Then

    M_t = E_t (M_{t-1} + 1)

bets from every step onwards at once (the e-SR detector of Shin, Ramdas & Rinaldo, arXiv 2203.03532), and the
first time that M reaches c is, on average, no earlier than step c where nothing has changed. So one false
alarm in N steps is asked for by c = N. Nothing but M is kept of the past, and however long all went well, it
does not delay the alarm, as it would a bound on the mean since the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import wilson

__all__ = ["Risk", "Step", "limit_of", "watch"]

TOLERANCE = 0.05
"""A risk that is higher by no more than this matters to nobody, unless somebody says otherwise."""
_BETS = (0.05, 0.15, 0.3, 0.6)
"""Sizes of bets as shares of the largest, 1 / θ: small ones win by small rises in time, large ones soon."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step of time: the losses of `n` rows, each from 0 to 1, sum to `total`."""

    n: int
    total: float


class Risk(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps say. `evidence` is M after the last, `highest` its largest so far; at `needed` it is an
    alarm, first at step `alarmed` (counted from 0). `since` is the step from which the rise shows, if any."""

    limit: float
    needed: float
    evidence: float
    highest: float
    alarmed: int | None
    since: int | None
    n: int
    mean: float | None

    @property
    def rings(self) -> bool:
        """Whether there is an alarm now."""
        return self.evidence >= self.needed


def limit_of(reference: Proportion, *, tolerance: float = TOLERANCE, alpha: float = 0.05) -> float | None:
    """The risk above which is too high: the upper end of where the reference's lies (Wilson), and the
    tolerance. None without a reference, and where no risk could be higher."""
    if not reference.n:
        return None
    found = wilson(reference, alpha=2.0 * alpha).high + tolerance
    return found if 0.0 < found < 1.0 else None


def watch(steps: Iterable[Step], limit: float, *, needed: float) -> Risk:
    """Follows the steps in order of time; one false alarm in `needed` steps on average, or fewer. Steps
    without rows say nothing: a version that is idle gathers no evidence. Raises ValueError unless
    0 < limit < 1 < needed."""
    if not 0.0 < limit < 1.0 < needed:
        raise ValueError(f"a limit of {limit:g} and {needed:g} steps: must be within 0 to 1, and above 1")
    evidence = highest = 0.0
    alarmed: int | None = None
    since: int | None = None
    rows, total = 0, 0.0
    for index, step in enumerate(steps):
        if not step.n:
            continue
        won = _won(step, limit)
        before = evidence
        evidence = min((evidence + 1.0) * won, 1e12)
        if evidence > max(before, 1.0) and since is None:
            since = index
        elif evidence <= 1.0:
            since = None
        highest = max(highest, evidence)
        if alarmed is None and evidence >= needed:
            alarmed = index
        rows, total = rows + step.n, total + step.total
    return Risk(
        limit=limit,
        needed=needed,
        evidence=evidence,
        highest=highest,
        alarmed=alarmed,
        since=since,
        n=rows,
        mean=total / rows if rows else None,
    )


def _won(step: Step, limit: float, bets: Sequence[float] = _BETS) -> float:
    """The e-value of one step; 1 without rows."""
    if not step.n:
        return 1.0
    lost = min(max(step.total, 0.0), float(step.n))
    sizes = np.asarray(bets) / limit
    logs = lost * np.log1p(sizes * (1.0 - limit)) + (step.n - lost) * np.log1p(-sizes * limit)
    top = float(logs.max())
    if top > 50.0:
        return math.exp(50.0)
    return float(np.exp(logs).mean())
