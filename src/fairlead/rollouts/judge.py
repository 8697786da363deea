"""What an observation says of a step: a verdict per metric, and one for all of them. Pure."""

from __future__ import annotations

import msgspec

from fairlead.experiments.multiplicity import share_of_alpha
from fairlead.experiments.sample_ratio import sample_ratio
from fairlead.rollouts.answer_verdicts import answer_verdict
from fairlead.rollouts.observation import UNITS, Observation
from fairlead.rollouts.spec import AGREEMENT, BUILT_IN, LATENCIES, OUTPUT_SHIFT, Metric, RolloutSpec, Step
from fairlead.rollouts.verdicts import MetricVerdict, Result, verdict

__all__ = ["Judgement", "judge"]

_DECIDING = ("guardrail", "goal")
_LIMITED = ("error_rate", "p99")
"""Metrics that have a limit, so that they say something when there is nobody to compare with."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All verdicts on a step or on the bake, and what they come to.

    `result` is "fail" where a guardrail or a goal is worse than is borne, as early as that shows; "pass" only
    where nothing is left to wait for: `waiting` says what is. `mismatch` tells that the units do not lie as
    the plan has them, so that no comparison means anything; `regressed` names failing signals.
    """

    result: Result
    sentence: str
    verdicts: tuple[MetricVerdict, ...]
    waiting: tuple[str, ...] = ()
    mismatch: str | None = None
    regressed: tuple[str, ...] = ()


def judge(spec: RolloutSpec, step: Step | None, observation: Observation) -> Judgement:
    """The judgement on what was seen since one of the spec's steps began; since the bake did for None.

    The alpha of the spec is shared out evenly over the metrics that can roll back and the steps judged, so
    that it holds for the rollout as a whole, however often one looks. A goal says how it fares in every step
    and has to hold in the last. Copies for a shadow run in idle moments, several at a time, so that their
    latencies are told and decide nothing; outcomes belong to answers that somebody got.
    """
    deciding = [metric for metric in spec.watched if metric.kind in _DECIDING]
    rounds = len(spec.judged) + bool(spec.bake)
    alpha = share_of_alpha(spec.alpha, max(1, len(deciding) * rounds))
    verdicts = tuple(
        _verdict(_in_step(metric, step), spec, observation, alpha=alpha, beside=step is not None)
        for metric in spec.watched
        if _tells(metric, step, observation)
    )
    waiting = () if step is None else _waiting(step, observation)
    last = step is not None and step == spec.judged[-1]
    result, sentence = _overall(observation, verdicts, waiting, last=last)
    if step is not None and step.units and UNITS in observation.errors and result != "fail":
        result, sentence = "error", f"Units could not be counted: {observation.errors[UNITS]}"
    return Judgement(
        result=result,
        sentence=sentence,
        verdicts=verdicts,
        waiting=waiting,
        mismatch=_mismatch(observation),
        regressed=tuple(v.metric for v in verdicts if v.kind == "signal" and v.result == "fail"),
    )


def _tells(metric: Metric, step: Step | None, observation: Observation) -> bool:
    """Whether there is anything in that step that the metric could be measured by."""
    if step is None:
        return metric.name in _LIMITED
    if metric.name == OUTPUT_SHIFT:
        return bool(step.weight) and (observation.outputs is not None or OUTPUT_SHIFT in observation.errors)
    if metric.name == AGREEMENT:
        return bool(step.mirror)
    return bool(step.weight) or metric.name in BUILT_IN


def _in_step(metric: Metric, step: Step | None) -> Metric:
    if step is not None and step.mirror and metric.name in LATENCIES:
        return msgspec.structs.replace(metric, kind="dry-run")
    return metric


def _verdict(
    metric: Metric, spec: RolloutSpec, observation: Observation, *, alpha: float, beside: bool
) -> MetricVerdict:
    if metric.name in (OUTPUT_SHIFT, AGREEMENT):
        return answer_verdict(metric, observation, alpha=alpha)
    return verdict(metric, spec.limits, observation, alpha=alpha, beside=beside)


def _overall(
    observation: Observation, verdicts: tuple[MetricVerdict, ...], waiting: tuple[str, ...], *, last: bool
) -> tuple[Result, str]:
    """What the verdicts come to, and the sentence that says why. Of a goal only harm counts before the last
    step; of signals and dry runs nothing does."""
    blocking = [v for v in verdicts if v.kind == "guardrail" or (v.kind == "goal" and last)]
    for found in verdicts:
        if found.kind in _DECIDING and found.result == "fail":
            return "fail", found.sentence
    for result in ("error", "no-data", "inconclusive"):
        for found in blocking:
            if found.result == result:
                return found.result, found.sentence
    if not observation.canary.requests:
        return "no-data", "The candidate has answered no request yet."
    if waiting:
        return "inconclusive", waiting[0]
    return "pass", "Everything that decides is within what is borne."


def _waiting(step: Step, observation: Observation) -> tuple[str, ...]:
    """The minimums of the step that are not reached yet."""
    found = []
    if observation.seconds < step.minimum:
        found.append(
            f"The step has been watched for {observation.seconds:.0f} s of at least {step.minimum:.0f}."
        )
    control = observation.control.requests if observation.control is not None else 0
    events = min(observation.canary.requests, control)
    if events < step.events:
        found.append(f"An arm has answered {events} requests of at least {step.events}.")
    arms = [arm for arm, share in observation.expected.items() if share > 0] or list(observation.units)
    units = min((observation.units.get(arm, 0) for arm in arms), default=0)
    if units < step.units:
        found.append(f"An arm has met {units} units of at least {step.units}.")
    return tuple(found)


def _mismatch(observation: Observation) -> str | None:
    """What is wrong with the split, if it is not the plan's beyond chance."""
    expected = observation.expected
    if not any(share > 0 for share in expected.values()):
        return None
    found = sample_ratio({arm: observation.units.get(arm, 0) for arm in expected}, expected)
    return found.sentence if found.mismatch else None
