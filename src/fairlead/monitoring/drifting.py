"""Drift of live models: windows from the log and references from log and registry, brought together."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from fairlead.contracts.profile import REFERENCE_FILE, ReferenceProfile
from fairlead.errors import MalformedRequest
from fairlead.monitoring.drift import Floors, Pair, level, shifts
from fairlead.monitoring.drift_report import (
    DriftReport,
    found_of,
    headline,
    quality_of,
    unknown,
)
from fairlead.monitoring.quality import Rows, breaches
from fairlead.monitoring.reaching import begins_late, notes_of, nothing_of
from fairlead.monitoring.references import (
    Against,
    Seen,
    before,
    pairs,
    seen_of,
    training_counts,
    training_slices,
    week_before,
)
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.binning import Binning
from fairlead.predictions.counted import binning, counted_windows, reached
from fairlead.registry.references import document_of
from fairlead.registry.registry import Registry
from fairlead.registry.settings import effective, stated
from fairlead.registry.versions import ModelSettings

__all__ = ["Drifting"]

_DAY = timedelta(days=1)
_MOST_PROFILES = 64
_NOTHING = Seen(contract_id=None, bins="", rows=Rows(rows=0), counts={})


class _Asked(NamedTuple):
    """What is asked for: the window, the reference, and the slice (None is all)."""

    model: str
    version: str | None
    since: datetime
    until: datetime
    against: Against
    other: str | None
    slice: str | None


class _Held(msgspec.Struct, frozen=True, kw_only=True):
    """A reference: in words what it is, its rows, and every field of it beside that of the window. `lacks`
    says why there is nothing of it, `unsliced` why there is nothing of its slices."""

    words: str
    rows: Rows = Rows(rows=0)
    pairs: list[Pair] = []
    lacks: str = ""
    unsliced: str = ""


class Drifting:
    """Holds a model's traffic against references. `StoreUnavailable` while ingest is away."""

    def __init__(self, registry: Registry, ingest: IngestClient) -> None:
        self._registry = registry
        self._ingest = ingest
        self._profiles: dict[tuple[str, str], ReferenceProfile] = {}

    def report(
        self,
        model: str,
        since: datetime,
        until: datetime,
        *,
        version: str | None = None,
        against: Against = "training",
        other: str | None = None,
        slices: bool = True,
        looks_a_day: float | None = None,
    ) -> DriftReport:
        """How what came from `since` to `until` lies beside a reference.

        `version` is what answered, the one in production unless given, or all where none is. References are
        the version's training data, the seven days before, the same time a week before, or what version
        `other` got in the same time. What a reference lacks is said, and nothing is told without one.
        `looks_a_day` shares out the false alarms that the model's setting allows: without it, one look per
        window. Raises `ModelNotFound`, `VersionNotFound` and `MalformedRequest`.
        """
        version = self._version(model, version)
        if (against == "version") != (other is not None):
            raise MalformedRequest(
                "A comparison with another version names that version, and no other comparison does.",
                remedy="Give against=version and other, or neither.",
            )
        if other is not None:
            self._registry.version(model, other)
        settings = self._settings(model)
        # Drift and broken rules are two families of questions, and share what is allowed.
        looks = 2.0 * (looks_a_day or _DAY / (until - since))
        allowed = level(settings.drift_alarm_days, looks)
        floors = Floors(moved=settings.drift_moved_share)
        slice = None if slices else ""
        found = self._seen(model, since, until, version, slice)
        # Of several contracts in one window the one with the most rows is looked at.
        seen = max(found.values(), key=lambda one: one.rows.rows, default=None) or _NOTHING
        held = self._reference(_Asked(model, version, since, until, against, other, slice), seen)
        told = found_of(shifts(held.pairs, level=allowed, floors=floors))
        why = held.lacks if seen.rows.rows else ""
        lacking = [unknown("(reference)", why)] if why else []
        if held.unsliced and len(seen.counts) > 1:
            lacking.append(unknown("(slices)", held.unsliced))
        quality = quality_of(
            breaches(seen.rows, held.rows, level=allowed, floor=floors.share, least=floors.rows)
        )
        name = f"version {other}" if other is not None else against
        return DriftReport(
            model=model,
            version=version,
            against=name,
            reference=held.words,
            start=since,
            end=until,
            rows=seen.rows.rows,
            reference_rows=held.rows.rows,
            days=settings.drift_alarm_days,
            level=allowed,
            sentence=headline(told, quality, held.words, seen.rows.rows, settings.drift_alarm_days, why),
            found=(*told, *lacking),
            quality=quality,
            notes=notes_of(model, seen, list(found.values()), reached(self._ingest, model), since),
        )

    def _reference(self, asked: _Asked, seen: Seen) -> _Held:
        binned = binning(self._ingest, asked.model, seen.bins) if seen.bins else None
        bins = {} if binned is None else binned.bins
        match asked.against:
            case "training":
                return self._training(asked, seen, binned)
            case "before":
                start, end = before(asked.since, asked.until)
                words, version = f"the {(end - start) // _DAY} days before", asked.version
            case "week-before":
                start, end = week_before(asked.since, asked.until)
                words = f"the same time {(asked.since - start) // (7 * _DAY)} week(s) before"
                # Minutes become hours after two days.
                words += ", in whole hours" if start.minute or end.minute else ""
                version = asked.version
            case "version":
                start, end, version = asked.since, asked.until, asked.other
                words = f"what version {asked.other} got at the same time"
        other = self._seen(asked.model, start, end, version, asked.slice).get(seen.bins)
        reach = reached(self._ingest, asked.model)
        if other is None:
            return _Held(words=words, lacks=nothing_of(words, end, reach))
        words += begins_late(start, reach)
        return _Held(words=words, rows=other.rows, pairs=pairs(bins, other.counts, seen.counts))

    def _training(self, asked: _Asked, seen: Seen, binned: Binning | None) -> _Held:
        if binned is None:
            return _Held(words="training")
        if binned.origin is None:
            lacks = "no version under this contract brought a profile: register one with its reference"
            return _Held(words="training", lacks=lacks)
        name = asked.version or binned.origin
        own = self._profile(asked.model, name)
        if own is None:
            name, own = binned.origin, self._profile(asked.model, binned.origin)
        classes = self._registry.spec(asked.model, name).contract.output.classes
        counts = training_counts(binned.bins, own, classes)
        slices = None if own is None else training_slices(binned.bins, own, classes)
        unsliced = ""
        if slices is None:
            unsliced = f"There is no reference for slices: {name} was registered without counts of them."
        return _Held(
            words=f"the training data of {name}",
            rows=Rows(rows=max((one.rows for one in counts.values()), default=0)),
            pairs=pairs(binned.bins, {"": counts, **(slices or {})}, seen.counts, lent=True),
            unsliced=unsliced,
        )

    def _seen(
        self, model: str, since: datetime, until: datetime, version: str | None, slice: str | None
    ) -> dict[str, Seen]:
        return seen_of(counted_windows(self._ingest, model, since, until, version=version, slice=slice))

    def _version(self, model: str, version: str | None) -> str | None:
        if version is None:
            return self._registry.model(model).production
        return self._registry.version(model, version).version

    def _settings(self, model: str) -> ModelSettings:
        with self._registry.database.read() as connection:
            return effective(stated(connection, model), None)

    def _profile(self, model: str, version: str) -> ReferenceProfile | None:
        """The version's own; one that could not be had now may be had at the next look, so only what was read
        is kept."""
        held = self._profiles.get((model, version))
        if held is None:
            spec = self._registry.spec(model, version)
            held = document_of(self._registry, spec, REFERENCE_FILE, ReferenceProfile)
            if held is not None:
                while len(self._profiles) >= _MOST_PROFILES:
                    self._profiles.pop(next(iter(self._profiles)), None)
                self._profiles[model, version] = held
        return held
