"""Whether labels lie within the intervals and sets of classes that were said of answers, as often as
promised. Pure, from counts alone.

The promise of split conformal prediction is itself known from n rows only: over draws of them the share that
lies within has a standard deviation of about sqrt(c (1 - c) / (n + 2)) (Vovk, Conditional validity of
inductive conformal predictors, 2012). So much less than c is no broken promise; what is more is followed as
every other risk is (`risk.py`), with "the label lay outside" as the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Literal

import msgspec

from fairlead.contracts.uncertainty import Uncertainty
from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.fixed import wilson
from fairlead.monitoring.performance import Figure
from fairlead.monitoring.risk import TOLERANCE, Risk, Step, watch
from fairlead.predictions.labelled_counts import Sure, sure_together

__all__ = ["Coverage", "coverage_figures", "coverage_of", "most_outside"]

_ALPHA = 0.05


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """How often labels lay within what was said of answers.

    `promised` is the share that shall, found on `rows` rows; `optimistic` where the model may have learnt
    from them. `observed` is the share that did in the window, with its interval; `size` the mean width of the
    intervals, or the mean number of classes in the sets. `z` is by how many standard deviations less than
    promised was observed, with the chance in `rows`, too. `risk` is the state of the alarm over all hours:
    its loss is a label outside.
    """

    kind: Literal["interval", "set"]
    promised: float
    rows: int
    optimistic: bool
    observed: Figure | None = None
    size: Figure | None = None
    z: float | None = None
    risk: Risk | None = None


def coverage_figures(said: Uncertainty | None, held: Sure) -> tuple[Figure, ...]:
    """`coverage` and `interval_width` or `set_size`; none where nothing was said."""
    if said is None or not held.n:
        return ()
    name = "interval_width" if said.kind == "interval" else "set_size"
    size = Figure(name=name, value=held.size / held.n, n=held.n)
    if not held.labelled:
        return (size,)
    share = wilson(Proportion(held.labelled, held.covered), alpha=_ALPHA)
    found = Figure(name="coverage", value=share.estimate, n=held.labelled, low=share.low, high=share.high)
    return (found, size)


def coverage_of(
    said: Uncertainty | None, window: Sure, hours: Iterable[Sure], *, tolerance: float, needed: float
) -> Coverage | None:
    """The figures of the window, and the alarm over all hours; None where the version says nothing."""
    if said is None:
        return None
    figures = {one.name: one for one in coverage_figures(said, window)}
    observed = figures.pop("coverage", None)
    held = list(hours)
    risk = None
    limit = most_outside(said, tolerance)
    if sure_together(held).labelled and limit < 1.0:
        steps = (Step(n=hour.labelled, total=hour.labelled - hour.covered) for hour in held)
        risk = watch(steps, limit, needed=needed)
    return Coverage(
        kind=said.kind,
        promised=said.coverage,
        rows=said.n,
        optimistic=said.optimistic,
        observed=observed,
        size=next(iter(figures.values()), None),
        z=None if observed is None else _below(said, observed),
        risk=risk,
    )


def most_outside(said: Uncertainty, tolerance: float = TOLERANCE) -> float:
    """So many labels may lie outside without an alarm: as promised, as chance in the rows of the promise may
    have it, and as matters to nobody, which is half as many again at most."""
    outside = 1.0 - said.coverage
    chance = NormalDist().inv_cdf(1.0 - _ALPHA) * math.sqrt(outside * said.coverage / (said.n + 2))
    return outside + chance + min(tolerance, outside / 2.0)


def _below(said: Uncertainty, observed: Figure) -> float:
    spread = said.coverage * (1.0 - said.coverage) * (1.0 / observed.n + 1.0 / (said.n + 2))
    return (said.coverage - observed.value) / math.sqrt(spread)
