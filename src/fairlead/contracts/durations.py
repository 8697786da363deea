"""Spans of time as people write them into a document: seconds, or a text such as `10m`."""

from __future__ import annotations

import math
import re

from fairlead.errors import FairleadError

__all__ = ["seconds_of"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def seconds_of(name: str, value: object, error: type[FairleadError]) -> float:
    """Seconds of a number of them, or of a text such as `90s`, `10m`, `1h 30m` or `2d`; else raises `error`,
    which calls the value by that name."""
    if isinstance(value, str):
        parts = _DURATION.findall(value)
        if not parts or _DURATION.sub("", value).strip():
            raise error(
                f"{name} is {value!r}, which is no duration.",
                remedy="Name the unit: '90s', '10m', '1h 30m' or '2d'; in a plan 90 means seconds.",
            )
        return math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise error(f"{name} is no duration.", remedy="Write seconds, or a text such as '10m'.")
    return float(value)
