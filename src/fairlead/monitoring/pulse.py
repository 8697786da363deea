"""Looks every second at what gateways have counted, and remembers a quarter of an hour of it.

The counters are those of this machine's gateways, and never lag. What was counted while something alarmed is
not learnt as usual before an hour has passed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np

from fairlead.monitoring.findings import Finding
from fairlead.monitoring.vitals import ANSWERED, LATENCY, SHED, Counts, Limits, Seen, traffic, vitals
from fairlead.telemetry.counters import ArmCounters, read_counters
from fairlead.telemetry.latency import BUCKETS

__all__ = ["Pulse"]

_WINDOWS = (1.5, 5.5, 15.5, 61.0)
"""Seconds. Judged is the shortest with enough answers, so that one bad second is soon forgotten, and all that
are shorter: a version that has become slow answers so little that the good answers of the seconds before
would outnumber it."""
_ENOUGH = 50
_MINUTE = timedelta(seconds=60)
_CHUNK = timedelta(seconds=15)
_MEMORY = timedelta(minutes=15)
_LEARN_AGAIN = timedelta(hours=1)
_FORGET = timedelta(days=1)
"""So long a model that is not asked is told of."""
_SHADOW = "shadow"

_Key = tuple[str, str]  # model and version; the version "" is all of the model


class _Chunk(msgspec.Struct):
    """What was counted from then on, for as long as a chunk is."""

    at: datetime
    seconds: float
    counts: dict[_Key, Counts]


class Pulse:
    """A looker at errors, latency, rejections, refusals and silence, by the counters in a folder."""

    name = "pulse"
    seconds = 1.0

    def __init__(self, counters: Path, limits_of: Callable[[str], Limits] = lambda model: Limits()) -> None:
        self._counters = counters
        self._limits_of = limits_of
        self._totals: dict[_Key, Counts] | None = None
        self._looked_at: datetime | None = None
        self._minute: deque[_Chunk] = deque()
        self._past: deque[_Chunk] = deque()
        self._usual: tuple[dict[_Key, Counts], float] = ({}, 0.0)
        self._asked_at: dict[str, datetime] = {}
        self._rates: dict[str, float] = {}
        self._ill: dict[_Key, datetime] = {}

    def look(self, now: datetime) -> list[Finding]:
        """How every version does that was asked within the last minute, and every model within memory."""
        totals = _totals(read_counters(self._counters))
        before, since = self._totals, self._looked_at
        self._totals, self._looked_at = totals, now
        if before is None or since is None or now <= since:
            return []
        fresh = _Chunk(since, (now - since).total_seconds(), _increments(before, totals))
        self._minute.append(fresh)
        self._asked_at |= {model: now for model, version in fresh.counts if not version}
        self._forget(now)
        usual, _ = self._usual
        found: list[Finding] = []
        asked = {key for chunk in self._minute for key in chunk.counts}
        for model, version in sorted(asked | {(model, "") for model in self._asked_at}):
            key = (model, version)
            past = usual.get(key, _nothing())
            windows = [
                Seen(counts=counts, seconds=seconds, past=past) for counts, seconds in self._recent(key, now)
            ]
            limits = self._limits_of(model)
            if version:
                told = _chosen([vitals(model, version, seen, limits, now) for seen in windows])
            else:
                silent = (now - self._asked_at[model]).total_seconds()
                rate = self._rates.get(model, 0.0)
                told = _chosen([traffic(model, seen, silent, rate, limits, now) for seen in windows])
            if version and any(one.status == "alarm" for one in told):
                self._ill.setdefault(key, now)
            elif all(one.status == "ok" for one in told):
                self._ill.pop(key, None)
            found += told
        return found

    def _recent(self, key: _Key, now: datetime) -> list[tuple[Counts, float]]:
        """Counts of each window up to the first with enough answers, and how long it is."""
        counts, seconds = _nothing(), 0.0
        found: list[tuple[Counts, float]] = []
        for chunk in reversed(self._minute):
            reach = (now - chunk.at).total_seconds()
            if seconds and any(seconds <= limit < reach for limit in _WINDOWS):
                found.append((counts, seconds))
                if counts[ANSWERED] + counts[SHED] >= _ENOUGH:
                    return found
            counts = counts + chunk.counts.get(key, 0)
            seconds = reach
        return [*found, (counts, seconds)]

    def _forget(self, now: datetime) -> None:
        """Takes what is older than a minute into the past, and what is older than memory away."""
        changed = False
        while self._minute and now - self._minute[0].at > _MINUTE:
            old = self._minute.popleft()
            well = {
                key: counts for key, counts in old.counts.items()
                if key not in self._ill or now - self._ill[key] > _LEARN_AGAIN
            }  # fmt: skip
            if not self._past or old.at - self._past[-1].at >= _CHUNK:
                self._past.append(_Chunk(old.at, 0.0, {}))
                changed = True
            last = self._past[-1]
            last.seconds += old.seconds
            for key, counts in well.items():
                held = last.counts.get(key)
                last.counts[key] = counts if held is None else held + counts
        while self._past and now - self._past[0].at > _MEMORY:
            self._past.popleft()
            changed = True
        if changed:
            summed: dict[_Key, Counts] = {}
            for chunk in self._past:
                for key, counts in chunk.counts.items():
                    held = summed.get(key)
                    summed[key] = counts if held is None else held + counts
            # Of what has been ill for a while nothing is left; what was usual before stays usual.
            before, _ = self._usual
            for key, at in self._ill.items():
                if key in before and now - at <= _LEARN_AGAIN:
                    summed[key] = before[key]
            self._usual = summed, sum(chunk.seconds for chunk in self._past)
            self._note_rates(now)

    def _note_rates(self, now: datetime) -> None:
        """How often models are usually asked. Of one that is silent what was usual before stays usual: else
        its silence would be in a quarter of an hour."""
        counts, seconds = self._usual
        for model, at in list(self._asked_at.items()):
            if now - at > _FORGET:
                self._asked_at.pop(model)
                self._rates.pop(model, None)
            elif now - at <= _CHUNK and seconds >= _MINUTE.total_seconds():
                asked = counts.get((model, ""))
                self._rates[model] = 0.0 if asked is None else float(asked[ANSWERED]) / seconds


def _chosen(judged: list[list[Finding]]) -> list[Finding]:
    """Of each subject the first window that alarms, else the last."""
    return [
        next((one for one in subject if one.status == "alarm"), subject[-1])
        for subject in zip(*judged, strict=True)
    ]


def _nothing() -> Counts:
    return np.zeros(LATENCY + BUCKETS, dtype=np.int64)


def _totals(arms: list[ArmCounters]) -> dict[_Key, Counts]:
    """Counts per version, and per model; copies for a shadow hurt nobody and do not count."""
    found: dict[_Key, Counts] = {}
    for arm in arms:
        if not arm.key.model or arm.key.role == _SHADOW:
            continue
        cells = arm.cells
        scalars = (arm.answered, *(cells[name] for name in ("failed", "rejected", "faults", "shed")))
        counts = np.array([*scalars, *arm.latency], dtype=np.int64)
        for key in ((arm.key.model, arm.key.version), (arm.key.model, "")):
            held = found.get(key)
            found[key] = counts if held is None else held + counts
    return found


def _increments(before: dict[_Key, Counts], after: dict[_Key, Counts]) -> dict[_Key, Counts]:
    """What was counted in between, of those of whom anything was; never less than nothing, should a block
    have been lost."""
    found = {}
    for key, counts in after.items():
        held = before.get(key)
        more = counts if held is None else np.maximum(counts - held, 0)
        if more[ANSWERED] or more[SHED]:
            found[key] = more
    return found
