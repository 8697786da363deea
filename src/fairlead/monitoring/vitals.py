"""Whether a version answers, and in time, and whether a model is asked at all: from counts of a minute. Pure.

An alarm needs both: chance does not explain it (the exact binomial bound, one look in 10,000), and what is
sure of it is more than the limit. So three failures of three alarm, and three of a thousand do not.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.experiments.aggregates import Proportion
from fairlead.experiments.exact import clopper_pearson
from fairlead.monitoring.findings import Finding, Kind, Status
from fairlead.telemetry.latency import BOUNDS, bucket_of, quantile

__all__ = [
    "ANSWERED",
    "FAILED",
    "FAULTS",
    "LATENCY",
    "REJECTED",
    "SHED",
    "Limits",
    "Seen",
    "traffic",
    "vitals",
]

ANSWERED, FAILED, REJECTED, FAULTS, SHED, LATENCY = 0, 1, 2, 3, 4, 5
"""Where counts stand in a vector: answers, those that failed, those that were rejected, rows that the version
could not answer whoever then did, refusals for want of room, and from `LATENCY` on the latency histogram."""

Counts = npt.NDArray[np.int64]

_ALPHA = 2e-4
_FEW = 20
_LEAST = 3
"""Fewer failures, or slow answers, are never an alarm."""
_PAST = 500
_SILENT_SECONDS = 10.0
_UNLIKELY = 14.0
"""Requests that a silence has swallowed before it is told: a Poisson process skips 14 once in a million."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where well ends. Rates are shares of answers, times are milliseconds.

    A latency alarms beyond `p99_ms`, or beyond `slower` times the version's own 99th percentile of the last
    quarter of an hour and at least `slower_ms` more. Rejections alarm beyond `rejected_rate` and three times
    their own recent share.
    """

    error_rate: float = 0.01
    fallback_rate: float = 0.05
    rejected_rate: float = 0.05
    shed_rate: float = 0.01
    p99_ms: float = 1_000.0
    slower: float = 2.0
    slower_ms: float = 20.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the `seconds` until now, and of the quarter of an hour before the last minute."""

    counts: Counts
    seconds: float
    past: Counts


def vitals(model: str, version: str, seen: Seen, limits: Limits, now: datetime) -> list[Finding]:
    """How a version answers: failed, fallen back, rejected and slow answers, each a finding."""
    counts, past = seen.counts, seen.past
    answered = int(counts[ANSWERED])
    usual = int(past[REJECTED]) / int(past[ANSWERED]) if past[ANSWERED] >= _PAST else None
    tolerated = max(limits.rejected_rate, 3.0 * (usual or 0.0))
    made = [
        _share("errors", "failed answers", int(counts[FAILED]), answered, limits.error_rate, "failed"),
        _share(
            "errors", "answers by a fallback", int(counts[FAULTS]), answered, limits.fallback_rate,
            "were not answered by this version itself",
        ),
        _share(
            "rejections", "rejected requests", int(counts[REJECTED]), answered, tolerated,
            "broke the data contract", usual,
        ),
        _latency(seen, limits),
    ]  # fmt: skip
    return [_placed(one, model, version, seen.seconds, now) for one in made]


def traffic(
    model: str, seen: Seen, silent_seconds: float, rate: float, limits: Limits, now: datetime
) -> list[Finding]:
    """Whether a model has room for its traffic, and whether it gets any: it was asked last `silent_seconds`
    ago, and `rate` times a second is usual."""
    shed = int(seen.counts[SHED])
    asked = int(seen.counts[ANSWERED]) + shed
    refused = _share("traffic", "refused requests", shed, asked, limits.shed_rate, "found no room")
    if rate * 60.0 < 1.0:
        told = "It is asked too seldom, or not for long enough, to tell a silence."
        silence = _bare("traffic", "silence", "insufficient", told, n=asked)
    else:
        quiet = silent_seconds >= _SILENT_SECONDS and rate * silent_seconds >= _UNLIKELY
        told = (
            f"No request for {silent_seconds:.0f} s, where {rate:.3g} a second were usual."
            if quiet
            else f"It is asked; {rate:.3g} times a second are usual."
        )
        silence = msgspec.structs.replace(
            _bare("traffic", "silence", "alarm" if quiet else "ok", told, n=asked),
            measure="seconds", value=silent_seconds, threshold=max(_SILENT_SECONDS, _UNLIKELY / rate),
        )  # fmt: skip
    return [_placed(one, model, None, seen.seconds, now) for one in (refused, silence)]


