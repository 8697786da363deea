"""What the admin API takes and answers where no noun of Fairlead says it already."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.contracts.contract import Contract
from fairlead.registry.versions import Lineage, Manifest, ModelSettings, Version
from fairlead.rollouts.confirmation import Confirmation
from fairlead.rollouts.fleet import ModelState
from fairlead.rollouts.ledger import Event
from fairlead.runtimes.base import RuntimeSpec

Why = Annotated[str, Meta(max_length=1_000, description="Why; it stands in histories and the audit log.")]
Override = Annotated[
    str,
    Meta(
        max_length=1_000,
        description="The reason for going past a gate that failed or a freeze window.",
    ),
]
_Reference = Annotated[str, Meta(min_length=1, max_length=100, description="A version, or an alias of one.")]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's JSON. A field that it does not know is refused."""


# --- models and versions ------------------------------------------------------------------------------------


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the artifact store."""

    sha256: str
    size: int


class Description(_Body, frozen=True, kw_only=True):
    """What the model is for, in a person's words."""

    description: Annotated[str, Meta(max_length=10_000)]
    why: Why = ""


class Registration(_Body, frozen=True, kw_only=True):
    """A version to register. Its files are uploaded to `/blobs` before.

    `proof` tells how a conversion was proven. `trust_pickle` says that the caller trusts the author of a
    `python` version; the server's own setting has to say so, too. `set_production` then gives it all
    traffic at once.
    """

    version: str
    manifest: Manifest
    runtime: RuntimeSpec
    contract: Contract
    framework: Annotated[str, Meta(max_length=100)]
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    lineage: Lineage = msgspec.field(default_factory=Lineage)
    settings: ModelSettings = msgspec.field(default_factory=ModelSettings)
    proof: dict[str, Any] | None = None
    trust_pickle: bool = False
    set_production: bool = False
    why: Why = ""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """The version as it was registered; `confirmation` when it was put into production at once."""

    version: Version
    confirmation: Confirmation | None


class AliasTarget(_Body, frozen=True, kw_only=True):
    """The version that the alias shall mean; null takes the alias away."""

    version: str | None
    why: Why = ""


class AliasView(msgspec.Struct, frozen=True, kw_only=True):
    """What an alias means; null when it was taken away."""

    model: str
    alias: str
    version: str | None


class StageByHand(_Body, frozen=True, kw_only=True):
    """A stage that people set. The others follow from traffic."""

    stage: Literal["staging", "archived", "none"]
    why: Why = ""


class ProductionAt(msgspec.Struct, frozen=True, kw_only=True):
    """Which version was in production at a moment; null when none was."""

    model: str
    at: datetime
    version: str | None


class SettingsChange(_Body, frozen=True, kw_only=True):
    """Values by name; null takes a value back to what is inherited. Others stay as they are."""

    settings: dict[str, Any]
    why: Why = ""


class ContractDeclaration(_Body, frozen=True, kw_only=True):
    """The contract that all versions of the model registered from now on have to fit."""

    contract: Contract
    why: Why = ""


# --- traffic ------------------------------------------------------------------------------------------------


class Deploy(_Body, frozen=True, kw_only=True):
    """A version to put on traffic: a share beside a control arm of the same size (`canary`), or everything at
    once (`direct`, `blue-green`). `supersede` takes the place of another rollout under way."""

    version: _Reference
    strategy: Literal["canary", "direct", "blue-green"] = "canary"
    weight: Annotated[float, Meta(gt=0, le=100, description="Percent of the units for a canary.")] = 5.0
    supersede: bool = False
    override: Override = ""
    why: Why = ""


class Weights(_Body, frozen=True, kw_only=True):
    """Percent per version, adding up to 100. Versions that are not named get nothing."""

    weights: Annotated[dict[str, Annotated[float, Meta(ge=0, le=100)]], Meta(min_length=1)]
    override: Override = ""
    why: Why = ""


class Promote(_Body, frozen=True, kw_only=True):
    """Gives the canary everything."""

    override: Override = ""
    why: Why = ""


class Rollback(_Body, frozen=True, kw_only=True):
    """Where to go: the version before, unless `to` names another."""

    to: _Reference | None = None
    why: Why = ""


class RolloutStart(_Body, frozen=True, kw_only=True):
    """A version to roll out by steps, watched: by a strategy and what differs from its preset, or by a whole
    `plan`. `steps` are percent; `bake` is seconds, or a text such as `10m`. A canary that is told neither
    weight nor steps gets copies of the requests first, unless `shadow` is false."""

    version: _Reference
    strategy: Literal["canary", "shadow", "blue-green", "ab", "direct"] = "canary"
    weight: float | None = None
    steps: list[float] | None = None
    bake: float | str | None = None
    plan: dict[str, Any] | None = None
    shadow: bool = True
    supersede: bool = False
    override: Override = ""
    why: Why = ""


