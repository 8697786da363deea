"""The checks that two versions' answers to the same rows come to: answers, metrics, slices, fairness. Pure.

Half of alpha is spent on the whole data, divided by the number of metrics, half on the slices, divided by
metrics times parts; so all of them together fail a version that is as good as production with probability
alpha at most, however many slices there are (Bonferroni), and many slices do not blur the view of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Output
from fairlead.experiments.multiplicity import share_of_alpha
from fairlead.gate.answers import Answers, as_class
from fairlead.gate.fairness import Gap, equalized_odds, parity
from fairlead.gate.held_out import HeldOut
from fairlead.gate.losses import Compared, compare, losses, value_of, verify_metric
from fairlead.gate.report import Check, Status, number
from fairlead.gate.spec import Fairness, GateSpec, Metric

__all__ = ["answers_check", "fairness_checks", "metric_checks"]

Array = npt.NDArray[Any]


def answers_check(spec: GateSpec, candidate: Answers, against: Answers | None) -> Check:
    """Whether the candidate answers the rows that production answers, or without one all rows."""
    due = np.ones(len(candidate.errors), bool) if against is None else against.answered
    lost = due & ~candidate.answered
    count, rows = int(lost.sum()), int(due.sum())
    share = count / rows if rows else 0.0
    failed = share > spec.unanswered or not rows
    codes: dict[str, int] = {}
    for row in np.flatnonzero(lost).tolist():
        codes[candidate.errors[row] or ""] = codes.get(candidate.errors[row] or "", 0) + 1
    why = "".join(f", {code} {times:,}" for code, times in sorted(codes.items()))
    text = f"The candidate does not answer {count:,} of {rows:,} rows that it should{why}."
    return Check(
        group="answers",
        name="answers",
        status="failed" if failed else "passed",
        closes=failed,
        text=text if rows else "Production answers none of the rows, so nothing can be compared.",
        numbers={"unanswered": count, "rows": rows, "share": share, "limit": spec.unanswered},
    )


def metric_checks(
    spec: GateSpec, output: Output, held: HeldOut, candidate: Answers, against: Answers | None
) -> tuple[list[Check], int]:
    """The checks of all metrics, over the whole data and by slice, and how many rows they rest on."""
    known = np.array([value is not None for value in held.truth], bool) & candidate.answered
    if against is not None:
        known &= against.answered
    rows = np.flatnonzero(known)
    truth = [held.truth[row] for row in rows.tolist()]
    sides = [_only(side, rows) for side in (candidate, against) if side is not None]
    groups = {
        (column, name): part[rows] for column in held.slices for name, part in held.parts[column].items()
    }
    large = {key for key, part in groups.items() if part.sum() >= spec.minimum_rows}
    compared = [metric for metric in spec.metrics if metric.limit is None or _margin(metric, 1.0) is not None]
    spent = spec.alpha / 2.0 if large and compared else spec.alpha
    found: list[Check] = []
    for metric in spec.metrics:
        verify_metric(metric.name, output)
        weights = None if metric.weight is None else held.weights[metric.weight][rows]
        lost = [losses(metric.name, output, truth, side) for side in sides]
        judge = _Judge(metric, weights, lost[0], lost[1] if len(lost) > 1 else None)
        found += judge.whole(spec, share_of_alpha(spent, max(len(compared), 1)))
        if len(lost) > 1 and metric in compared:
            each = share_of_alpha(spec.alpha / 2.0, max(len(compared) * len(large), 1))
            found += [judge.slice(key, part, key in large, each) for key, part in groups.items()]
    return found, len(rows)


class _Judge(msgspec.Struct, frozen=True):
    """One metric of both versions on the same rows."""

    metric: Metric
    weights: Array | None
    candidate: Array
    against: Array | None

    def whole(self, spec: GateSpec, alpha: float) -> Iterator[Check]:
        """Over all rows: against production, and against a limit of its own."""
        title = self.metric.title
        if self.metric.limit is not None:
            yield self._limited(self.metric.limit)
        if _margin(self.metric, 1.0) is None:
            return
        if self.against is None:
            text = f"{title} is compared with no version: none is in production."
            yield Check(group="metric", name=title, status="skipped", text=text)
            return
        found = compare(self.metric.name, self.candidate, self.against, self.weights, alpha=alpha)
        status, text = self._told(found)
        closes = status == "failed" or (status == "inconclusive" and spec.inconclusive == "fail")
        if status == "inconclusive":
            text = f"{text[:-1]}{_rows_needed(found, self._margin(found))}."
        yield Check(
            group="metric",
            name=title,
            status=status,
            closes=closes,
            text=f"{title}: {text}",
            numbers=_numbers(found, self._margin(found), alpha),
        )

    def slice(self, key: tuple[str, str], part: Array, large: bool, alpha: float) -> Check:
        """Over the rows of one part, which fails only where the candidate is shown to be worse."""
        name = f"{self.metric.title} where {key[0]} is {key[1]}"
        rows = int(part.sum())
        if not large:
            text = f"{name}: {rows:,} rows are too few to tell."
            return Check(group="slice", name=name, status="too_small", text=text, numbers={"rows": rows})
        assert self.against is not None
        weights = None if self.weights is None else self.weights[part]
        found = compare(self.metric.name, self.candidate[part], self.against[part], weights, alpha=alpha)
        status, text = self._told(found)
        return Check(
            group="slice",
            name=name,
            status=status,
            closes=status == "failed",
            text=f"{name}: {text}",
            numbers=_numbers(found, self._margin(found), alpha),
        )

    def _limited(self, limit: float) -> Check:
        value = value_of(self.metric.name, self.candidate, self.weights)
        higher = self.metric.name == "accuracy"
        passed = value >= limit if higher else value <= limit
        name = f"{self.metric.title} limit"
        bound = f"at least {number(limit)}" if higher else f"at most {number(limit)}"
        return Check(
            group="metric",
            name=name,
            status="passed" if passed else "failed",
            closes=not passed,
            text=f"{self.metric.title} of the candidate is {number(value)}, it has to be {bound}.",
            numbers={"candidate": value if math.isfinite(value) else None, "limit": limit},
        )

    def _margin(self, found: Compared) -> float:
        margin = _margin(self.metric, found.against)
        assert margin is not None
        return margin

    def _told(self, found: Compared) -> tuple[Status, str]:
        margin = self._margin(found)
        worse = found.worse
        values = f"{number(found.candidate)} beside {number(found.against)}"
        if not worse.known:
            return "inconclusive", f"{values}, on too few rows to tell."
        where = f"worse by {number(worse.low)} to {number(worse.high)}"
        if worse.high <= 0.0:
            where = f"better by {number(-worse.high)} to {number(-worse.low)}"
        rests = f"{values}, {where}, allowed is {number(margin)}"
        if worse.low > margin:
            return "failed", f"{rests}: it is worse."
        if worse.high <= margin:
            return "passed", f"{rests}."
        return "inconclusive", f"{rests}: that cannot be told."


def fairness_checks(spec: GateSpec, output: Output, held: HeldOut, candidate: Answers) -> list[Check]:
    """The checks of all fairness limits, on the rows that the candidate answers."""
    limits = [
        (limit, kind, bound)
        for limit in spec.fairness
        for kind, bound in (
            ("demographic parity", limit.demographic_parity),
            ("equalized odds", limit.equalized_odds),
        )
        if bound is not None
    ]
    if not limits:
        return []
    alpha = share_of_alpha(spec.alpha, len(limits))
    return [_fair(spec, limit, kind, bound, output, held, candidate, alpha) for limit, kind, bound in limits]


def _fair(
    spec: GateSpec,
    limit: Fairness,
    kind: str,
    bound: float,
    output: Output,
    held: HeldOut,
    candidate: Answers,
    alpha: float,
) -> Check:
    positive = as_class(output, limit.positive, f"positive of the fairness limit over {limit.slice!r}")
    rows = candidate.answered
    if kind == "equalized odds":
        rows = rows & np.array([value is not None for value in held.truth], bool)
    groups = {name: part[rows] for name, part in held.parts[limit.slice].items()}
    kept = np.flatnonzero(rows).tolist()
    chosen = np.array([candidate.values[row] == positive for row in kept], bool)
    if kind == "equalized odds":
        true = np.array([held.truth[row] == positive for row in kept], bool)
        gaps = equalized_odds(groups, chosen, true, minimum=limit.minimum_rows, alpha=alpha)
    else:
        gaps = parity(groups, chosen, minimum=limit.minimum_rows, alpha=alpha)
    name = f"{kind} over {limit.slice}"
    if not gaps:
        text = f"{name}: fewer than two groups have {limit.minimum_rows:,} rows, so nothing can be told."
        return Check(group="fairness", name=name, status="too_small", text=text)
    widest = max(gaps, key=lambda one: (one.width.low, one.width.estimate))
    status: Status = "inconclusive"
    if widest.width.low > bound:
        status = "failed"
    elif all(one.width.high <= bound for one in gaps):
        status = "passed"
    closes = status == "failed" or (status == "inconclusive" and spec.inconclusive == "fail")
    return Check(
        group="fairness",
        name=name,
        status=status,
        closes=closes,
        text=f"{name}: {_gap_told(widest, bound)}",
        numbers=_gap_numbers(widest, bound),
    )


def _gap_told(widest: Gap, bound: float) -> str:
    width = widest.width
    text = (
        f"of {widest.among}, {widest.highest} is chosen more often than {widest.lowest} by"
        f" {number(width.estimate)} ({number(width.low)} to {number(width.high)}),"
        f" allowed is {number(bound)}"
    )
    if widest.small:
        shown = ", ".join(f"{name} ({rows:,})" for name, rows in list(widest.small.items())[:5])
        text += f"; too small to be judged: {shown}"
    return f"{text}."


def _gap_numbers(widest: Gap, bound: float) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        "gap": widest.width.estimate,
        "low": widest.width.low,
        "high": widest.width.high,
        "limit": bound,
    }
    for name, share in widest.shares.items():
        found |= {
            f"share of {name}": share.estimate,
            f"share of {name}, low": share.low,
            f"share of {name}, high": share.high,
            f"rows of {name}": share.n,
        }
    return found


# --- numbers ------------------------------------------------------------------------------------------------


def _only(answers: Answers, rows: Array) -> Answers:
    chosen = rows.tolist()
    return Answers(
        values=[answers.values[row] for row in chosen],
        probabilities=[answers.probabilities[row] for row in chosen],
        errors=[None] * len(chosen),
    )


def _margin(metric: Metric, against: float) -> float | None:
    """How much worse is allowed; a relative margin is a share of what production does."""
    return metric.margin if metric.relative_margin is None else metric.relative_margin * abs(against)


def _numbers(found: Compared, margin: float, alpha: float) -> dict[str, float | None]:
    worse = found.worse
    values = {
        "candidate": found.candidate,
        "against": found.against,
        "worse_by": worse.estimate,
        "low": worse.low,
        "high": worse.high,
        "margin": margin,
        "alpha": alpha,
        "rows": float(worse.n),
    }
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _rows_needed(found: Compared, margin: float) -> str:
    """About how many rows would tell, were the difference what it seems."""
    room = margin - found.worse.estimate
    half = (found.worse.high - found.worse.low) / 2.0
    if not found.worse.known or abs(room) < half / 30.0:
        return ""
    needed = found.worse.n * (half / room) ** 2
    return f", about {math.ceil(needed / 100.0) * 100:,} rows would tell"
