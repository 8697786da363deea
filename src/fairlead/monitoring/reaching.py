"""How far back counts reach, and what a window leaves out, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fairlead.monitoring.references import Seen
from fairlead.predictions.counted import Reach

__all__ = ["begins_late", "notes_of", "nothing_of"]


def begins_late(start: datetime, reach: Reach) -> str:
    """What to add to the words of a reference that should begin at `start`; "" where it does."""
    if reach.counted is None or reach.counted <= start:
        return ""
    return f" (counted since {_time(reach.counted)})"


def nothing_of(words: str, end: datetime, reach: Reach) -> str:
    """Why a reference that ends at `end` has nothing on the window's bins."""
    if reach.counted is None or reach.counted >= end:
        since = "" if reach.counted is None else f": counts begin at {_time(reach.counted)}"
        return f"nothing is counted of {words}{since}"
    return f"of {words} nothing is counted on the same bins"


def notes_of(model: str, seen: Seen, found: Sequence[Seen], reach: Reach, since: datetime) -> tuple[str, ...]:
    """What of the log a window from `since` on leaves out, and what brings it in."""
    remedy = f"`fairlead monitoring rebuild {model}` counts all of the log anew."
    notes = []
    others = sum(one.rows.rows for one in found if one is not seen)
    if others:
        notes.append(f"{others:,} rows of this time were counted on other bins and are not in it. {remedy}")
    if reach.uncounted and (reach.counted is None or since < reach.counted):
        until = "" if reach.counted is None else f", and is counted only since {_time(reach.counted)}"
        begin = "" if reach.logged is None else f" since {_time(reach.logged)}"
        notes.append(f"The log has traffic{begin}{until}. {remedy}")
    return tuple(notes)


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