class RolloutCommand(_Body, frozen=True, kw_only=True):
    """Why a rollout is commanded so."""

    override: Override = ""
    why: Why = ""


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a rollout: percent of the units, or of the requests that are copied."""

    weight: float
    mirror: float


class RolloutView(msgspec.Struct, frozen=True, kw_only=True):
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
    steps: list[StepView]
    paused_because: str | None
    generation: int | None
    started_at: datetime
    entered_at: datetime
    updated_at: datetime
    who: str
    why: str
    note: str | None
    spec: dict[str, Any]
    weights: dict[str, float]
    judgement: dict[str, Any] | None
    held: str | None
    journal: list[Event]


class ArmView(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of a plan and its share of the units, from 0 to 1."""

    name: str
    version: str
    role: str
    share: float


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """A plan and its fate; `reason` says why it failed or what overtook it."""

    generation: int
    state: str
    command: str
    who: str
    why: str
    created_at: datetime
    activated_at: datetime | None
    reason: str | None
    arms: list[ArmView]


class TrafficView(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets what: the active plan, percent per version, the plan that gateways are preparing, and the
    version that a rollback goes to while one version has everything. Generation 0 is no traffic yet."""

    model: str
    generation: int
    arms: list[ArmView]
    weights: dict[str, float]
    preparing: PlanView | None
    previous: str | None


# --- what goes on -------------------------------------------------------------------------------------------


class GatewayView(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway worker; `models` tells which generation of each model it has prepared and serves."""

    name: str
    host: str
    pid: int
    slot: int
    address: str
    live: bool
    started_at: datetime
    heartbeat_at: datetime
    models: dict[str, ModelState]


class VersionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a version is doing on this machine.

    `weight` is in percent. `rate_10s` and `rate_60s` are answers per second; the others are over the last
    60 s and null without an answer: latencies in milliseconds, `error_rate` the failed share of the answers,
    `rejected_rate` the share refused for the caller's fault, `cache_hit_rate` of the look-ups.
    """

    version: str
    stage: str
    weight: float
    arms: list[ArmView]
    rate_10s: float
    rate_60s: float
    p50_ms: float | None
    p99_ms: float | None
    error_rate: float | None
    rejected_rate: float | None
    cache_hit_rate: float | None


class OverrideView(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway on which a person has put all traffic on one version, past the plan."""

    gateway: str
    version: str


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A model's traffic and how its versions are doing; archived ones are left out."""

    name: str
    generation: int
    production: str | None
    preparing: PlanView | None
    overrides: list[OverrideView]
    versions: list[VersionStatus]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance. `lacking` says what could not be found out, and why."""

    at: datetime
    fairlead: str
    models: list[ModelStatus]
    gateways: list[GatewayView]
    ingest: dict[str, Any] | None
    lacking: list[str]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That control lives, or can do its work."""

    status: str


# --- the prediction log -------------------------------------------------------------------------------------


class Sql(_Body, frozen=True, kw_only=True):
    """One SELECT over the tables `predictions` and `outcomes`, and how many rows to answer at most. No answer
    has more than 10,000."""

    sql: Annotated[str, Meta(min_length=1, max_length=100_000)]
    limit: Annotated[int, Meta(ge=1)] = 1_000


class LogRows(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a query, with DuckDB's types of the columns; `truncated` when there are more rows."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool


class WindowView(msgspec.Struct, frozen=True, kw_only=True):
    """What happened from `start` (inclusive) to `end` (exclusive), as the prediction log tells it.

    `rate` is predictions per second, `error_rate` failed / (ok + failed), `cache_hit_rate` cached / ok;
    latencies are in milliseconds. `exact` quantiles come from the rows; others are within 1 %.
    """

    start: datetime
    end: datetime
    version: str | None
    arm: str | None
    role: str | None
    source: str | None
    count: int
    ok: int
    rejected: int
    failed: int
    cached: int
    rate: float
    error_rate: float | None
    cache_hit_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    max_ms: float | None
    exact: bool


class MetricView(msgspec.Struct, frozen=True, kw_only=True):
    """The effective outcomes of one metric: how many, and of their numbers the sum and mean."""

    count: int
    sum: float | None
    mean: float | None


class OutcomeView(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one version's predictions in one arm.

    `predictions` were answered, for `units` different units. In `metrics`, an outcome of a request counts for
    that prediction, one of a unit once for the unit. `accuracy` is the share of the `labelled` predictions
    whose answer equals the label.
    """

    version: str | None
    arm: str | None
    predictions: int
    units: int
    metrics: dict[str, MetricView]
    labelled: int
    accuracy: float | None
