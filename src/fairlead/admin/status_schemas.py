"""What the admin API answers about what goes on: gateways, models, health."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from fairlead.admin.traffic_schemas import ArmView, PlanView, RolloutView
from fairlead.rollouts.fleet import ModelState


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
    """A model's traffic, the rollout that is under way, and how versions are doing but for archived ones."""

    name: str
    generation: int
    production: str | None
    preparing: PlanView | None
    overrides: list[OverrideView]
    versions: list[VersionStatus]
    rollout: RolloutView | None


class Firing(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that fires; `model` is empty where it is about the server."""

    id: str
    rule: str
    severity: str
    model: str
    sentence: str
    since: datetime


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything at a glance. `lacking` says what could not be found out, and why, `alerts` are those that
    fire."""

    at: datetime
    fairlead: str
    models: list[ModelStatus]
    gateways: list[GatewayView]
    ingest: dict[str, Any] | None
    lacking: list[str]
    alerts: list[Firing]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """That control lives, or can do its work."""

    status: str
