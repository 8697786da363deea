"""Drift of live models: windows from the log and references from log and registry, brought together."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from fairlead.contracts.profile import ReferenceProfile
from fairlead.errors import MalformedRequest
from fairlead.monitoring.drift import Floors, Pair, level, shifts
from fairlead.monitoring.drift_report import (
    DriftReport,
    drift_findings,
    found_of,
    headline,
    quality_of,
)
from fairlead.monitoring.findings import Finding
from fairlead.monitoring.quality import Rows, breaches
from fairlead.monitoring.references import (
    Against,
    Seen,
    before,
    pairs,
    seen_of,
    training_counts,
    week_before,
)
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.counted import binning, counted_windows
from fairlead.registry.registry import Registry
from fairlead.registry.settings import effective, stated
from fairlead.registry.versions import ModelSettings

__all__ = ["DriftLooker", "Drifting"]

_DAY = timedelta(days=1)
_REFERENCE = "reference.json"


_SPANS = (timedelta(minutes=10), timedelta(hours=1), timedelta(days=1))
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
    """A reference: in words what it is, its rows, and every field of it beside that of the window."""

    words: str
    rows: Rows = Rows(rows=0)
    pairs: list[Pair] = []


class Drifting:
    """Holds a model's traffic against references. `StoreUnavailable` while ingest is away."""

    def __init__(self, registry: Registry, ingest: IngestClient) -> None:
        self._registry = registry
        self._ingest = ingest
        self._profile = lru_cache(maxsize=64)(self._read_profile)

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
        `other` got in the same time. Slices are compared with all but training data, which has none.
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
        slice = None if slices and against != "training" else ""
        found = self._seen(model, since, until, version, slice)
        # Of several contracts in one window the one with the most rows is looked at.
        seen = max(found.values(), key=lambda one: one.rows.rows, default=None) or _NOTHING
        held = self._reference(_Asked(model, version, since, until, against, other, slice), seen)
        told = found_of(shifts(held.pairs, level=allowed, floors=floors))
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
            sentence=headline(told, quality, held.words, seen.rows.rows, settings.drift_alarm_days),
            found=told,
            quality=quality,
        )

    def _reference(self, asked: _Asked, seen: Seen) -> _Held:
        binned = binning(self._ingest, asked.model, seen.bins) if seen.bins else None
        bins = {} if binned is None else binned.bins
        match asked.against:
            case "training":
                if binned is None:
                    return _Held(words="training")
                if binned.origin is None:
                    return _Held(words="training, of which no version under this contract brought a profile")
                name = asked.version or binned.origin
                own = self._profile(asked.model, name)
                classes = self._registry.spec(asked.model, name).contract.output.classes
                counts = training_counts(bins, own, classes)
                rows = Rows(rows=max((one.rows for one in counts.values()), default=0))
                words = f"the training data of {name if own is not None else binned.origin}"
                return _Held(words=words, rows=rows, pairs=pairs(bins, {"": counts}, seen.counts, lent=True))
            case "before":
                start, end = before(asked.since, asked.until)
                words, version = f"the {(end - start) // _DAY} days before", asked.version
            case "week-before":
                start, end = week_before(asked.since, asked.until)
                words, version = (
                    f"the same time {(asked.since - start) // (7 * _DAY)} week(s) before",
                    asked.version,
                )
            case "version":
                start, end, version = asked.since, asked.until, asked.other
                words = f"what version {asked.other} got at the same time"
        other = self._seen(asked.model, start, end, version, asked.slice).get(seen.bins)
        if other is None:
            return _Held(words=words)
        return _Held(words=words, rows=other.rows, pairs=pairs(bins, other.counts, seen.counts))

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

    def _read_profile(self, model: str, version: str) -> ReferenceProfile | None:
        files = self._registry.spec(model, version).manifest.files
        digest = next((file.sha256 for file in files if file.path == _REFERENCE), None)
        if digest is None:
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _REFERENCE
            self._registry.blobs.get_to(digest, path)
            return msgspec.json.decode(path.read_bytes(), type=ReferenceProfile)


class DriftLooker:
    """Looks at every model that has a version in production: at its last ten minutes, hour and day beside
    its training data, and slice by slice at its last hour beside the week before that."""

    name = "drift"

    def __init__(self, drifting: Drifting, registry: Registry, *, seconds: float = 300.0) -> None:
        self._drifting = drifting
        self._registry = registry
        self.seconds = seconds

    def look(self, now: datetime) -> list[Finding]:
        """One finding for each question about each field, of the window that shows the most. Windows begin
        with a minute, and hold what has come of the one that runs."""
        minute = now.replace(second=0, microsecond=0)
        asked: list[tuple[timedelta, Against]] = [(span, "training") for span in _SPANS]
        asked.append((_SPANS[1], "before"))
        looks = len(asked) * _DAY.total_seconds() / self.seconds
        found: dict[tuple[str, ...], Finding] = {}
        for model in self._registry.models():
            if model.production is None:
                continue
            for span, against in asked:
                report = self._drifting.report(
                    model.name,
                    minute - span,
                    now,
                    version=model.production,
                    against=against,
                    looks_a_day=looks,
                )
                for one in drift_findings(report):
                    if one.key not in found or _tells_more(one, found[one.key]):
                        found[one.key] = one
        return list(found.values())


def _tells_more(one: Finding, other: Finding) -> bool:
    """Of two windows: an alarm before all else, then what is known, then what is surer."""
    order = {"alarm": 0, "ok": 1, "error": 2, "insufficient": 3}
    if order[one.status] != order[other.status]:
        return order[one.status] < order[other.status]
    return one.p is not None and other.p is not None and one.p < other.p
