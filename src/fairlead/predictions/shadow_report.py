"""What is told of a shadow: nouns alone, for whoever asks for a report and does not make it."""

from __future__ import annotations

from datetime import datetime

import msgspec

__all__ = ["Confused", "Difference", "Latency", "Segment", "ShadowReport", "UnitDifference"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How far numbers lie apart, shadow minus answer; of the absolute value also quantiles and maximum."""

    mean: float
    mean_absolute: float
    p50_absolute: float
    p95_absolute: float
    p99_absolute: float
    max_absolute: float


class Confused(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows were answered one way and by the shadow that way, the same or another."""

    answered: str
    shadow: str
    rows: int


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds: of an answer that was no cache hit, from request to answer; of a shadow, its run."""

    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class UnitDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A unit that would have been answered otherwise, in how many of its rows."""

    unit: str
    rows: int
    different: int


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The rows with a feature's value, or within a quarter of its numbers, and how many of them differ."""

    feature: str
    value: str
    rows: int
    different: int
    share: float


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """A shadow beside the versions in `against`, which answered so many of its rows.

    `share` of the `compared` rows differ; None without any. `errors` count rows by code. `segments` are those
    of the declared slices; where none are, those in which more rows differ than chance explains. They come
    from the latest 50,000 compared rows.
    """

    model: str
    version: str | None
    start: datetime
    end: datetime
    rows: int = 0
    against: dict[str, int] = {}
    compared: int = 0
    different: int = 0
    share: float | None = None
    units: int = 0
    units_different: int = 0
    difference: Difference | None = None
    confusion: list[Confused] = []
    answered_errors: dict[str, int] = {}
    shadow_errors: dict[str, int] = {}
    answered_latency: Latency | None = None
    shadow_latency: Latency | None = None
    most_different: list[UnitDifference] = []
    segments: list[Segment] = []
