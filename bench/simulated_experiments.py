"""Whole reports on experiments without a difference: how often is anything wrong in them? (`simulate.py`)

Sums per arm and stratum go in as the log makes them, and what `experiments.report` says comes out, after
every look.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np

from fairlead.experiments.aggregates import Mean, Proportion
from fairlead.experiments.question import Evidence, Question, Seen
from fairlead.experiments.report import ExperimentReport, report
from fairlead.experiments.sequences import Arm
from fairlead.experiments.strata import Stratum

__all__ = ["alike", "phases"]

_CONVERSION, _REFUNDS, _SPENT, _ERRORS = "conversion", "refunds", "revenue", "complaints"
_QUESTIONS = (
    Question(name=_CONVERSION, kind="goal"),
    Question(name=_SPENT, kind="goal"),
    Question(name="visits", kind="goal"),
    Question(name=_REFUNDS, kind="guardrail", higher_is="worse"),
    Question(name=_ERRORS, kind="guardrail", higher_is="worse"),
)
"""No margin: any guardrail that is told to be worse at all is told wrongly."""

_PHASES = ((4_500, 500, 0.05), (2_500, 2_500, 0.15))
"""Units of control and of the treated arm, and the rate at which both convert: a tenth of the traffic in a
poor week, half of it in a good one."""


def alike(generator: np.random.Generator, runs: int, looks: int, units: int, alpha: float) -> dict[str, Any]:
    """Percent of runs in which, at one of the looks, a report on two arms that are alike says something that
    is not so: of a goal, of a guardrail, of the split, or any of that."""
    wrong = {"goals": 0, "guardrails": 0, "split": 0, "any": 0}
    for _ in range(runs):
        found: set[str] = set()
        for told in _looks(generator, looks, units, alpha):
            found |= _wrong(told)
        for kind in found:
            wrong[kind] += 1
        wrong["any"] += bool(found)
    return {
        "runs": runs,
        "metrics": len(_QUESTIONS),
        **{f"{kind}_false_percent": round(100 * count / runs, 2) for kind, count in wrong.items()},
    }


def phases(generator: np.random.Generator, runs: int, alpha: float) -> dict[str, Any]:
    """What two phases of different shares make of no difference: the median lift, in percent, and in how many
    percent of the runs arms are told apart; by phase as the report does, and with all units in one heap."""
    lifts: dict[str, list[float]] = {"stratified": [], "pooled": []}
    apart = dict.fromkeys(lifts, 0)
    for _ in range(runs):
        strata = tuple(
            Stratum(
                control=Proportion(a, int(generator.binomial(a, rate))),
                treated=Proportion(b, int(generator.binomial(b, rate))),
                share=b / (a + b),
            )
            for a, b, rate in _PHASES
        )
        control, treated = Evidence(question=_QUESTIONS[0], strata=strata).arms
        heap = Stratum(control=control, treated=treated, share=treated.n / (control.n + treated.n))
        for name, held in (("stratified", strata), ("pooled", (heap,))):
            told = _report([(_QUESTIONS[0], held)], alpha).metrics[0]
            lifts[name].append(100.0 * (told.lift.estimate or 0.0))
            apart[name] += told.finding in ("better", "worse")
    return {
        name: {
            "median_lift_percent": round(statistics.median(found), 1),
            "false_percent": round(100 * apart[name] / runs, 2),
        }
        for name, found in lifts.items()
    }


def _looks(
    generator: np.random.Generator, looks: int, units: int, alpha: float
) -> Iterator[ExperimentReport]:
    """The reports of one run, in which about so many units an arm come between two looks."""
    sums: dict[str, tuple[Any, Any]] = {}
    for _ in range(looks):
        treated = int(generator.binomial(2 * units, 0.5))
        for name in (question.name for question in _QUESTIONS):
            control_new, treated_new = (_draw(generator, name, n) for n in (2 * units - treated, treated))
            control, met = sums.get(name, (type(control_new)(), type(treated_new)()))
            sums[name] = control + control_new, met + treated_new
        found = [(question, (_pair(*sums[question.name]),)) for question in _QUESTIONS]
        yield _report(found, alpha)


def _pair(control: Arm, treated: Arm) -> Stratum:
    return Stratum(control=control, treated=treated)


def _draw(generator: np.random.Generator, name: str, units: int) -> Arm:
    """What became of new units: a tenth convert, one in fifty returns something, one in a hundred complains;
    two in ten spend an amount with a long tail; visits are counts."""
    rates = {_CONVERSION: 0.10, _REFUNDS: 0.02, _ERRORS: 0.01}
    if name in rates:
        return Proportion(units, int(generator.binomial(units, rates[name])))
    if name == _SPENT:
        values = generator.lognormal(3.0, 1.0, units) * (generator.random(units) < 0.2)
    else:
        values = generator.poisson(3.0, units).astype(float)
    return Mean(units, float(values.sum()), float((values * values).sum()))


def _report(found: list[tuple[Question, tuple[Stratum, ...]]], alpha: float) -> ExperimentReport:
    strata = found[0][1]
    return report(
        Seen(
            control="v1",
            treated="v2",
            split=tuple((one.control.n, one.treated.n, one.share) for one in strata),
            days=1.0,
            evidence=tuple(Evidence(question=question, strata=held) for question, held in found),
        ),
        alpha=alpha,
    )


def _wrong(told: ExperimentReport) -> set[str]:
    found = {"split"} if told.split.mismatch else set()
    for one in told.metrics:
        if one.kind == "goal" and one.finding in ("better", "worse", "no difference"):
            found.add("goals")
        if one.kind == "guardrail" and one.kept is False:
            found.add("guardrails")
    return found
