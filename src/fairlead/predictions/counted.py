"""What came in a window of time, counted; and how to ask ingest for it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.contracts.counts import FieldCounts, FieldKey
from fairlead.predictions.ask import IngestClient
from fairlead.predictions.binning import Binning
from fairlead.predictions.record import Source

__all__ = [
    "CountedField", "CountedWindow", "Reach", "Rebuild",
    "binning", "counted_windows", "reached", "rebuild_profiles",
]  # fmt: skip


class CountedField(msgspec.Struct, frozen=True):
    """The counts of one field in one window."""

    key: FieldKey
    counts: FieldCounts


class CountedWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What came from `start` (inclusive) to `end` (exclusive) under one contract, in one slice ("" is all).

    `rows` were logged: `ok` of them answered, `rejected` the caller's fault, `failed` ours. `unread` rows say
    nothing of their features; every feature was counted in all others, so that its `counts.rows` plus
    `unread` is `rows`. Answers are counted in those that have one. `breaches` counts broken rules by field,
    then rule, whether they rejected or not. `bins` is the id of the bins that the counts lie on, None where
    nobody knew any: counts of other bins do not add.
    """

    start: datetime
    end: datetime
    contract_id: str | None
    bins: str | None
    slice: str = ""
    rows: int
    ok: int
    rejected: int
    failed: int
    unread: int
    fields: tuple[CountedField, ...] = ()
    breaches: dict[str, dict[str, int]] = {}

    @property
    def counts(self) -> dict[FieldKey, FieldCounts]:
        """The counts by what was counted."""
        return {field.key: field.counts for field in self.fields}


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """Since when a model has traffic in the log, and since when it is counted; None where there is none."""

    logged: datetime | None = None
    counted: datetime | None = None

    @property
    def uncounted(self) -> bool:
        """Whether the log has traffic from before the counts: what was logged before counting began."""
        return self.logged is not None and (self.counted is None or self.logged < self.counted)


class Rebuild(msgspec.Struct, kw_only=True):
    """How far it is: `counted` of `rows` rows. `error` is why it ended before all were; nothing has changed
    then."""

    model: str
    rows: int
    counted: int = 0
    under_way: bool = True
    error: str | None = None


def counted_windows(
    ingest: IngestClient,
    model: str,
    since: datetime,
    until: datetime,
    *,
    step: int | None = None,
    version: str | None = None,
    arm: str | None = None,
    slice: str | None = "",
    source: Source | None = None,
) -> list[CountedWindow]:
    """The model's traffic, counted: a window per contract, bins, slice and `step` seconds with any traffic.

    `step` is a multiple of 60 and windows begin at multiples of it since 1970; None makes one window of the
    whole time. `since` is rounded down and `until` up to the minute, or to the hour in what is more than two
    days old. `version` is what answered, or should have. `slice` is one by its name ("country=DE"), "" all
    traffic, None every slice and all traffic. Without a `source` it is everything but shadows and replays. In
    order of time, then slice. Raises what ingest raises.
    """
    found = ingest.call(
        "profiles",
        model=model,
        since=since,
        until=until,
        step=step,
        version=version,
        arm=arm,
        slice=slice,
        source=source,
    )
    return msgspec.convert(found, list[CountedWindow], strict=False)


def binning(ingest: IngestClient, model: str, bins: str) -> Binning | None:
    """The bins of that id, with the reference's own counts where a reference lent them (`origin`); None when
    there are no such bins."""
    found: Any = ingest.call("bins", model=model, bins=bins)
    return None if found is None else msgspec.convert(found, Binning, strict=False)


def reached(ingest: IngestClient, model: str) -> Reach:
    """How far back the model's log and its counts reach."""
    found: Any = ingest.call("reach", model=model)
    return msgspec.convert(found, Reach, strict=False)


def rebuild_profiles(ingest: IngestClient, model: str, *, start: bool = False) -> Rebuild | None:
    """How far counting the model's rows anew is, or `start` it; None when there was none since ingest
    started."""
    found: Any = ingest.call("rebuild", model=model, start=start)
    return None if found is None else msgspec.convert(found, Rebuild)
