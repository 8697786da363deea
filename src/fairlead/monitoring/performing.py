"""How versions do by their labels: asked of the log through ingest, measured by `answered.py`, judged by
`verdicts.py`.

A version's reference are its first 1,000 labels or more, whole hours of them; from then on its risk is
followed hour by hour, at most for 28 days back. Labels of an answer count once most labels have come: after
the delay within which 95 % of them came lately.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from fairlead.contracts.contract import Contract
from fairlead.contracts.counts import Bins
from fairlead.contracts.profile import CategoryProfile
from fairlead.errors import FairleadError
from fairlead.monitoring.answered import STEP, joined
from fairlead.monitoring.asking import MEASURED, Asked
from fairlead.monitoring.detecting import Followers
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.hours import Hours
from fairlead.monitoring.measured import Seen
from fairlead.monitoring.verdicts import Rules, alpha_of, findings_of
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.counted import binning, counted_windows
from fairlead.predictions.labelled_counts import Delays, Labelled
from fairlead.registry.registry import Registry
from fairlead.registry.settings import effective, stated
from fairlead.registry.versions import ModelSettings, Version

__all__ = ["Performing", "PerformingLooker"]

WINDOW = timedelta(days=7)
BACK = timedelta(days=28)
_MOST_MOMENTS = 60
_MOST_REFERENCES = 256
_A_DAY = 86_400
_LOOK_SECONDS = 600.0
_LOOKS = _A_DAY / _LOOK_SECONDS
_SOURCES = ("online", "batch")


class Performing:
    """What the log says of versions; any thread may use it. `looks_a_day` is how often somebody looks, who
    shall not be told of what is none."""

    def __init__(self, registry: Registry, ingest: IngestClient, *, looks_a_day: float = _LOOKS) -> None:
        self._looks_a_day = looks_a_day
        self._registry = registry
        self._ingest = ingest
        self._references: dict[tuple[str, str], _Reference] = {}
        self._followers = Followers()
        self._hours = Hours()

    def seen(self, model: str, version: str, since: datetime, until: datetime) -> Seen:
        """What is known of one version between the two times; the parts of it are empty where nothing is.

        Raises `ModelNotFound`, `VersionNotFound`, and what ingest raises.
        """
        held = self._registry.version(model, version)
        contract = held.spec.contract
        asked = Asked(self._ingest, model, version, contract)
        delays = asked.delays(min(since, until - WINDOW), until)
        mature = until - self._delay(model, delays)
        step = _step_of(until - since)
        edges, unseen = self._counted(model, version, since, until)
        cuts = _cuts_of(contract, edges)
        found = asked.labelled(since, until, step=step, cuts=cuts)
        moments = [group for group in found if not group.feature]
        hour = mature.replace(minute=0, second=0, microsecond=0)
        first = self._hours.first(asked, held.created_at, hour)
        since_then = max(first[-1].start + STEP if first else held.created_at, until - BACK)
        rest = self._hours.of(asked, since_then, hour)
        reference, before = self._reference(asked, first, cuts)
        output = contract.output
        estimate = None
        if output.kind == "number" and first:
            estimate, unknown = asked.expected(first[0].start, first[-1].start + STEP, since, until)
            unseen = max(unseen, unknown)
        seen = Seen(
            model=model,
            version=version,
            output=output,
            start=since,
            end=until,
            mature=mature,
            step=step,
            window=_one(moments, since, version),
            moments=tuple(_together(moments, by=("start",))),
            parts=tuple(_by_part(found)),
            arms=tuple(_together(moments, by=("arm",))),
            reference=reference,
            reference_parts=before,
            steps=tuple(_filled(rest, version)) if first else (),
            stated=_stated(held),
            delays=delays,
            coverage=asked.coverage(since, until) if output.kind == "ranking" else None,
            expected_loss=estimate,
            unseen=unseen,
            uncertainty=held.spec.uncertainty,
            hours=(*_filled(first, version), *_filled(rest, version)),
        )
        settings = self._settings(model)
        if settings.performance_detector is None:
            return seen
        followed = self._followers.followed(
            seen, settings.performance_detector, settings.performance_tolerance
        )
        return msgspec.structs.replace(seen, followed=followed)

    def mature(self, model: str, version: str, until: datetime) -> datetime:
        """Labels of the version's answers before that time have come as far as they will."""
        asked = Asked(self._ingest, model, version, self._registry.contract(model, version))
        return until - self._delay(model, asked.delays(until - WINDOW, until))

    def rules(self, model: str) -> Rules:
        """What is too much for this model, by its settings."""
        held = self._settings(model)
        return Rules(
            tolerance=held.performance_tolerance,
            steps=held.performance_alarm_days * timedelta(days=1) / STEP,
            gap=held.fairness_gap,
            alpha=alpha_of(held.performance_alarm_days, self._looks_a_day),
        )

    def serving(self, model: str, since: datetime, until: datetime) -> list[str]:
        """The registered versions that answered between the two times."""
        output = self._registry.contract(model).output
        if output.kind not in MEASURED:
            return []
        known = {one.version for one in self._registry.versions(model)}
        met = self._ingest.call("windows", model=model, since=since, until=until, step=_A_DAY)
        answered = {one["version"] for one in met if one["ok"] and one["source"] in _SOURCES}
        return sorted(known & answered)

    def _reference(
        self, asked: Asked, first: Sequence[Labelled], cuts: Sequence[dict[str, Any]]
    ) -> tuple[Labelled | None, tuple[Labelled, ...]]:
        """The reference with its bins and its parts; both empty without hours.

        It is asked for when its hours or cuts are not those of the last time: a label that came late, or was
        corrected, shows in the counts of its hour.
        """
        if not first:
            return None, ()
        key, mark = (asked.model, asked.version), repr((_mark(first), cuts))
        held = self._references.get(key)
        if held is None or held.mark != mark:
            begin = first[0].start
            found = asked.labelled(begin, first[-1].start + STEP, cuts=cuts)
            whole = _one([group for group in found if not group.feature], begin, key[1])
            held = _Reference(mark, whole, tuple(_by_part(found)))
            while len(self._references) >= _MOST_REFERENCES:
                self._references.pop(next(iter(self._references), key), None)
            self._references[key] = held
        return held.whole, held.parts

    def _delay(self, model: str, delays: Delays) -> timedelta:
        """After how long labels count as complete."""
        hours = self._settings(model).label_delay_hours
        return timedelta(seconds=delays.p95 or 0.0) if hours is None else timedelta(hours=hours)

    def _settings(self, model: str) -> ModelSettings:
        with self._registry.database.read() as connection:
            return effective(stated(connection, model), None)

    def _counted(
        self, model: str, version: str, since: datetime, until: datetime
    ) -> tuple[dict[str, list[float]], float]:
        """Where numbers that are slices are cut, and the largest share of values of a feature that lie where
        the reference had none, by the counts of live traffic."""
        windows = counted_windows(self._ingest, model, since, until, version=version)
        window = max((one for one in windows if one.bins), key=lambda one: one.rows, default=None)
        held = None if window is None else binning(self._ingest, model, window.bins or "")
        if window is None or held is None:
            return {}, 0.0
        edges = {cut.field: list(cut.edges) for cut in held.slices if cut.edges}
        if held.origin is None:  # the bins are those of the first rows, which are no reference
            return edges, 0.0
        beyond = [
            _outside(counts.counts, held.bins[key]) - _outside(held.bins[key].counts, held.bins[key])
            for key, counts in window.counts.items()
            if key.part == "feature" and key in held.bins
        ]
        return edges, max(0.0, *beyond, 0.0)


