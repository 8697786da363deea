"""What the samples say of one metric: a verdict, the numbers behind it, and a sentence. Pure.

Harm is an interval's near end beyond the margin, or a limit that is exceeded beyond chance. Both hold at
every look, so harm may be told as early as it shows. Safety is the far end within the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import exact_level
from fairlead.experiments.quantiles import quantile_ratio
from fairlead.experiments.sequences import Arm, Interval, difference, relative_lift
from fairlead.rollouts.excess import exceeds
from fairlead.rollouts.observation import COUNTERS, Observation, Outcome
from fairlead.rollouts.spec import BUILT_IN, LATENCIES, Limits, Metric, MetricKind
from fairlead.telemetry.latency import bucket_of, quantile

__all__ = ["MetricVerdict", "Result", "verdict"]

Result = Literal["pass", "fail", "inconclusive", "no-data", "error"]

_FEW_EVENTS, _FEW_UNITS = 10, 100
"""Below these an asymptotic interval is not believed."""
_PLANNED = 5000


class MetricVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says of the candidate. `canary` and `control` are the arms' own values.

    `estimate` is by how much the candidate's value is higher, in the metric's unit or, where `relative`, as a
    share of control's; `low` and `high` enclose the truth at every look, None where they are open. `margin`
    is how much worse is borne, `limit` what the candidate's own value may not exceed. `unit` is that of the
    values; "" is an outcome's own.
    """

    metric: str
    kind: MetricKind
    result: Result
    sentence: str
    unit: Literal["seconds", "share", ""] = ""
    relative: bool = False
    canary: float | None = None
    control: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float = 0.0
    limit: float | None = None


class _Limit(NamedTuple):
    """An absolute limit beside what was seen. `excused`: control is beyond it, too."""

    value: float
    broken: bool
    kept: bool
    excused: bool


class _Seen(NamedTuple):
    """Both arms' values in a metric, how they compare, and the limit; None for what there is not."""

    canary: float
    control: float | None
    compared: Interval | None
    limit: _Limit | None = None


def verdict(
    metric: Metric, limits: Limits, observation: Observation, *, alpha: float, beside: bool
) -> MetricVerdict:
    """The verdict of that metric. `beside`: whether candidate and control take traffic at the same time, so
    that they can be compared; else the limits alone speak. `alpha` is its chance of a false alarm."""
    source = COUNTERS if metric.name in BUILT_IN and metric.name not in observation.errors else metric.name
    if source in observation.errors:
        return _plain(metric, "error", f"{metric.name} could not be measured: {observation.errors[source]}")
    seen = _see(metric, limits, observation, alpha, beside)
    if isinstance(seen, str):
        return _plain(metric, "no-data", seen)
    result = _result(metric, seen, beside)
    compared = seen.compared
    return MetricVerdict(
        metric=metric.name,
        kind=metric.kind,
        result=result,
        sentence=_sentence(metric, seen, result),
        unit=_unit(metric),
        relative=_is_relative(metric),
        canary=seen.canary,
        control=seen.control,
        estimate=compared.estimate if compared and compared.known else None,
        low=_finite(compared.low) if compared else None,
        high=_finite(compared.high) if compared else None,
        margin=metric.margin,
        limit=seen.limit.value if seen.limit else None,
    )


# --- what was seen ------------------------------------------------------------------------------------------


def _see(metric: Metric, limits: Limits, observation: Observation, alpha: float, beside: bool) -> _Seen | str:
    """What was seen of a metric, or a sentence that says that nothing was."""
    canary, control = observation.canary, observation.control
    if metric.name in BUILT_IN:
        if not canary.requests:
            return "The candidate has answered no request yet."
        if beside and (control is None or not control.requests):
            return "Control has answered no request yet, so that there is nothing to compare with."
        if metric.name == "p50":
            usual = None if control is None else control.computed
            return _latency(0.5, None, canary.computed, usual, alpha, beside)
        if metric.name == "p99":
            slowest = None if control is None else control.latency
            return _latency(0.99, limits.p99_ms, canary.latency, slowest, alpha, beside)
        if metric.name == "error_rate":
            theirs = None if control is None else control.errors
            return _rate(metric, limits.error_rate, canary.errors, theirs, alpha, beside)
        theirs = None if control is None else control.rejections
        return _rate(metric, None, canary.rejections, theirs, alpha, beside)
    outcome = observation.outcomes.get(metric.name)
    if outcome is None or not outcome.canary.n or not outcome.control.n:
        return f"Outcomes {metric.name!r} of both arms have not come yet."
    return _outcome(metric, outcome, alpha)


