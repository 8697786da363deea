"""The prediction record: one row of the log per answered, failed or refused row. This schema is for ever.

A column may be added at the end; none is renamed, reordered, retyped or removed. What a record means:

- `prediction_id` UUIDv7, made by the gateway, unique; its time is when the row was received.
- `request_id` the caller's or a generated one; rows of a batch share it and differ in `row`.
- `status` `ok`, `rejected` (the caller's fault) or `failed` (ours); `error_code` as in `errors/`.
- `degraded` says what stood in for the version, and `error_code` then what had gone wrong with it.
- `assigned_version` is what the plan gave the request, `served_version` what answered; they differ when a
  fallback answered. `arm` and `role` are the assigned arm's. The role says how it came: `rule`, `holdout` and
  `pin` are no part of a split, and no exposure to an experiment.
- `features` after coercion and imputation, in contract order; null when they could not be decoded.
- `prediction` and `probabilities` as JSON, so that classes, numbers, vectors and rankings share a column.
- `refused` the features of a row that broke its contract, as JSON with long values cut and sensitive ones
  left out: what `features`, which is typed, cannot hold. With `use_case` it shows which caller sends what.
- `conformal_quantile` what the uncertainty of the answer was told by: an interval reaches so far to both
  sides, a set holds the classes of which one minus the probability is at most that. Null without.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Degraded", "Outcome", "PredictionRecord", "SchemaFrame", "Source", "Status", "UnitKind"]

Source = Literal["online", "batch", "stream", "edge", "shadow", "replay"]
Status = Literal["ok", "rejected", "failed"]
UnitKind = Literal["given", "entity", "request"]
Degraded = Literal["stale_cache", "fallback_version", "contract_default", "stale_features"]


class PredictionRecord(msgspec.Struct, array_like=True, tag="p", frozen=True, gc=False):
    """One prediction as the gateway writes it (a MessagePack array behind the tag `p`).

    `at` is Unix time in microseconds. `features` holds the MessagePack array of the values in the order of
    the contract whose `SchemaFrame` stands earlier in the same segment; nil when they could not be decoded.
    `prediction`, `probabilities`, `flags` and `violations` are JSON text or nil.
    """

    prediction_id: bytes  # 16 bytes, UUIDv7
    request_id: str
    row: int
    source: Source
    at: int
    model: str
    arm: str | None
    role: str | None
    assigned_version: str | None
    served_version: str | None
    generation: int
    contract_id: str | None
    unit: str | None
    unit_kind: UnitKind
    use_case: str | None
    status: Status
    error_code: str | None
    degraded: str | None
    cached: bool
    latency_ms: float
    feature_hash: str | None
    feature_snapshot: str | None
    features: msgspec.Raw
    prediction: str | None
    probabilities: str | None
    flags: str | None
    violations: str | None
    experiment: str | None
    variant: str | None
    training_data: str | None
    trace_id: str | None
    runtime: str | None
    gateway: str
    refused: str | None = None
    conformal_quantile: float | None = None


class SchemaFrame(msgspec.Struct, array_like=True, tag="s", frozen=True):
    """Names and types of a contract's features; written before its first record in each segment."""

    contract_id: str
    names: tuple[str, ...]
    types: tuple[str, ...]  # float | int | bool | string, or list<float> | list<int>
    sensitivities: tuple[str, ...] = ()


class Outcome(msgspec.Struct, array_like=True, tag="o", frozen=True):
    """What became of a prediction or a unit: a business event or the true label (`metric == "label"`).

    Joined by `request_id` and `row`, or by `unit`. Events with the same `outcome_id` count once; `set`
    replaces earlier values of the same key and metric, `add` accumulates. `at` is Unix microseconds.
    """

    received_at: int
    model: str
    metric: str
    value: float | str
    at: int
    request_id: str | None = None
    row: int | None = None
    unit: str | None = None
    outcome_id: str | None = None
    mode: Literal["set", "add"] = "set"
