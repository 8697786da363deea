"""Hours of versions beside their labels, kept from look to look.

An hour that is over changes only by labels that come late, again or corrected (and by answers that come late
from a gateway that was cut off). Each of these changes a count of the hour, `LabelMark`, and marks are far
cheaper to have than what they stand for: so every look asks for all marks, and for the hours whose mark is
another than when they were asked for. What is kept is never needed: it only saves asking.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise

from fairlead.monitoring.answered import LEAST_REFERENCE, STEP, joined
from fairlead.monitoring.asking import Asked
from fairlead.predictions.labelled_counts import Labelled, LabelMark

__all__ = ["Hours"]

_MOST_VERSIONS, _MOST_HOURS = 256, 2_000
_MOST_ASKS = 4
"""Hours that have changed are asked for in so many stretches at most."""
_FIRST_SPAN = timedelta(days=7)


class Hours:
    """Of many versions; any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], dict[datetime, tuple[LabelMark, Labelled]]] = {}
        self._began: dict[tuple[str, str], tuple[datetime, datetime]] = {}

    def of(self, asked: Asked, since: datetime, until: datetime) -> list[Labelled]:
        """The hours with answers from the one that holds `since` up to `until`, a whole hour; arms together,
        without bins of the score."""
        since = _hour(since)
        marks = {mark.start: mark for mark in asked.marks(since, until)}
        with self._lock:
            held = dict(self._held.get((asked.model, asked.version), {}))
        changed = [start for start, mark in marks.items() if start not in held or held[start][0] != mark]
        for first, last in _stretches(changed):
            found = asked.labelled(first, last + STEP, step=STEP, scores=False)
            for start, groups in groupby(found, key=lambda group: group.start):
                if start in marks:
                    arms = list(groups)
                    held[start] = marks[start], joined(arms, arms[0])
        self._keep((asked.model, asked.version), held)
        return [held[start][1] for start in marks if start in held]

    def first(self, asked: Asked, since: datetime, until: datetime) -> list[Labelled]:
        """The version's first hours with labels enough for a reference; none while they are too few. However
        long ago that is: what they say does not slide."""
        place = (asked.model, asked.version)
        with self._lock:
            known = self._began.get(place)
        if known is not None and known[1] <= until:
            found = _enough(self.of(asked, *known))
            if found:
                return found
        span = _FIRST_SPAN
        while True:
            end = min(until, _hour(since) + span)
            found = _enough(self.of(asked, since, end))
            if found or end >= until:
                break
            span *= 2
        if found:
            with self._lock:
                self._began[place] = (found[0].start, found[-1].start + STEP)
        return found

    def _keep(self, place: tuple[str, str], held: dict[datetime, tuple[LabelMark, Labelled]]) -> None:
        with self._lock:
            self._held.pop(place, None)
            self._held[place] = dict(list(held.items())[-_MOST_HOURS:])
            while len(self._held) > _MOST_VERSIONS:
                oldest = next(iter(self._held))
                self._held.pop(oldest)
                self._began.pop(oldest, None)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _enough(hours: Sequence[Labelled]) -> list[Labelled]:
    reached = 0
    for index, hour in enumerate(hours):
        reached += hour.labelled
        if reached >= LEAST_REFERENCE:
            return list(hours[: index + 1])
    return []


def _stretches(starts: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """The first and last hour of stretches that hold all of them, cut at the widest gaps."""
    ordered = sorted(starts)
    if not ordered:
        return []
    gaps = [(after - before, place) for place, (before, after) in enumerate(pairwise(ordered))]
    wide = sorted(gaps, reverse=True)[: _MOST_ASKS - 1]
    cuts = sorted(place for gap, place in wide if gap > STEP)
    ends = [*cuts, len(ordered) - 1]
    begins = [0, *(place + 1 for place in cuts)]
    return [(ordered[begin], ordered[end]) for begin, end in zip(begins, ends, strict=True)]