class _Reference(NamedTuple):
    """A reference that was asked for, and what its hours looked like then."""

    mark: str
    whole: Labelled
    parts: tuple[Labelled, ...]


class PerformingLooker:
    """Looks at every version that has answered in the last seven days."""

    name = "performance"

    def __init__(self, registry: Registry, ingest: IngestClient, *, seconds: float = _LOOK_SECONDS) -> None:
        self._registry = registry
        self._performing = Performing(registry, ingest, looks_a_day=_A_DAY / seconds)
        self.seconds = seconds

    def look(self, now: datetime) -> list[Finding]:
        """The findings of all models. One that cannot be looked at is a finding of its own."""
        found: list[Finding] = []
        for model in self._registry.models():
            if not model.versions:
                continue
            try:
                for version in self._performing.serving(model.name, now - WINDOW, now):
                    seen = self._performing.seen(model.name, version, now - WINDOW, now)
                    found += findings_of(seen, self._performing.rules(model.name))
            except FairleadError as error:
                found.append(
                    Finding(
                        model=model.name, kind="performance", subject="risk", status="error",
                        sentence=f"The labels cannot be read: {error}", start=now - WINDOW, end=now,
                    )
                )  # fmt: skip
        return found


def _step_of(period: timedelta) -> timedelta:
    """Whole hours, so long that there are at most sixty."""
    return STEP * max(1, -(-period // (STEP * _MOST_MOMENTS)))


def _cuts_of(contract: Contract, edges: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    """The features that cut the traffic: those marked as slices. Numbers are cut at the edges that are known,
    whole ones by value without; other numbers without edges are left out."""
    return [
        {"feature": field.name, "edges": edges.get(field.name, [])}
        for field in contract.inputs
        if field.slice
        and not field.shape
        and field.sensitivity != "sensitive"
        and (field.type != "float" or field.name in edges)
    ]


def _outside(counts: Sequence[int], bins: Bins) -> float:
    """The share of values outside of all that the bins name."""
    total = sum(counts)
    beyond = counts[-1] if isinstance(bins, CategoryProfile) else counts[0] + counts[-1]
    return beyond / total if total else 0.0


def _stated(version: Version) -> float | None:
    """The accuracy that the version was registered with."""
    value = version.metrics.get("accuracy")
    return value if value is not None and 0.0 < value <= 1.0 else None


def _together(groups: Iterable[Labelled], by: Sequence[str]) -> list[Labelled]:
    """The groups with those that are alike by these fields as one, in the order of the first of each."""
    held: dict[tuple[Any, ...], list[Labelled]] = {}
    for group in groups:
        held.setdefault(tuple(getattr(group, name) for name in by), []).append(group)
    return [joined(alike, alike[0]) for alike in held.values()]


def _by_part(groups: Iterable[Labelled]) -> list[Labelled]:
    return _together([group for group in groups if group.feature], by=("feature", "part"))


def _mark(hours: Sequence[Labelled]) -> list[Any]:
    """What tells these hours from any whose labels differ: all counts, and sums as far as they are the same
    however they were added up."""

    def cells(hour: Labelled) -> list[str]:
        held = (*hour.classes, *hour.errors, *hour.places)
        return sorted(
            repr([f"{one:.9g}" if isinstance(one, float) else one for one in msgspec.structs.astuple(cell)])
            for cell in held
        )

    return [(hour.start, hour.answers, hour.labelled, cells(hour)) for hour in hours]


def _one(groups: Sequence[Labelled], start: datetime, version: str) -> Labelled:
    first = Labelled(start=start, version=version, arm=None, answers=0, labelled=0)
    return joined(groups, first)


def _filled(hours: Sequence[Labelled], version: str) -> list[Labelled]:
    """The hours with those between them that had no answers: for the alarm every hour counts."""
    found: list[Labelled] = []
    for hour in hours:
        at = hour.start.astimezone(UTC)
        while found and found[-1].start + STEP < at:
            found.append(_one((), found[-1].start + STEP, version))
        found.append(hour)
    return found
