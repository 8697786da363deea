"""What a gate found, as one value: every check with its numbers, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

__all__ = ["Check", "Group", "Report", "Side", "Status", "number", "summary"]

Group = Literal[
    "answers", "metric", "slice", "test", "fairness", "replay", "budget", "compatibility"
]  # fmt: skip
Status = Literal["passed", "failed", "inconclusive", "too_small", "skipped"]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One question and its answer. `closes` tells that the gate fails because of it.

    `text` is a sentence that stands by itself; `numbers` are what it rests on. `examples` are rows that show
    what went wrong, without values that are sensitive.
    """

    group: Group
    name: str
    status: Status
    text: str
    closes: bool = False
    numbers: dict[str, float | None] = {}
    examples: list[dict[str, Any]] = []


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A version that took part: its name and the digest of its files."""

    version: str
    digest: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a gate found. `against` is None where no version was in production to compare with; `alpha` is
    the probability that all comparisons together fail a version that is as good."""

    model: str
    candidate: Side
    against: Side | None
    passed: bool
    summary: str
    checks: list[Check]
    rows: int
    compared: int
    alpha: float
    spec_digest: str
    data_digest: str | None
    machine: str
    seconds: float


def summary(checks: Sequence[Check], candidate: str, against: str | None) -> str:
    """A sentence for a manager."""
    closed = [check for check in checks if check.closes]
    beside = f" beside {against}" if against else ""
    if not closed:
        passed = sum(check.status == "passed" for check in checks)
        unsure = [check.status for check in checks if check.status in ("inconclusive", "too_small")]
        doubt = [
            f"{unsure.count(status)} {words}"
            for status, words in (("inconclusive", "could not be told"), ("too_small", "had too few rows"))
            if status in unsure
        ]
        told = f", but {' and '.join(doubt)}" if doubt else ""
        return f"{candidate}{beside} passes: {passed} of {len(checks)} checks passed{told}."
    first = closed[0]
    more = f" And {len(closed) - 1} more of {len(checks)} checks." if len(closed) > 1 else ""
    return f"{candidate}{beside} does not pass: {first.text}{more}"


def number(value: float, digits: int = 4) -> str:
    """A number as a sentence has it."""
    return f"{value:.{digits}g}"
