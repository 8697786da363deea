"""What is known of how a model's answers met their labels: counts that add, of which all figures of
performance, calibration and fairness are made. No row leaves the log for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

__all__ = [
    "SCORE_BINS", "SIZE_BASE", "SIZE_LEAST",
    "Cell", "Delays", "ErrorCell", "LabelMark", "Labelled", "PlaceCell", "Sampled", "Sure",
    "size_of", "sure_together",
]  # fmt: skip

SCORE_BINS = 200
"""So many bins of equal width a score from 0 to 1 is counted in."""

SIZE_LEAST, SIZE_BASE = 1e-9, 1.1
"""Sizes of errors are counted in buckets: i holds those from least · base^(i-1) up to least · base^i, and 0
what is smaller than all."""


class Cell(msgspec.Struct, frozen=True, array_like=True):
    """So many rows answered with one class, of which one label is known, or none yet (None).

    Of a model of two classes `score` sums the probability of the second, else that of the class that was
    answered; `bin` is its bin of `SCORE_BINS`. None where the model gives no probabilities.
    """

    answered: str
    label: str | None
    bin: int | None
    n: int
    score: float


class ErrorCell(msgspec.Struct, frozen=True, array_like=True):
    """So many answered numbers whose error, answer minus label, has a size in one bucket; None without label.

    The sums are of errors, of their sizes, their squares and fourth powers, and of the answers.
    """

    bucket: int | None
    n: int
    error: float
    size: float
    square: float
    fourth: float
    answer: float


class PlaceCell(msgspec.Struct, frozen=True, array_like=True):
    """So many rankings in which the item of the label stands at one place from 1; 0 where it is in none, None
    without a label."""

    place: int | None
    n: int


class Sure(msgspec.Struct, frozen=True, array_like=True):
    """So many answers that said how sure they are, by an interval or a set of classes (`uncertainty`).

    `size` sums the widths of the intervals, or how many classes the sets have. `labelled` of them have a
    label, and of `covered` it lies within.
    """

    n: int = 0
    size: float = 0.0
    labelled: int = 0
    covered: int = 0


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one version in one arm, from `start` on; of one part of a slice, or all ("").

    `answers` were given, `labelled` of them have a label. Of a classifier there are `classes`, of a model of
    numbers `errors`, of one of rankings `places`; `sure` of those that say how sure they are.
    """

    start: datetime
    version: str | None
    arm: str | None
    feature: str = ""
    part: str = ""
    answers: int
    labelled: int
    classes: tuple[Cell, ...] = ()
    errors: tuple[ErrorCell, ...] = ()
    places: tuple[PlaceCell, ...] = ()
    sure: Sure = Sure()


class LabelMark(msgspec.Struct, frozen=True):
    """An hour of a version that begins at `start`: its `answers`, and how many `events` told labels of them,
    repetitions and corrections included. Events are only ever added, so that whoever finds both counts as
    they were finds all labels as they were."""

    start: datetime
    answers: int
    events: int


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """How long labels took to come, in seconds, over `labelled` of `answers`; None without any."""

    answers: int
    labelled: int
    p50: float | None
    p95: float | None
    p99: float | None


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """Rows drawn from a model of numbers, column by column, with what was answered and the labels known."""

    columns: dict[str, list[Any]]
    answers: list[float]
    labels: list[float | None]


def sure_together(parts: Iterable[Sure]) -> Sure:
    """The sum of the counts."""
    held = list(parts)
    return Sure(
        sum(part.n for part in held),
        math.fsum(part.size for part in held),
        sum(part.labelled for part in held),
        sum(part.covered for part in held),
    )


def size_of(bucket: int) -> float:
    """The size in the middle of a bucket."""
    return 0.0 if bucket <= 0 else float(SIZE_LEAST * SIZE_BASE ** (bucket - 0.5))
