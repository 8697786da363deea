"""When two answers to the same row say the same: for shadows while they run, and for replays afterwards.

`shadows.py` has the same rule in SQL.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["is_same"]

_TOLERANCE = 1e-6


def is_same(one: Any, other: Any) -> bool:
    """Whether two predictions say the same: equal labels, the same first item of a ranking, or numbers that
    differ by no more than a millionth."""
    if isinstance(one, list) and isinstance(other, list):
        if one and other and isinstance(one[0], dict) and isinstance(other[0], dict):
            return bool(one[0].get("id") == other[0].get("id"))
        return len(one) == len(other) and all(map(is_same, one, other))
    if float in (type(one), type(other)) and {type(one), type(other)} <= {int, float}:
        return math.isclose(one, other, rel_tol=_TOLERANCE)
    return bool(one == other)
