"""What the admin API answers about replays, as frozen records. Fields that a newer server
adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from fairlead.client.registered import ShadowConfusion, ShadowDifference, ShadowLatency, ShadowSegment

__all__ = ["Answered", "ChangeExample", "ChangeReport", "ReplayJob", "Replayed"]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a row, in the log or in the replay, and what computed it."""

    status: str
    prediction: Any = None
    probabilities: dict[str, float] | None = None
    error_code: str | None = None
    violations: list[dict[str, Any]] = []
    runtime: str | None = None


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A record and its replay. `verdict` is `identical`, `within_tolerance`, `differs`, or `not_replayable`
    for the `reason`; `explanation` says it in a sentence."""

    request_id: str
    row: int
    at: datetime
    model: str
    version: str | None
    source: str
    verdict: Literal["identical", "within_tolerance", "differs", "not_replayable"]
    explanation: str
    reason: str | None = None
    logged: Answered
    replayed: Answered | None = None
    largest_difference: float | None = None
    same_runtime: bool | None = None
    degraded: str | None = None
    cached: bool = False


class ChangeExample(msgspec.Struct, frozen=True, kw_only=True):
    """A row that the version would treat otherwise: it is `changed`, `failed`, `rejected` or `mended`."""

    kind: str
    request_id: str
    row: int
    at: datetime
    unit: str | None = None
    version: str | None = None
    logged: Any = None
    replayed: Any = None
    difference: float | None = None
    error_code: str | None = None
    error: str | None = None
    violations: list[dict[str, Any]] = []


class ChangeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What would have changed had a version answered the logged requests. `difference` is version minus
    answer, `probability_difference` mean and maximum of each row's largest; `failed` counts by error code,
    `rejected` by `field: rule`, `not_replayable` by reason."""

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
    difference: ShadowDifference | None = None
    probability_difference: tuple[float, float] | None = None
    confusion: list[ShadowConfusion] = []
    failed: dict[str, int] = {}
    rejected: dict[str, int] = {}
    rejected_rows: int = 0
    mended: int = 0
    latency: ShadowLatency | None = None
    peak_bytes: int = 0
    segments: list[ShadowSegment] = []
    examples: list[ChangeExample] = []


class ReplayJob(msgspec.Struct, frozen=True, kw_only=True):
    """How far a replay of traffic is: `running`, `done` with its `report`, `failed` with its `error`
    (`code`, `detail`, `remedy`), or `cancelled`."""

    id: str
    state: str
    started_at: datetime
    ended_at: datetime | None = None
    order: dict[str, Any] = {}
    records: int = 0
    report: ChangeReport | None = None
    error: dict[str, str] | None = None
