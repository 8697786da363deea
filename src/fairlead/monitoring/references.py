"""What a window is held against: counts of a reference on the same bins, by field and by slice. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from fairlead.contracts.counts import Bins, FieldCounts, FieldKey, bins_of, reference_counts
from fairlead.contracts.profile import NumberProfile, ReferenceProfile
from fairlead.monitoring.drift import Pair
from fairlead.monitoring.quality import Rows
from fairlead.predictions.counted import CountedWindow

__all__ = [
    "Against", "Counts", "Seen", "before", "pairs", "seen_of", "training_counts",
    "training_slices", "week_before",
]  # fmt: skip

Against = Literal["training", "before", "week-before", "version"]

Counts = Mapping[FieldKey, FieldCounts]

_TRAILING = timedelta(days=7)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What came in a window on one set of bins: counts by slice ("" is all), and what was broken."""

    contract_id: str | None
    bins: str
    rows: Rows
    counts: dict[str, Counts]


def seen_of(windows: Iterable[CountedWindow]) -> dict[str, Seen]:
    """What came in windows of one time, by the bins it was counted on; without what nobody had bins for."""
    found: dict[str, Seen] = {}
    for window in windows:
        if window.bins is None:
            continue
        held = found.get(window.bins)
        rows = Rows(rows=window.rows, rejected=window.rejected, broken=window.breaches)
        found[window.bins] = Seen(
            contract_id=window.contract_id,
            bins=window.bins,
            # Only what is said of all traffic; a slice alone says nothing of the whole.
            rows=rows if window.slice == "" else held.rows if held is not None else Rows(rows=0),
            counts={**(held.counts if held is not None else {}), window.slice: window.counts},
        )
    return found


def training_counts(
    bins: Mapping[FieldKey, Bins], own: ReferenceProfile | None, classes: Iterable[object]
) -> dict[FieldKey, FieldCounts]:
    """The counts of the training data: of the version's own profile where it lies on those bins, else of the
    profile that lent them."""
    theirs = {} if own is None else bins_of(own, classes)
    return {
        key: reference_counts(theirs[key] if key in theirs and _same(theirs[key], held) else held)
        for key, held in bins.items()
    }


def training_slices(
    bins: Mapping[FieldKey, Bins], own: ReferenceProfile, classes: Iterable[object]
) -> dict[str, dict[FieldKey, FieldCounts]] | None:
    """The counts of each slice of the training data, of the fields that were counted on those bins; None
    where slices were not counted."""
    if own.slices is msgspec.UNSET:
        return None
    fitting = {key for key, held in bins_of(own, classes).items() if key in bins and _same(held, bins[key])}
    return {
        name: {key: counts for key, counts in held.fields if key in fitting}
        for name, held in own.slices.items()
    }


def pairs(
    bins: Mapping[FieldKey, Bins],
    reference: Mapping[str, Counts],
    current: Mapping[str, Counts],
    *,
    lent: bool = False,
) -> list[Pair]:
    """Every field of every slice that was counted on both sides. Numbers in lists are as many independent
    things as there are lists. `lent`: the reference is the sample that lent the bins."""
    found = []
    for slice, counts in current.items():
        before = reference.get(slice)
        if before is None:
            continue
        for key, held in counts.items():
            if key in before and key in bins:
                units = _lists(before, key), _lists(counts, key)
                known = (units[0], units[1]) if units[0] is not None and units[1] is not None else None
                found.append(Pair(slice, key, bins[key], before[key], held, known, lent))
    return found


def before(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The seven days before a window, or as much as the window itself where that is longer."""
    return _earlier(since, max(_TRAILING, until - since)), since


def week_before(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The same hours of the same weekdays, a week earlier, or so many weeks that they do not overlap."""
    span = -(-(until - since) // _TRAILING) * _TRAILING
    return _earlier(since, span), _earlier(until, span)


def _earlier(at: datetime, span: timedelta) -> datetime:
    """So much earlier, or when the calendar begins."""
    try:
        return at - span
    except OverflowError:
        return datetime.min.replace(tzinfo=at.tzinfo)


def _lists(counts: Counts, key: FieldKey) -> int | None:
    if key.part != "elements":
        return None
    whole = counts.get(FieldKey("feature", key.name)) or counts.get(FieldKey("prediction", key.name))
    return None if whole is None else whole.n


def _same(one: Bins, other: Bins) -> bool:
    if isinstance(one, NumberProfile):
        return isinstance(other, NumberProfile) and one.edges == other.edges
    return not isinstance(other, NumberProfile) and one.categories == other.categories
