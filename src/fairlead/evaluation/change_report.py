"""What is told of a replay of logged traffic: nouns alone, for whoever asks for it and does not make it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from fairlead.predictions.shadow_report import Confused, Difference, Latency, Segment

__all__ = ["ChangeReport", "Example", "Kind"]

Kind = Literal["changed", "failed", "rejected", "mended"]


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A row that the version would treat otherwise: `changed` (another answer), `failed` and `rejected` (it
    was answered, and would not be), `mended` (the model failed on it, and would not)."""

    kind: Kind
    request_id: str
    row: int
    at: datetime
    unit: str | None
    version: str | None
    logged: Any = None
    replayed: Any = None
    difference: float | None = None
    error_code: str | None = None
    error: str | None = None
    violations: list[dict[str, Any]] = []


class ChangeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What would have changed had a version answered the logged requests.

    Of `records` read, newest first, `replayed` were given to the version; `not_replayable` counts the others
    by reason. Rows that both answered are `compared` with the answers of the versions in `against`;
    `changed_share` of them (None without any) say something else: another label, another first item, or a
    number that differs by more than a millionth. `difference` of numbers is version minus answer,
    `probability_difference` [mean, largest] of the largest difference of a row's probabilities. `failed` and
    `rejected` count rows that were answered and would not be, by error code and by `field: rule`; `mended`
    those on which the model failed. `segments` are those of declared slices, else those in which more rows
    change than chance explains. `latency` is of rows that run alone, in an idle process of lower priority.
    """

    model: str
    version: str
    start: datetime
    end: datetime
    runtime: str = ""
    records: int = 0
    truncated: bool = False
    replayed: int = 0
    not_replayable: dict[str, int] = {}
    against: dict[str, int] = {}
    compared: int = 0
    changed: int = 0
    changed_share: float | None = None
    units: int = 0
    units_changed: int = 0
    difference: Difference | None = None
    probability_difference: tuple[float, float] | None = None
    confusion: list[Confused] = []
    failed: dict[str, int] = {}
    rejected: dict[str, int] = {}
    rejected_rows: int = 0
    mended: int = 0
    latency: Latency | None = None
    peak_bytes: int = 0
    segments: list[Segment] = []
    examples: list[Example] = []
