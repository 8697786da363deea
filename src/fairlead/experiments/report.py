"""The report of an experiment: what is to be said to a manager, and the numbers under it. Pure.

Each metric has one verdict (`verdict.py`), which holds at every look. Goals share alpha, guardrails as well;
what else is watched is told with p-values that stand for their number (Benjamini-Hochberg), and decides
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.bayes import Belief, belief, belief_of_difference
from fairlead.experiments.exact import conversions_log_e
from fairlead.experiments.multiplicity import benjamini_hochberg, holm, share_of_alpha
from fairlead.experiments.planning import days_needed, units_for_means
from fairlead.experiments.question import Evidence, Kind, Question, Seen
from fairlead.experiments.sample_ratio import SampleRatio
from fairlead.experiments.sequences import Arm, Interval
from fairlead.experiments.strata import Stratum, split_of, standardised
from fairlead.experiments.verdict import Verdict, verdict
from fairlead.experiments.words import Told, told

__all__ = ["ArmResult", "ExperimentReport", "MetricResult", "Needed", "Range", "report"]

_PLANNED = 5000
"""Units at which intervals are narrowest; fixed, since it may not depend on the data."""

_POWER = 0.8
_NOTHING = 1e6
"""A difference so many times smaller than its error is none, and no number of units will tell it."""


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate and where the truth lies at every look; None where the data leave it open."""

    estimate: float | None
    low: float | None
    high: float | None


class ArmResult(msgspec.Struct, frozen=True, kw_only=True):
    """One arm in one metric: its version, its units, and their mean (for a share the part with the event).

    `adjusted` is the mean with what was foreseeable taken out and phases put together; what is compared.
    """

    version: str
    units: int
    mean: float | None
    adjusted: float | None


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """How many more units, and at the present pace days, a verdict takes with 80 % chance, if the difference
    is what it looks like now. That is a guess as long as the interval is wide."""

    units: int
    days: int | None


class MetricResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says. `difference` is in its own unit, `lift` relative to control.

    `p` is this look's, `p_adjusted` the same in view of how many metrics were asked. `exact_p` comes from the
    events alone and holds at low counts. `kept` tells of a guardrail whether it is within its margin for sure
    (true), beyond it (false), or open. `removed` is the share of variance that CUPED took out, by what was
    known of `foreseen` units. The belief is no ground to stop.
    """

    metric: str
    kind: Kind
    shape: Literal["proportion", "mean", "ratio"]
    window: float
    finding: Literal["better", "worse", "no difference", "not yet known", "cannot be told"]
    sentence: str
    control: ArmResult
    treated: ArmResult
    difference: Range
    lift: Range
    alpha: float
    p: float
    p_adjusted: float = 1.0
    exact_p: float | None = None
    kept: bool | None = None
    margin: float = 0.0
    removed: float = 0.0
    foreseen: int = 0
    belief: Belief | None = None
    needed: Needed | None = None


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole: `sentence` is the verdict in words, `finding` that of the goal. `split` is the check of the
    sample ratio, `units` were met in `days`, `switched` of them met the other arm later and stay with their
    first."""

    control: str
    treated: str
    finding: Literal["better", "worse", "no difference", "not yet known", "cannot be told"]
    sentence: str
    units: int
    days: float
    switched: int
    split: SampleRatio
    split_sentence: str
    alpha: float
    metrics: tuple[MetricResult, ...] = ()


def report(seen: Seen, *, alpha: float = 0.05) -> ExperimentReport:
    """The report on what was seen. `alpha` is the chance that the goals, and that the guardrails, tell of a
    difference that is not there. Raises ValueError for an alpha outside (0, 0.5)."""
    split = split_of(seen.split)
    kinds: dict[Kind, int] = {}
    for evidence in seen.evidence:
        kinds[evidence.question.kind] = kinds.get(evidence.question.kind, 0) + 1
    results = []
    for evidence in seen.evidence:
        kind = evidence.question.kind
        share = share_of_alpha(alpha, kinds[kind]) if kind in ("goal", "guardrail") else alpha
        results.append(_result(seen, evidence, split, share))
    metrics = _adjusted(results)
    finding, sentence = _overall(seen, metrics, split)
    return ExperimentReport(
        control=seen.control,
        treated=seen.treated,
        finding=finding,
        sentence=sentence,
        units=seen.units,
        days=seen.days,
        switched=seen.switched,
        split=split,
        split_sentence=split.sentence,
        alpha=alpha,
        metrics=metrics,
    )


# --- one metric ---------------------------------------------------------------------------------------------


def _result(seen: Seen, evidence: Evidence, split: SampleRatio, alpha: float) -> MetricResult:
    question = evidence.question
    control, treated = evidence.arms
    margin = _relative(question, control)
    found = verdict(
        control,
        treated,
        metric=question.name,
        higher_is=question.higher_is,
        margin=margin,
        alpha=alpha,
        planned=_PLANNED,
        split=split,
        strata=evidence.strata,
    )
    before, after = standardised(evidence.strata)
    needed = _needed(seen, evidence, found, alpha) if found.finding == "not yet known" else None
    words = Told(
        question=question,
        control=seen.control,
        treated=seen.treated,
        shape=evidence.shape,
        means=(before.mean, after.mean),
        units=control.n + treated.n,
        days=seen.days,
        margin=margin,
        problem=evidence.problem,
        mismatch=split.sentence if split.mismatch else None,
        needed=None if needed is None else (needed.units, needed.days),
    )
    finding, sentence = told(words, found)
    return MetricResult(
        metric=question.name,
        kind=question.kind,
        shape=evidence.shape,
        window=question.window,
        finding=finding,
        sentence=sentence,
        control=ArmResult(version=seen.control, units=control.n, mean=control.mean, adjusted=before.mean),
        treated=ArmResult(version=seen.treated, units=treated.n, mean=treated.mean, adjusted=after.mean),
        difference=_range(found.difference),
        lift=_range(found.lift),
        alpha=alpha,
        p=found.p,
        exact_p=_exact_p(evidence.strata),
        kept=_kept(question, found, margin) if question.kind == "guardrail" else None,
        margin=margin,
        removed=evidence.removed,
        foreseen=evidence.foreseen,
        belief=_belief(question, evidence, found),
        needed=needed,
    )