def _rate(
    metric: Metric,
    limit: float | None,
    canary: Proportion,
    control: Proportion | None,
    alpha: float,
    beside: bool,
) -> _Seen | str:
    if canary.mean is None:
        return "Every request to the candidate was rejected by its contract."
    held = None if control is None else control.mean
    parts = bool(beside) + (limit is not None)
    share = alpha / max(parts, 1)
    compared = None
    if beside and control is not None:
        compared = _compared(metric, control, canary, share)
    found = None if limit is None else _limit(limit, canary, control, share, metric.margin)
    return _Seen(canary.mean, held, compared, found)


def _limit(
    limit: float, canary: Proportion, control: Proportion | None, alpha: float, margin: float
) -> _Limit:
    """Where control is above the limit as well, its own upper bound and the margin take the limit's place."""
    excused = control is not None and control.mean is not None and control.mean > limit
    bar = limit
    if excused and control is not None:
        bar = max(limit, exact_level(control, alpha=alpha).high + margin)
    broken = exceeds(canary, bar, alpha)
    return _Limit(limit, broken, exact_level(canary, alpha=alpha).high < limit, excused)


def _latency(
    q: float,
    limit_ms: float | None,
    canary: Sequence[int],
    control: Sequence[int] | None,
    alpha: float,
    beside: bool,
) -> _Seen | str:
    """Two q-quantiles are compared by their ratio; the limit asks whether a greater share than 1 - q is
    slower."""
    mine = quantile(canary, q)
    theirs = None if control is None else quantile(control, q)
    if mine is None or (beside and theirs is None):
        return "No latencies were counted."
    share = alpha / ((limit_ms is not None) + bool(beside) or 1)
    compared = None
    if beside and control is not None:
        ratio = quantile_ratio(control, canary, q, share, planned=_PLANNED)
        compared = Interval(ratio.estimate - 1.0, ratio.low - 1.0, ratio.high - 1.0, ratio.se, ratio.n)
    found = None
    if limit_ms is not None:
        slow = _slow(control, limit_ms) if control is not None else None
        found = _limit(1.0 - q, _slow(canary, limit_ms), slow, share, 0.0)._replace(value=limit_ms / 1000.0)
    return _Seen(mine, theirs, compared, found)


def _slow(latency: Sequence[int], limit_ms: float) -> Proportion:
    """How many answers were slower than the limit: those of the buckets that lie above it as a whole."""
    return Proportion(sum(latency), sum(latency[bucket_of(limit_ms / 1000.0) + 1 :]))


def _outcome(metric: Metric, outcome: Outcome, alpha: float) -> _Seen | str:
    mine, theirs = outcome.canary.mean, outcome.control.mean
    if mine is None or theirs is None:
        return f"The units of {metric.name!r} add up to nothing that could be compared."
    return _Seen(mine, theirs, _compared(metric, outcome.control, outcome.canary, alpha))


def _compared(metric: Metric, control: Arm, canary: Arm, alpha: float) -> Interval:
    """Candidate minus control; exact where events are few and a share is compared in its own unit."""
    if _is_relative(metric):
        found = relative_lift(control, canary, alpha=alpha, planned=_PLANNED)
    else:
        found = difference(control, canary, alpha=alpha, planned=_PLANNED)
    if isinstance(control, Proportion) and isinstance(canary, Proportion):
        if max(_events(control), _events(canary)) >= _FEW_EVENTS:
            return found
        if not _is_relative(metric):
            return _exact(control, canary, found, alpha)
    elif min(control.n, canary.n) >= _FEW_UNITS:
        return found
    return Interval(found.estimate, -math.inf, math.inf, found.se, found.n)


