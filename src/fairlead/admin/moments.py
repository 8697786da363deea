"""Points in time that callers write."""

from __future__ import annotations

from datetime import UTC, datetime

from fairlead.errors import MalformedRequest

__all__ = ["in_utc"]


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC; `MalformedRequest` without a time zone, or outside of the calendar."""
    if moment.tzinfo is None:
        raise MalformedRequest(
            f"{moment} has no time zone.", remedy="Write it with an offset, as in 2026-11-21T12:00:00Z."
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise MalformedRequest(f"{moment} is not in the calendar.", remedy="Use another time.") from error
