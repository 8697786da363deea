"""What the answers themselves say of a candidate: whether they are spread otherwise than control's, and how
many copies a shadow answered as production did. Pure.

`output_shift` is an alarm and no proof: what is not shown to be shifted passes. A harmless version may answer
otherwise now and then; one that was given dollars for cents answers otherwise nearly always.
"""

from __future__ import annotations

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.distributions import total_variation
from fairlead.experiments.exact import exact_level
from fairlead.rollouts.observation import COUNTERS, Observation
from fairlead.rollouts.spec import AGREEMENT, OUTPUT_SHIFT, Metric
from fairlead.rollouts.verdicts import MetricVerdict, Result

__all__ = ["answer_verdict"]

_HEARD = 100
"""So many answers per arm the log has to tell of, or half of those that the counters know."""


def answer_verdict(metric: Metric, observation: Observation, *, alpha: float) -> MetricVerdict:
    """The verdict of `output_shift` or `agreement`; `alpha` is its chance of a false alarm."""
    source = COUNTERS if metric.name == AGREEMENT else OUTPUT_SHIFT
    if source in observation.errors:
        said = f"{metric.name} could not be measured: {observation.errors[source]}"
        return _verdict(metric, "error", said)
    if metric.name == AGREEMENT:
        return _agreement(metric, observation, alpha)
    return _shift(metric, observation, alpha)


def _shift(metric: Metric, observation: Observation, alpha: float) -> MetricVerdict:
    outputs, canary = observation.outputs, observation.canary
    assert outputs is not None
    if not outputs.classes:
        return _verdict(
            metric, "no-data", "The log knows too few answers of the version in production to compare with."
        )
    answered = canary.requests - canary.failures - canary.rejected
    if outputs.answers < max(1, min(_HEARD, answered // 2)):
        return _verdict(
            metric, "no-data", f"The log tells of {outputs.answers} answers of an arm so far: too few."
        )
    found = total_variation(outputs.control, outputs.canary, alpha=alpha)
    result: Result = "fail" if found.low > metric.margin else "pass"
    return _verdict(
        metric,
        result,
        f"output_shift: {_percent(found.estimate)} of the candidate's outputs lie otherwise than control's, "
        f"surely at least {_percent(found.low)}; {_percent(metric.margin)} are borne.",
        estimate=found.estimate,
        low=found.low,
    )


def _agreement(metric: Metric, observation: Observation, alpha: float) -> MetricVerdict:
    canary = observation.canary
    compared = canary.same + canary.different
    if not compared:
        dropped = f", and for {canary.dropped} there was no room" if canary.dropped else ""
        return _verdict(metric, "no-data", f"No copy has been compared yet{dropped}.")
    found = exact_level(Proportion(compared, canary.same), alpha=alpha)
    least = 1.0 - metric.margin
    result: Result = "inconclusive"
    if found.high < least:
        result = "fail"
    elif found.low > least:
        result = "pass"
    return _verdict(
        metric,
        result,
        f"agreement: {_percent(found.estimate)} of {compared} copies were answered alike, surely between "
        f"{_percent(found.low)} and {_percent(found.high)}; at least {_percent(least)} are asked for.",
        canary=found.estimate,
        low=found.low,
        high=found.high,
    )


def _verdict(
    metric: Metric,
    result: Result,
    sentence: str,
    *,
    canary: float | None = None,
    estimate: float | None = None,
    low: float | None = None,
    high: float | None = None,
) -> MetricVerdict:
    return MetricVerdict(
        metric=metric.name,
        kind=metric.kind,
        result=result,
        sentence=sentence,
        unit="share",
        margin=metric.margin,
        canary=canary,
        estimate=estimate,
        low=low,
        high=high,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