def _exact(control: Proportion, canary: Proportion, found: Interval, alpha: float) -> Interval:
    """The difference of two shares that each lie where they may: wide, and right at any count."""
    theirs, mine = exact_level(control, alpha=alpha / 2), exact_level(canary, alpha=alpha / 2)
    return Interval(found.estimate, mine.low - theirs.high, mine.high - theirs.low, found.se, found.n)


def _events(arm: Proportion) -> int:
    """The rarer of the two things that can happen to a unit."""
    return min(arm.successes, arm.n - arm.successes)


# --- what it means ------------------------------------------------------------------------------------------


def _result(metric: Metric, seen: _Seen, beside: bool) -> Result:
    if seen.limit is not None and seen.limit.broken:
        return "fail"
    if seen.compared is None:
        return "inconclusive" if beside else "pass"
    least, most = seen.compared.low, seen.compared.high
    if metric.higher_is == "better":
        least, most = -most, -least
    if least > metric.margin:
        return "fail"
    # Buckets are too wide to prove that two p99s are alike: one that looks alike and keeps its limit will do.
    alike = seen.compared.estimate <= metric.margin
    keeps = metric.name == "p99" and alike and seen.limit is not None and seen.limit.kept
    return "pass" if most < metric.margin or keeps else "inconclusive"


def _sentence(metric: Metric, seen: _Seen, result: Result) -> str:
    said = f"{metric.name} is {_value(metric, seen.canary)} for the candidate"
    if seen.control is not None:
        said += f" and {_value(metric, seen.control)} for control"
    compared = seen.compared
    if compared is not None and math.isfinite(compared.low) and math.isfinite(compared.high):
        said += (
            f": {_change(metric, compared.estimate)}, surely between {_change(metric, compared.low)} and "
            f"{_change(metric, compared.high)}"
        )
    elif compared is not None:
        said += ", and too little was seen to compare them"
    if compared is not None:
        worse = "less" if metric.higher_is == "better" else "more"
        said += f"; {_change(metric, metric.margin).lstrip('+')} {worse} are borne"
    if seen.limit is not None:
        said += f". {_limited(metric, seen.limit)}"
    if result == "inconclusive":
        said += ". Whether it is worse cannot be told yet"
    return f"{said}."


def _limited(metric: Metric, limit: _Limit) -> str:
    value = _value(metric, limit.value)
    if limit.broken:
        return (
            f"It is beyond chance above the limit of {value}{', and above control' if limit.excused else ''}"
        )
    if limit.excused:
        return f"Control is above the limit of {value}, too, so that it says nothing"
    return f"The limit of {value} is {'kept' if limit.kept else 'not exceeded beyond chance'}"


def _value(metric: Metric, value: float) -> str:
    match _unit(metric):
        case "seconds":
            return f"{1000 * value:.4g} ms"
        case "share":
            return f"{100 * value:.3g} %"
        case _:
            return f"{value:.4g}"


def _change(metric: Metric, value: float) -> str:
    if _is_relative(metric):
        return f"{100 * value:+.3g} %"
    return f"{100 * value:+.3g} points" if metric.name in BUILT_IN else f"{value:+.4g}"


def _unit(metric: Metric) -> Literal["seconds", "share", ""]:
    if metric.name in LATENCIES:
        return "seconds"
    return "share" if metric.name in BUILT_IN else ""


def _is_relative(metric: Metric) -> bool:
    return metric.margin_is == "relative" or metric.name in LATENCIES


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(metric: Metric, result: Result, sentence: str) -> MetricVerdict:
    return MetricVerdict(
        metric=metric.name,
        kind=metric.kind,
        result=result,
        sentence=sentence,
        relative=_is_relative(metric),
        margin=metric.margin,
    )
