"""How an answer that was computed again agrees with the one in the log. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

__all__ = ["TOLERANCE", "Agreement", "Verdict", "agreement", "difference", "same_violations"]

TOLERANCE = 1e-5
"""Numbers agree when they differ by no more than this, or by this part of the larger one above 1: what other
processors and releases of a library make of the same sum."""

Verdict = Literal["identical", "within_tolerance", "differs", "not_replayable"]

_bits = struct.Struct("<d").pack


class Agreement(NamedTuple):
    """`identical` to the last bit, `within_tolerance`, or `differs`; and the largest difference of a number,
    None where the answers have no numbers to compare, or something other than a number differs."""

    verdict: Verdict
    largest: float | None


def agreement(
    logged: Any, replayed: Any, probabilities: Mapping[str, float] | None, other: Mapping[str, float] | None
) -> Agreement:
    """How prediction and probabilities of the log agree with those that were computed again."""
    pairs = ((logged, replayed), (probabilities, other))
    found = [difference(one, another) for one, another in pairs]
    if None in found:
        return Agreement("differs", None)
    largest = max(part for part in found if part is not None)
    known = None if largest < 0 else largest
    if all(_is_identical(one, another) for one, another in pairs):
        return Agreement("identical", known)
    close = all(_is_close(one, another) for one, another in pairs)
    return Agreement("within_tolerance" if close else "differs", known)


def difference(one: Any, other: Any) -> float | None:
    """The largest difference between the numbers in two answers of one form; None when they differ in
    anything but numbers, -1 when they are the same and have no numbers that could differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        if list(one) != list(other):
            return None
        return _largest([difference(value, other[name]) for name, value in one.items()])
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return None
        return _largest([difference(*pair) for pair in zip(one, other, strict=True)])
    if isinstance(one, float) and isinstance(other, int | float) and not isinstance(other, bool):
        return abs(one - other)
    if isinstance(other, float) and isinstance(one, int) and not isinstance(one, bool):
        return abs(one - other)
    # Labels, ids and counts are the same or not: how far 3 is from 5 says nothing of a class.
    return -1.0 if type(one) is type(other) and one == other else None


def same_violations(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    """Whether the same fields break the same rules."""
    return _rules(one) == _rules(other)


def _rules(violations: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((str(each["field"]), str(each["rule"])) for each in violations)


def _largest(parts: list[float | None]) -> float | None:
    return None if None in parts else max((part for part in parts if part is not None), default=-1.0)


def _is_identical(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_is_identical(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_identical, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return _bits(one) == _bits(other)
    return type(one) is type(other) and bool(one == other)


def _is_close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_is_close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return all(map(_is_close, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return True
