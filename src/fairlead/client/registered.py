"""What the admin API answers, as frozen records. Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.client.alerts import FiringAlert

__all__ = [
    "ArmShare",
    "AuditEntry",
    "Confirmation",
    "Gateway",
    "GatewayModel",
    "LogRows",
    "MetricSummary",
    "Model",
    "ModelStatus",
    "OutcomeSummary",
    "Override",
    "PlanRecord",
    "Registered",
    "Rollout",
    "RolloutEvent",
    "ShadowConfusion",
    "ShadowDifference",
    "ShadowLatency",
    "ShadowReport",
    "ShadowSegment",
    "ShadowUnit",
    "StageChange",
    "Status",
    "Unconfirmed",
    "Version",
    "VersionStatus",
    "Window",
]


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model: `versions` oldest first, `production` the one that serves now."""

    name: str
    description: str = ""
    created_at: datetime
    created_by: str
    versions: tuple[str, ...] = ()
    production: str | None = None
    aliases: dict[str, str] = {}


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version. `spec` holds its manifest, runtime, contract, settings and lineage as plain
    values; `proof` tells how a conversion was proven."""

    model: str
    version: str
    digest: str
    framework: str
    stage: str
    metrics: dict[str, float]
    tags: dict[str, str]
    created_by: str
    created_at: datetime
    spec: dict[str, Any]
    proof: dict[str, Any] | None = None


class Unconfirmed(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway that does not serve the new generation, as far as is known, and why."""

    gateway: str
    generation: int
    reason: str = ""


class Confirmation(msgspec.Struct, frozen=True, kw_only=True):
    """What a command of traffic did: the generation that holds now, percent per version, and which gateways
    serve it."""

    model: str
    generation: int
    weights: dict[str, float]
    confirmed: tuple[str, ...] = ()
    unconfirmed: tuple[Unconfirmed, ...] = ()
    took_ms: float = 0.0
    note: str | None = None


class RolloutEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of a rollout; `evidence` holds the observation and the judgement that it rests on."""

    revision: int
    at: datetime
    from_state: str
    to_state: str
    step: int
    generation: int | None
    who: str
    reason: str
    evidence: dict[str, Any] = {}


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How a rollout stands. `step` counts from 0 in `steps`; `weights` are percent per version now;
    `judgement` is what is to be said of the candidate at this moment, `held` which freeze window or gate
    keeps it at its step. Lists have none of these, and no journal. `note` says how it differs from what was
    asked for."""

    id: str
    model: str
    stable: str | None
    candidate: str
    state: str
    strategy: str
    step: int
    steps: tuple[dict[str, float], ...] = ()
    paused_because: str | None = None
    generation: int | None = None
    started_at: datetime
    entered_at: datetime
    updated_at: datetime
    who: str = ""
    why: str = ""
    note: str | None = None
    weights: dict[str, float] = {}
    judgement: dict[str, Any] | None = None
    held: str | None = None
    spec: dict[str, Any] = {}
    journal: tuple[RolloutEvent, ...] = ()

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.state in ("succeeded", "rolled_back", "superseded")


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A version as it was registered; `confirmation` when it was put into production at once."""

    version: Version
    confirmation: Confirmation | None = None


class StageChange(msgspec.Struct, frozen=True, kw_only=True):
    """A version went from one stage to another; `generation` is the plan's, None when a person did it."""

    model: str
    version: str
    from_stage: str
    to_stage: str
    generation: int | None
    at: datetime
    who: str
    why: str


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the registry or the traffic."""

    id: int
    at: datetime
    who: str
    action: str
    model: str | None
    version: str | None
    why: str
    details: dict[str, Any] = {}


class LogRows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a query of the prediction log answered. `truncated` when there are more."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    types: tuple[str, ...] = ()
    truncated: bool = False


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What happened from `start` (inclusive) to `end` (exclusive): counts of rows, `rate` per second,
    `error_rate` failed / (ok + failed), `cache_hit_rate` cached / ok, latencies in milliseconds."""

    start: datetime
    end: datetime
    version: str | None = None
    arm: str | None = None
    role: str | None = None
    source: str | None = None
    count: int
    ok: int
    rejected: int
    failed: int
    cached: int
    rate: float
    error_rate: float | None = None
    cache_hit_rate: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    mean_ms: float | None = None
    max_ms: float | None = None
    exact: bool = False


class MetricSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The effective outcomes of one metric: how many, and of their numbers the sum and mean."""

    count: int
    sum: float | None = None
    mean: float | None = None


class OutcomeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one version's predictions in one arm. `accuracy` is the share of the `labelled`
    predictions whose answer equals the label."""

    version: str | None
    arm: str | None
    predictions: int
    units: int
    metrics: dict[str, MetricSummary] = {}
    labelled: int = 0
    accuracy: float | None = None


class ShadowDifference(msgspec.Struct, frozen=True, kw_only=True):
    """How far numbers lie apart, shadow minus answer; of the absolute value also quantiles and maximum."""

    mean: float
    mean_absolute: float
    p50_absolute: float
    p95_absolute: float
    p99_absolute: float
    max_absolute: float


class ShadowConfusion(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows were answered one way and by the shadow that way, the same or another."""

    answered: str
    shadow: str
    rows: int


class ShadowLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds: of an answer that was no cache hit, from request to answer; of a shadow, its run."""

    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ShadowUnit(msgspec.Struct, frozen=True, kw_only=True):
    """A unit that would have been answered otherwise, in how many of its rows."""

    unit: str
    rows: int
    different: int


class ShadowSegment(msgspec.Struct, frozen=True, kw_only=True):
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
    difference: ShadowDifference | None = None
    confusion: tuple[ShadowConfusion, ...] = ()
    answered_errors: dict[str, int] = {}
    shadow_errors: dict[str, int] = {}
    answered_latency: ShadowLatency | None = None
    shadow_latency: ShadowLatency | None = None
    most_different: tuple[ShadowUnit, ...] = ()
    segments: tuple[ShadowSegment, ...] = ()


# --- everything at a glance ---------------------------------------------------------------------------------


class ArmShare(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of a plan and its share of the units, from 0 to 1."""

    name: str
    version: str
    role: str
    share: float


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and its fate; `reason` says why it failed or what overtook it."""

    generation: int
    state: str
    command: str
    who: str
    why: str
    arms: tuple[ArmShare, ...] = ()
    reason: str | None = None


class GatewayModel(msgspec.Struct, frozen=True, kw_only=True):
    """How far a gateway is with a model. `error` is about the generation `failed`."""

    prepared: int = 0
    active: int = 0
    override: str | None = None
    failed: int = 0
    error: str | None = None


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway worker; `live` when it was heard of in the last 5 seconds."""

    name: str
    host: str
    address: str
    live: bool
    started_at: datetime
    heartbeat_at: datetime
    models: dict[str, GatewayModel] = {}


class VersionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a version is doing: `weight` in percent, answers per second over 10 and 60 s, and over the last
    60 s latencies in milliseconds and shares from 0 to 1, None without an answer."""

    version: str
    stage: str
    weight: float = 0.0
    arms: tuple[ArmShare, ...] = ()
    rate_10s: float = 0.0
    rate_60s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    rejected_rate: float | None = None
    cache_hit_rate: float | None = None


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway on which a person has put all traffic on one version, past the plan."""

    gateway: str
    version: str


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model's traffic, the rollout that is under way, and how its versions are doing."""

    name: str
    generation: int
    production: str | None = None
    preparing: PlanRecord | None = None
    overrides: tuple[Override, ...] = ()
    versions: tuple[VersionStatus, ...] = ()
    rollout: Rollout | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance. `lacking` says what could not be found out, `alerts` are those that fire."""

    at: datetime
    fairlead: str
    models: tuple[ModelStatus, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    ingest: dict[str, Any] | None = None
    lacking: tuple[str, ...] = ()
    alerts: tuple[FiringAlert, ...] = ()
