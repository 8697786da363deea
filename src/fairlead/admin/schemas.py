"""What the admin API takes and answers where no noun of Fairlead says it already."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.contracts.adaptive import KEPT
from fairlead.contracts.contract import Contract
from fairlead.contracts.uncertainty import Uncertainty
from fairlead.registry.versions import Lineage, Manifest, ModelSettings, Version
from fairlead.rollouts.confirmation import Confirmation
from fairlead.runtimes.base import RuntimeSpec

Why = Annotated[str, Meta(max_length=1_000, description="Why; it stands in histories and the audit log.")]
Override = Annotated[
    str,
    Meta(
        max_length=1_000,
        description="The reason for going past a gate that failed or a freeze window.",
    ),
]
Reference = Annotated[str, Meta(min_length=1, max_length=100, description="A version, or an alias of one.")]


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's JSON. A field that it does not know is refused."""


# --- models and versions ------------------------------------------------------------------------------------


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the artifact store."""

    sha256: str
    size: int


class Description(Body, frozen=True, kw_only=True):
    """What the model is for, in a person's words."""

    description: Annotated[str, Meta(max_length=10_000)]
    why: Why = ""


class Registration(Body, frozen=True, kw_only=True):
    """A version to register. Its files are uploaded to `/blobs` before.

    `proof` tells how a conversion was proven, `uncertainty` how sure the answers are and
    `scores` what of the calibration is kept to let that follow labels. `trust_pickle` says
    that the caller trusts the author of a `python` version; the server's own setting has to say so, too.
    `set_production` then gives it all traffic at once.
    """

    version: str
    manifest: Manifest
    runtime: RuntimeSpec
    contract: Contract
    framework: Annotated[str, Meta(max_length=100)]
    metrics: dict[str, float] = {}
    tags: dict[str, str] = {}
    lineage: Lineage = msgspec.field(default_factory=Lineage)
    uncertainty: Uncertainty | None = None
    scores: Annotated[tuple[float, ...], Meta(max_length=KEPT)] = ()
    settings: ModelSettings = msgspec.field(default_factory=ModelSettings)
    proof: dict[str, Any] | None = None
    trust_pickle: bool = False
    set_production: bool = False
    why: Why = ""


class Registered(msgspec.Struct, frozen=True, kw_only=True):
    """The version as it was registered; `confirmation` when it was put into production at once."""

    version: Version
    confirmation: Confirmation | None


class AliasTarget(Body, frozen=True, kw_only=True):
    """The version that the alias shall mean; null takes the alias away."""

    version: str | None
    why: Why = ""


class AliasView(msgspec.Struct, frozen=True, kw_only=True):
    """What an alias means; null when it was taken away."""

    model: str
    alias: str
    version: str | None


class StageByHand(Body, frozen=True, kw_only=True):
    """A stage that people set. The others follow from traffic."""

    stage: Literal["staging", "archived", "none"]
    why: Why = ""


class ProductionAt(msgspec.Struct, frozen=True, kw_only=True):
    """Which version was in production at a moment; null when none was."""

    model: str
    at: datetime
    version: str | None


class SettingsChange(Body, frozen=True, kw_only=True):
    """Values by name; null takes a value back to what is inherited. Others stay as they are."""

    settings: dict[str, Any]
    why: Why = ""


class ContractDeclaration(Body, frozen=True, kw_only=True):
    """The contract that all versions of the model registered from now on have to fit."""

    contract: Contract
    why: Why = ""


# --- the prediction log -------------------------------------------------------------------------------------


class Sql(Body, frozen=True, kw_only=True):
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