def _relative(question: Question, control: Arm) -> float:
    """The margin as a share of control's value."""
    if question.margin_is == "relative":
        return question.margin
    return question.margin / abs(control.mean) if control.mean else 0.0


def _range(found: Interval) -> Range:
    if not found.known:
        return Range(estimate=None, low=None, high=None)
    low, high = (value if math.isfinite(value) else None for value in (found.low, found.high))
    return Range(estimate=found.estimate, low=low, high=high)


def _exact_p(strata: Sequence[Stratum]) -> float | None:
    evidence = 0.0
    for one in strata:
        if not (isinstance(one.control, Proportion) and isinstance(one.treated, Proportion)):
            return None
        evidence += conversions_log_e(one.control, one.treated, share=one.share)
    return math.exp(-max(evidence, 0.0)) if strata else None


def _kept(question: Question, found: Verdict, margin: float) -> bool | None:
    """Whether a guardrail is within its margin for sure, or beyond it for sure."""
    if not found.lift.known:
        return None
    worst, best = -found.lift.low, -found.lift.high
    if question.higher_is == "worse":
        worst, best = found.lift.high, found.lift.low
    if best > margin:
        return False
    return True if worst < margin else None


def _belief(question: Question, evidence: Evidence, found: Verdict) -> Belief | None:
    if not found.difference.known:
        return None
    control, treated = evidence.arms
    alone = len(evidence.strata) == 1 and evidence.strata[0].adjusted is None
    if alone and isinstance(control, Proportion) and isinstance(treated, Proportion):
        held = belief(control, treated)
    else:
        held = belief_of_difference(found.difference.estimate, found.difference.se)
    if question.higher_is == "better":
        return held
    return Belief(1.0 - held.better, held.loss_if_kept, held.loss_if_shipped)


def _needed(seen: Seen, evidence: Evidence, found: Verdict, alpha: float) -> Needed | None:
    """Nothing while too little is known to guess from."""
    change, share = found.difference, _share(evidence.strata)
    control, treated = evidence.arms
    if not (change.known and control.n and treated.n and 0.0 < share < 1.0):
        return None
    size = abs(change.estimate)
    if not size * size or change.se > _NOTHING * size:
        return None
    # The spread of one unit that, in arms of this share, gives the standard error that was found.
    deviation = change.se * math.sqrt(change.n * share * (1.0 - share))
    wanted = units_for_means(deviation, change.estimate, alpha=alpha, power=_POWER, share=share)
    more = max(wanted - change.n, 0)
    if not more:
        return None
    pace = seen.units / seen.days if seen.days > 0.0 else 0.0
    return Needed(units=more, days=days_needed(more, pace) if pace else None)


def _share(strata: Sequence[Stratum]) -> float:
    units = sum(s.control.n + s.treated.n for s in strata)
    return sum((s.control.n + s.treated.n) * s.share for s in strata) / units if units else 0.0


# --- all of them --------------------------------------------------------------------------------------------


def _adjusted(results: Sequence[MetricResult]) -> tuple[MetricResult, ...]:
    """The results with p-values in view of each other: by Holm among those that decide, else by
    Benjamini-Hochberg."""
    deciding = {one.metric: one.p for one in results if one.kind in ("goal", "guardrail")}
    others = {one.metric: one.p for one in results if one.metric not in deciding}
    held: Mapping[str, float] = {**holm(deciding), **benjamini_hochberg(others)}
    return tuple(msgspec.structs.replace(one, p_adjusted=held[one.metric]) for one in results)


def _overall(
    seen: Seen, metrics: Sequence[MetricResult], split: SampleRatio
) -> tuple[Literal["better", "worse", "no difference", "not yet known", "cannot be told"], str]:
    """The goal's verdict; without a goal what the guardrails say. A broken guardrail is always said."""
    broken = [one for one in metrics if one.kind == "guardrail" and one.kept is False]
    goals = [one for one in metrics if one.kind == "goal"]
    if not seen.units:
        return "cannot be told", "It cannot be told because no customer has met either version yet."
    if goals:
        finding, said = goals[0].finding, " ".join(one.sentence for one in goals)
    elif broken:
        finding, said = "worse", ""
    elif split.mismatch:
        finding, said = (
            "cannot be told",
            f"It cannot be told because {split.sentence[0].lower()}{split.sentence[1:]}",
        )
    elif metrics:
        first = next((one for one in metrics if one.kind == "guardrail"), metrics[0])
        finding, said = first.finding, first.sentence
    else:
        finding, said = (
            "cannot be told",
            ("It cannot be told because no outcome is compared: give the rollout a goal, or name a metric."),
        )
    warnings = [f"But the guardrail {one.metric!r} is broken: {one.sentence}" for one in broken]
    return finding, " ".join([*([said] if said else []), *warnings])
