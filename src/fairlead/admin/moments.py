"""Points and spans in time that callers write."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from fairlead.errors import MalformedRequest

__all__ = ["SPAN", "in_utc", "period", "seconds_of", "since_of"]

SPAN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


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


def seconds_of(span: str) -> float:
    """The seconds in a span of time such as 15m, 24h or 7d."""
    found = SPAN.fullmatch(span)
    if found is None:
        raise MalformedRequest(f"{span!r} is no span of time.", remedy="Write it as in 15m, 24h or 7d.")
    return float(int(found[1]) * _SECONDS[found[2]])


def since_of(text: str, until: datetime) -> datetime:
    """The moment that a span before `until`, such as 24h, or a time with an offset means."""
    if SPAN.fullmatch(text):
        try:
            return until - timedelta(seconds=seconds_of(text))
        except OverflowError as error:
            raise MalformedRequest(f"since {text} is too long ago.", remedy="Use a later time.") from error
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise MalformedRequest(
            f"{text!r} is neither a span nor a point of time.",
            remedy="Write it as in 15m, 24h, 7d, or as in 2026-11-21T12:00:00Z.",
        ) from error


def period(since: datetime | None, until: datetime | None, default: timedelta) -> tuple[datetime, datetime]:
    """Beginning and end in UTC; the end is now unless given, the beginning `default` before it."""
    end = in_utc(until or datetime.now(UTC))
    try:
        begin = in_utc(since or end - default)
    except OverflowError as error:
        raise MalformedRequest(f"until {end} is too early.", remedy="Give since, too.") from error
    if begin >= end:
        raise MalformedRequest(f"since {begin} is not before until {end}.", remedy="Swap them.")
    return begin, end
