"""What was found of a model's drift, for a person, for the API and for alerts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from fairlead.monitoring.changes import share_text
from fairlead.monitoring.drift import Question, Shift, subject
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.quality import Breach

__all__ = [
    "DriftFound",
    "DriftReport",
    "QualityFound",
    "drift_findings",
    "found_of",
    "headline",
    "quality_of",
    "unknown",
]

_MOST_NAMED = 3

_WHAT: dict[Question, str] = {
    "moved-share": "rows that hold something else",
    "null-share": "nulls",
    "misfit-share": "misfits",
    "unseen-share": "unseen categories",
    "outside-share": "numbers outside of all that was known",
}


class DriftFound(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one question about one field of one slice ("" is all traffic).

    `effect` is a share of rows, an alarm where it is `threshold` or more and `p`, adjusted for all fields,
    slices and questions, is at most the report's level. `expected` and `seen` are shares before and now.
    `distances` holds each distance by the name of its exact variant, `changes` the largest changes in words.
    """

    subject: str
    slice: str
    measure: Question
    status: Literal["ok", "alarm", "insufficient", "error"]
    sentence: str
    n: int
    reference_n: int
    effect: float | None = None
    threshold: float | None = None
    expected: float | None = None
    seen: float | None = None
    p: float | None = None
    distances: dict[str, float] = {}
    changes: tuple[str, ...] = ()


class QualityFound(msgspec.Struct, frozen=True, kw_only=True):
    """How often one rule of one field was broken, in shares of rows, now and before; without `rule` it is
    requests that were refused."""

    field: str
    rule: str | None
    status: Literal["ok", "alarm", "insufficient"]
    sentence: str
    n: int
    reference_n: int
    expected: float
    seen: float
    p: float | None = None


class DriftReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's traffic from `start` to `end` lies beside a reference.

    `against` is "training", "before", "week-before" or "version v1", `reference` says it in words. `level`
    is the chance of a false alarm of drift that a look may have, and as much of broken rules, so that there
    is one in `days` at most on average. `found` has all questions of a field one after the other, and fields
    with an alarm first; "(reference)" and "(slices)" are not fields, but say what there is no reference of.
    `notes` say what of the log is not in it.
    """

    model: str
    version: str | None
    against: str
    reference: str
    start: datetime
    end: datetime
    rows: int
    reference_rows: int
    days: float
    level: float
    sentence: str
    found: tuple[DriftFound, ...] = ()
    quality: tuple[QualityFound, ...] = ()
    notes: tuple[str, ...] = ()


def unknown(subject: str, why: str) -> DriftFound:
    """What stands in the report for something that has no reference."""
    return DriftFound(
        subject=subject, slice="", measure="moved-share", status="insufficient", sentence=_ended(why),
        n=0, reference_n=0,
    )  # fmt: skip


def found_of(shifts: Iterable[Shift]) -> tuple[DriftFound, ...]:
    """The same in words and by the names that people give; fields with an alarm first, the surest of them at
    the top, all others in their order."""
    listed = list(shifts)
    alarmed: dict[tuple[str, str], float] = {}
    for one in listed:
        place = (one.slice, subject(one.key))
        if one.status == "alarm" and one.p is not None and one.effect is not None:
            alarmed[place] = max(one.effect, alarmed.get(place, 0.0))
    told = [
        DriftFound(
            subject=subject(one.key),
            slice=one.slice,
            measure=one.question,
            status=one.status,
            sentence=_sentence(one),
            n=one.n,
            reference_n=one.reference_n,
            effect=one.effect,
            threshold=one.floor,
            expected=one.expected,
            seen=one.seen,
            p=one.p,
            distances=one.distances,
            changes=one.changes,
        )
        for one in listed
    ]
    return tuple(sorted(told, key=lambda one: -alarmed.get((one.slice, one.subject), -1.0)))


def quality_of(breaches: Iterable[Breach]) -> tuple[QualityFound, ...]:
    """The same in words, alarms first."""
    told = [
        QualityFound(
            field=one.field,
            rule=one.rule,
            status=one.status,
            sentence=f"{one.name} {share_text(one.expected)} → {share_text(one.seen)} of {one.n:,} rows.",
            n=one.n,
            reference_n=one.reference_n,
            expected=one.expected,
            seen=one.seen,
            p=one.p,
        )
        for one in breaches
    ]
    return tuple(sorted(told, key=lambda one: one.status != "alarm"))


def headline(
    found: Sequence[DriftFound],
    quality: Sequence[QualityFound],
    against: str,
    rows: int,
    days: float,
    lacks: str = "",
) -> str:
    """The sentence on top: what drifted, or that nothing did, or why that cannot be told; `lacks` is why
    where there is no reference."""
    fields = dict.fromkeys((one.slice, one.subject) for one in found)
    drifted = dict.fromkeys((one.slice, one.subject) for one in found if one.status == "alarm")
    broken = [one.sentence.rstrip(".") for one in quality if one.status == "alarm"]
    more = f" More rules are broken than before: {'; '.join(broken[:_MOST_NAMED])}." if broken else ""
    if drifted:
        first = {(one.slice, one.subject): _short(one) for one in reversed(found) if one.status == "alarm"}
        named = [
            f"{_named(name, slice)} ({first[slice, name]})" for slice, name in list(drifted)[:_MOST_NAMED]
        ]
        rest = f", and {len(drifted) - _MOST_NAMED} more" if len(drifted) > _MOST_NAMED else ""
        return (
            f"{len(drifted)} of {len(fields)} fields drifted from {against}: {', '.join(named)}{rest}.{more}"
        )
    told = [one for one in found if one.status == "ok"]
    if told:
        unknown = len(fields) - len({(one.slice, one.subject) for one in told})
        rest = f" Of {unknown} too little is known." if unknown else ""
        known = f"{len(fields) - unknown} fields, {rows:,} rows"
        return (
            f"Nothing drifted from {against}: {known}, at most one false alarm in {days:g} days.{rest}{more}"
        )
    why = next((one.sentence for one in found), lacks or "there was no traffic that could be counted")
    because = f"{why[:1].lower()}{why[1:].rstrip('.')}"
    return f"Whether anything drifted from {against} cannot be told: {because}.{more}"


def drift_findings(report: DriftReport) -> list[Finding]:
    """The report as findings: of kind "drift", and of kind "quality" for broken rules."""
    common: dict[str, Any] = {
        "model": report.model,
        "version": report.version,
        "start": report.start,
        "end": report.end,
    }
    found = [
        Finding(
            **common,
            kind="drift",
            subject=one.subject,
            slice=one.slice,
            status=one.status,
            sentence=f"{_named(one.subject, one.slice)}, against {report.against}: {one.sentence}",
            measure=one.measure,
            against=report.against,
            n=one.n,
            value=one.effect,
            expected=one.expected,
            threshold=one.threshold,
            p=one.p,
        )
        for one in report.found
    ]
    return found + [
        Finding(
            **common,
            kind="quality",
            subject=f"{one.field}: {one.rule}" if one.rule is not None else "refused requests",
            status=one.status,
            sentence=one.sentence,
            measure="breach-share" if one.rule is not None else "refused-share",
            against=report.against,
            n=one.n,
            value=one.seen,
            expected=one.expected,
            p=one.p,
        )
        for one in report.quality
    ]


def _ended(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:].rstrip('.')}."


def _named(subject: str, slice: str) -> str:
    return f"{subject} where {slice}" if slice else subject


def _sentence(one: Shift) -> str:
    if one.effect is None:
        return one.problem
    what = _WHAT[one.question]
    if one.expected is not None and one.seen is not None:
        told = f"{what} {share_text(one.expected)} → {share_text(one.seen)}"
    else:
        told = f"{share_text(one.effect)} {what}"
        told += f": {', '.join(one.changes)}" if one.changes and one.effect else ""
    return f"{told}; p {one.p:.1g} in {one.n:,} rows."


def _short(one: DriftFound) -> str:
    if one.changes:
        return one.changes[0]
    return one.sentence.partition(";")[0]
