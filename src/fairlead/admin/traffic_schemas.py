"""What the admin API takes and answers about traffic: commands, rollouts, plans."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fairlead.admin.schemas import Body, Override, Reference, Why
from fairlead.rollouts.ledger import Event


class Deploy(Body, frozen=True, kw_only=True):
    """A version to put on traffic: a share beside a control arm of the same size (`canary`), or everything at
    once (`direct`, `blue-green`). `supersede` takes the place of another rollout under way."""

    version: Reference
    strategy: Literal["canary", "direct", "blue-green"] = "canary"
    weight: Annotated[float, Meta(gt=0, le=100, description="Percent of the units for a canary.")] = 5.0
    supersede: bool = False
    override: Override = ""
    why: Why = ""


class Weights(Body, frozen=True, kw_only=True):
    """Percent per version, adding up to 100. Versions that are not named get nothing."""

    weights: Annotated[dict[str, Annotated[float, Meta(ge=0, le=100)]], Meta(min_length=1)]
    override: Override = ""
    why: Why = ""


class Promote(Body, frozen=True, kw_only=True):
    """Gives the canary everything."""

    override: Override = ""
    why: Why = ""


class Rollback(Body, frozen=True, kw_only=True):
    """Where to go: the version before, unless `to` names another."""

    to: Reference | None = None
    why: Why = ""


class RolloutStart(Body, frozen=True, kw_only=True):
    """A version to roll out by steps, watched: by a strategy and what differs from its preset, or by a whole
    `plan`. `steps` are percent; `bake` is seconds, or a text such as `10m`. A canary that is told neither
    weight nor steps gets copies of the requests first, unless `shadow` is false."""

    version: Reference
    strategy: Literal["canary", "shadow", "blue-green", "ab", "direct"] = "canary"
    weight: float | None = None
    steps: list[float] | None = None
    bake: float | str | None = None
    plan: dict[str, Any] | None = None
    shadow: bool = True
    supersede: bool = False
    override: Override = ""
    why: Why = ""


class RolloutCommand(Body, frozen=True, kw_only=True):
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
