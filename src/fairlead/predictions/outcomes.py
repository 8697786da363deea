"""Outcomes: what callers may report, and what several reports about the same thing amount to.

An outcome's *subject* is a request's row or a unit; subject, model and metric make its *key*. The effective
value of a key follows from its events in the order in which gateways received them:

1. Of events with the same `outcome_id` under one key the first received counts: a delivery may be repeated.
2. The last `set` that counts replaces everything received before it.
3. Each `add` that counts and was received after that adds to it (from 0 when nothing was ever set).

So additions with an `outcome_id` may arrive in any order, any number of times; a correction is a `set` under
a new `outcome_id` or none. A text value can be set but not added to: additions to it have no effect.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec

from fairlead.errors import MalformedRequest
from fairlead.predictions.record import Outcome

__all__ = ["LABEL", "Effective", "Key", "effective", "parse_outcomes"]

LABEL = "label"
"""The reserved metric for ground truth."""

_FIELDS = ("request_id", "unit", "row", "metric", "value", "at", "outcome_id", "mode")
_EXAMPLE = 'Send {"request_id": "…", "metric": "conversion", "value": 1}.'
_MAX_NAME = 200
_MAX_TEXT = 1_000
_LATEST_SECONDS = 10_000_000_000.0  # the year 2286; beyond it, somebody sent milliseconds


def parse_outcomes(body: bytes, *, model: str, received_at: int, max_events: int = 10_000) -> list[Outcome]:
    """The outcomes in a request body: one JSON object or a list of them, as API.md describes.

    `received_at` is Unix microseconds; the events of a list are given successive microseconds, so that a
    later one in the list counts as received later. A boolean value becomes 1 or 0, `row` is 0 when a request
    id comes without it, `at` (RFC 3339 with a zone, or Unix seconds) is `received_at` when absent. Raises
    `MalformedRequest` naming index, field and rule of the first event that is refused; then none is accepted.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"The body is no JSON: {error}.", remedy=_EXAMPLE) from error
    events = document if isinstance(document, list) else [document]
    if len(events) > max_events:
        raise MalformedRequest(
            f"{len(events)} outcomes in one request are more than {max_events}.", remedy="Send smaller lists."
        )
    return [_parse(event, index, model, received_at + index) for index, event in enumerate(events)]


def _parse(event: Any, index: int, model: str, received_at: int) -> Outcome:
    def refuse(field: str, rule: str, remedy: str = _EXAMPLE) -> MalformedRequest:
        return MalformedRequest(
            f"Outcome {index}: {field} {rule}.", remedy=remedy, index=index, field=field, rule=rule
        )

    def text(field: str, limit: int = _MAX_NAME) -> str | None:
        value = event.get(field)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= limit:
            raise refuse(field, f"is not a text of 1 to {limit} characters")
        return value

    if not isinstance(event, dict):
        raise refuse("it", "is not a JSON object")
    for field in event:
        if field not in _FIELDS:
            raise refuse(repr(field), "is not a field of an outcome", f"Fields are {', '.join(_FIELDS)}.")
    request_id, unit = text("request_id"), text("unit")
    if (request_id is None) == (unit is None):
        raise refuse(
            "request_id, unit", "are both given" if unit else "are both missing", "Give one of them."
        )
    row = event.get("row")
    if isinstance(row, float) and row.is_integer():
        row = int(row)  # 0 and 0.0 are the same number in JSON
    if row is not None and (isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < 2**31):
        raise refuse("row", "is not a whole number from 0 on")
    if row is not None and request_id is None:
        raise refuse("row", "is given without request_id", "A unit has no rows; leave row out.")
    metric = text("metric")
    if metric is None:
        raise refuse("metric", "is missing")
    mode = event.get("mode", "set")
    if mode not in ("set", "add"):
        raise refuse("mode", "is neither 'set' nor 'add'")
    value = event.get("value")
    if isinstance(value, int | float):
        value = float(value) if abs(value) < 1e308 else math.inf
        if not math.isfinite(value):
            raise refuse("value", "is not a finite number")
    elif not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise refuse("value", f"is neither a number nor a text of up to {_MAX_TEXT} characters")
    elif mode == "add":
        raise refuse("value", "is a text and cannot be added", "Send a number, or use mode 'set'.")
    try:
        at = _microseconds(event.get("at"), received_at)
    except (ValueError, OverflowError) as error:
        raise refuse("at", "is neither RFC 3339 with a zone nor Unix seconds") from error
    return Outcome(
        received_at=received_at,
        model=model,
        metric=metric,
        value=value,
        at=at,
        request_id=request_id,
        row=(row or 0) if request_id is not None else None,
        unit=unit,
        outcome_id=text("outcome_id"),
        mode=mode,
    )


def _microseconds(at: object, default: int) -> int:
    if at is None:
        return default
    if isinstance(at, str):
        moment: datetime = msgspec.convert(at, Annotated[datetime, msgspec.Meta(tz=True)])
        return round(moment.timestamp() * 1_000_000)
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < _LATEST_SECONDS:
        raise ValueError("no time")
    return round(at * 1_000_000)


class Key(NamedTuple):
    """What an outcome is about."""

    model: str
    request_id: str | None
    row: int | None
    unit: str | None
    metric: str


class Effective(NamedTuple):
    """What a key's events amount to; `at` is that of the event received last, `events` how many count."""

    value: float | str
    at: int
    events: int


def effective(events: Iterable[Outcome]) -> dict[Key, Effective]:
    """The effective value per key: the definition that the SQL view `outcomes` is tested against.

    Ties in `received_at` are broken by content, so the answer never depends on the order of `events`.
    """
    counted: dict[Key, list[Outcome]] = {}
    seen: set[tuple[Key, str]] = set()
    for event in sorted(events, key=_order):
        key = Key(event.model, event.request_id, event.row, event.unit, event.metric)
        if event.outcome_id is not None:
            if (key, event.outcome_id) in seen:
                continue
            seen.add((key, event.outcome_id))
        counted.setdefault(key, []).append(event)
    return {key: _fold(history) for key, history in counted.items()}


def _fold(history: list[Outcome]) -> Effective:
    start: float | str = 0.0
    additions: list[float] = []
    for event in history:
        if event.mode == "set":
            start, additions = event.value, []
        elif not isinstance(event.value, str):
            additions.append(event.value)
    value = start if isinstance(start, str) else math.fsum([start, *additions])
    return Effective(value, history[-1].at, len(history))


def _order(event: Outcome) -> tuple[Any, ...]:
    """Received order; at the same microsecond a set comes before additions."""
    number, text = (0.0, event.value) if isinstance(event.value, str) else (event.value, "")
    return (event.received_at, event.mode != "set", event.at, number, text)
