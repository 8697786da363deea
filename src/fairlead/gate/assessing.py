"""One run of a gate, from the rows to the report."""

from __future__ import annotations

import time

from fairlead.contracts.table import Table
from fairlead.errors import (
    DeadlineExceeded,
    FairleadError,
    InvalidGate,
    InvalidModelFile,
    RuntimeFailed,
)
from fairlead.gate.answers import Answers
from fairlead.gate.asking import LEAST_TIMED, Asked, Asking, ask
from fairlead.gate.behaviour import cases_of, judged, rows_of
from fairlead.gate.comparing import answers_check, fairness_checks, metric_checks
from fairlead.gate.compatibility import breaks
from fairlead.gate.held_out import HeldOut, held_out
from fairlead.gate.replaying import Replaying, replay_checks, without_production
from fairlead.gate.report import Check, Report, Side, number, summary
from fairlead.gate.spec import GateSpec
from fairlead.registry.versions import VersionSpec

__all__ = ["assess"]


def assess(
    spec: GateSpec,
    candidate: VersionSpec,
    against: VersionSpec | None,
    table: Table | None,
    asking: Asking,
    replaying: Replaying,
    *,
    data_digest: str | None = None,
) -> Report:
    """What the gate finds of a candidate beside the version in production, None where there is none.

    A candidate that cannot be loaded, dies or takes too much does not pass, and the report says why. Raises
    `InvalidGate` when the gate does not fit model and data, and whatever keeps production from being run.
    """
    began = time.monotonic()
    contract = candidate.contract
    held = held_out(spec, table, contract)
    mine = held.features(contract)
    cases = {test.name: cases_of(test, contract, mine, held.columns, held.truth) for test in spec.tests}
    tried = [row for test in spec.tests for row in rows_of(cases[test.name])]
    if not mine and not tried and against is None:
        raise InvalidGate(
            "The gate asks nothing: it has no data and no tests, and no version is in production.",
            remedy="Add data and metrics, or tests.",
        )
    other = None if against is None or not mine else ask(asking, against, held.features(against.contract))
    checks = _compatible(spec, candidate, against)
    compared, machine = 0, ""
    if mine or tried:
        try:
            asked = ask(asking, candidate, [*mine, *tried])
        except (DeadlineExceeded, InvalidModelFile, RuntimeFailed) as error:
            checks.append(_cannot_run(error))
        else:
            machine = asked.runtime
            found, compared = _held_checks(spec, candidate, held, asked, other)
            checks += found
            place = len(mine)
            for test in spec.tests:
                width = len(rows_of(cases[test.name]))
                part = asked.answers.part(place, place + width)
                checks.append(judged(test, contract, cases[test.name], part))
                place += width
            checks += _budget(spec, asked, other)
    if not any(check.name == "runs" for check in checks):
        checks += _replayed(spec, candidate, against, replaying)
    return Report(
        model=candidate.model,
        candidate=_side(candidate),
        against=None if against is None else _side(against),
        passed=not any(check.closes for check in checks),
        summary=summary(checks, candidate.version, None if against is None else against.version),
        checks=checks,
        rows=len(mine),
        compared=compared,
        alpha=spec.alpha,
        spec_digest=spec.digest,
        data_digest=data_digest,
        machine=machine,
        seconds=round(time.monotonic() - began, 3),
    )


def _held_checks(
    spec: GateSpec, candidate: VersionSpec, held: HeldOut, asked: Asked, other: Asked | None
) -> tuple[list[Check], int]:
    rows = len(held.columns)
    if not rows:
        return [], 0
    ours = asked.answers.part(0, rows)
    theirs: Answers | None = None if other is None else other.answers
    output = candidate.contract.output
    metrics, compared = metric_checks(spec, output, held, ours, theirs)
    fair = fairness_checks(spec, output, held, ours)
    return [answers_check(spec, ours, theirs), *metrics, *fair], compared


def _replayed(
    spec: GateSpec, candidate: VersionSpec, against: VersionSpec | None, replaying: Replaying
) -> list[Check]:
    if spec.replay is None:
        return []
    if against is None:
        return without_production()
    try:
        found = replaying(candidate, against, spec.replay)
    except (DeadlineExceeded, InvalidModelFile, RuntimeFailed) as error:
        return [_cannot_run(error)]
    return replay_checks(spec, spec.replay, against.version, found)


def _compatible(spec: GateSpec, candidate: VersionSpec, against: VersionSpec | None) -> list[Check]:
    if against is None or not spec.compatibility.check:
        return []
    found = breaks(against.contract, candidate.contract)
    meant = [one for one in found if one.field in spec.compatibility.allow]
    broken = [one for one in found if one.field not in spec.compatibility.allow]
    text = "Whoever can call production can call the candidate."
    if broken:
        text = f"Callers of production would notice: {'; '.join(one.text for one in broken)}."
    elif meant:
        text = f"Callers would notice only what is allowed: {'; '.join(one.text for one in meant)}."
    check = Check(
        group="compatibility",
        name="callers of production",
        status="failed" if broken else "passed",
        closes=bool(broken),
        text=text,
        numbers={"broken": len(broken), "allowed": len(meant)},
        examples=[{"field": one.field, "why": one.text} for one in broken],
    )
    return [check]


def _budget(spec: GateSpec, asked: Asked, other: Asked | None) -> list[Check]:
    budget = spec.budget
    ratio = None
    if other is not None and asked.p99_ms is not None and other.p99_ms:
        ratio = asked.p99_ms / other.p99_ms
    measured = (
        ("p99_ms", "The 99th percentile of one row's time", asked.p99_ms, budget.p99_ms, "ms"),
        ("slowdown", "One row's time beside production's", ratio, budget.slowdown, "times"),
        ("memory_mb", "Peak memory", asked.memory_mb, budget.memory_mb, "MB"),
    )
    return [
        _within(spec, name, what, value, limit, unit)
        for name, what, value, limit, unit in measured
        if limit is not None
    ]


def _within(spec: GateSpec, name: str, what: str, value: float | None, limit: float, unit: str) -> Check:
    if value is None:
        return Check(
            group="budget",
            name=name,
            status="inconclusive",
            closes=spec.inconclusive == "fail",
            text=f"{what} cannot be told: that takes {LEAST_TIMED} rows of each version that is asked.",
            numbers={"limit": limit},
        )
    passed = value <= limit
    return Check(
        group="budget",
        name=name,
        status="passed" if passed else "failed",
        closes=not passed,
        text=f"{what} is {number(value)} {unit}, at most {number(limit)} are allowed.",
        numbers={"value": value, "limit": limit},
    )


def _cannot_run(error: FairleadError) -> Check:
    return Check(group="answers", name="runs", status="failed", closes=True, text=error.message)


def _side(spec: VersionSpec) -> Side:
    return Side(version=spec.version, digest=spec.manifest.digest)