def _share(
    kind: Kind, subject: str, part: int, whole: int, limit: float, what: str, usual: float | None = None
) -> Finding:
    """A share of answers against its limit."""
    if not whole:
        return _bare(kind, subject, "insufficient", "Nothing was answered.")
    share = part / whole
    part = min(part, whole)
    low, high = None, None
    status: Status = "ok"
    if share > limit:
        bounds = clopper_pearson(Proportion(whole, part), alpha=_ALPHA)
        low, high = bounds.low, bounds.high
        status = "alarm" if low > limit and part >= _LEAST else "insufficient" if whole < _FEW else "ok"
    told = f"{part:,} of {whole:,} answers ({share:.1%}) {what}; the limit is {limit:.3g}."
    if usual is not None and kind == "rejections":
        told = f"{told[:-1]}, {usual:.1%} are usual."
    return msgspec.structs.replace(
        _bare(kind, subject, status, told, n=whole), measure="share", value=min(share, 1.0), expected=usual,
        low=low, high=high, threshold=limit,
    )  # fmt: skip


def _latency(seen: Seen, limits: Limits) -> Finding:
    """More than one answer in a hundred slower than a limit: then the 99th percentile is."""
    latency = seen.counts[LATENCY:]
    whole = int(latency.sum())
    if not whole:
        return _bare("latency", "p99", "insufficient", "Nothing was answered.")
    limit, against = limits.p99_ms / 1e3, ""
    usual = quantile(seen.past[LATENCY:].tolist(), 0.99) if seen.past[ANSWERED] >= _PAST else None
    if usual is not None:
        own = max(limits.slower * usual, usual + limits.slower_ms / 1e3)
        if own < limit:
            limit, against = own, "before"
    slow = int(latency[bucket_of(limit) + 1 :].sum())
    now = quantile(latency.tolist(), 0.99) or 0.0
    status: Status = "ok"
    if slow > 0.01 * whole:
        sure = clopper_pearson(Proportion(whole, slow), alpha=_ALPHA).low
        status = "alarm" if sure > 0.01 and slow >= _LEAST else "insufficient" if whole < _FEW else "ok"
    told = f"The slowest of a hundred answers took {_ms(now)} or more; the limit is {_ms(limit)}"
    told += f", and {_ms(usual)} were usual." if usual is not None else "."
    if now > BOUNDS[-2]:
        told = f"{told} Times beyond {BOUNDS[-1]:.0f} s are not told apart."
    return msgspec.structs.replace(
        _bare("latency", "p99", status, told, n=whole), measure="p99-ms", against=against,
        value=now * 1e3, expected=None if usual is None else usual * 1e3, threshold=limit * 1e3,
    )  # fmt: skip


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g} ms" if seconds < 1.0 else f"{seconds:,.3g} s"


_NEVER = datetime.min


def _bare(kind: Kind, subject: str, status: Status, sentence: str, n: int = 0) -> Finding:
    return Finding(
        model="", kind=kind, subject=subject, status=status, sentence=sentence, start=_NEVER, end=_NEVER, n=n
    )


def _placed(found: Finding, model: str, version: str | None, seconds: float, now: datetime) -> Finding:
    return msgspec.structs.replace(
        found, model=model, version=version, start=now - timedelta(seconds=seconds), end=now
    )
