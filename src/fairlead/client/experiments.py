"""The experiments of the admin API, for its Python client."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from fairlead.client.paths import path_of
from fairlead.client.session import Call, Session, reading

__all__ = [
    "ArmResult",
    "AssignmentAudit",
    "Audited",
    "Belief",
    "DifferentAssignment",
    "Experiment",
    "ExperimentCalls",
    "ExperimentPhase",
    "ExperimentReport",
    "FoundOut",
    "MetricResult",
    "Needed",
    "Range",
    "SampleRatio",
]  # fmt: skip


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate and where the truth lies, however often one looks; None where the data leave it open."""

    estimate: float | None
    low: float | None
    high: float | None


class ArmResult(msgspec.Struct, frozen=True, kw_only=True):
    """One arm in one metric. `adjusted` is what is compared: with what was foreseeable taken out."""

    version: str
    units: int
    mean: float | None
    adjusted: float | None


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """The chance that the candidate is better, and what one expects to lose by either choice, in the metric's
    unit. No ground to stop."""

    better: float
    loss_if_shipped: float
    loss_if_kept: float


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """How many more units and days a verdict takes, if the difference is what it looks like now."""

    units: int
    days: int | None


class MetricResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says; the admin API's document explains each field."""

    metric: str
    kind: str
    shape: str
    window: float
    finding: str
    sentence: str
    control: ArmResult
    treated: ArmResult
    difference: Range
    lift: Range
    alpha: float
    p: float
    p_adjusted: float = 1.0
    exact_p: float | None = None
    kept: bool | None = None
    margin: float = 0.0
    removed: float = 0.0
    foreseen: int = 0
    belief: Belief | None = None
    needed: Needed | None = None


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the units lie as they were drawn: `log_e` is evidence that holds at every look, `p`
    chi-square's for one look. None is what is beyond all numbers."""

    units: int
    log_e: float | None
    mismatch: bool
    statistic: float | None
    freedom: int
    p: float
    arm: str
    deviation: float


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict in words, and the numbers under it."""

    control: str
    treated: str
    finding: str
    sentence: str
    units: int
    days: float
    switched: int
    split: SampleRatio
    split_sentence: str
    alpha: float
    metrics: tuple[MetricResult, ...] = ()


class ExperimentPhase(msgspec.Struct, frozen=True, kw_only=True):
    """The time during which one plan held, and the units that had their first exposure in it."""

    generation: int
    since: datetime | None
    weights: dict[str, float]
    control_units: int = 0
    treated_units: int = 0


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout that splits the traffic between a candidate and what it is compared with."""

    id: str
    model: str
    candidate: str
    stable: str | None
    strategy: str
    state: str
    started_at: datetime
    goal: str | None
    phases: tuple[ExperimentPhase, ...] = ()


class FoundOut(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment and what it has found out so far."""

    experiment: Experiment
    at: datetime
    report: ExperimentReport


class DifferentAssignment(msgspec.Struct, frozen=True, kw_only=True):
    """Records that say another arm than the plan gives their unit."""

    generation: int
    unit: str | None
    arm: str | None
    version: str | None
    expected_arm: str | None
    expected_version: str | None
    records: int
    request_id: str


class AssignmentAudit(msgspec.Struct, frozen=True, kw_only=True):
    """How many records there are, how many were recomputed, what decided the others, and what differs."""

    records: int
    recomputed: int
    not_recomputed: dict[str, int]
    kinds: dict[str, int]
    differing: int
    different: tuple[DifferentAssignment, ...]
    sentence: str


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment and the audit of its exposures."""

    experiment: Experiment
    at: datetime
    audit: AssignmentAudit


class ExperimentCalls(Session):
    """Looks at experiments."""

    def experiments(self, model: str, *, limit: int = 20) -> tuple[Experiment, ...]:
        """The rollouts that split the model's traffic, newest first, without their phases."""
        path = path_of("models", model, "experiments")
        query = {"limit": str(limit)}
        return self.send(Call(method="GET", path=path, query=query, read=reading(tuple[Experiment, ...])))

    def experiment(
        self,
        model: str,
        experiment: str = "latest",
        *,
        metrics: Sequence[str] = (),
        window: str | None = None,
        higher_is: Literal["better", "worse"] = "better",
    ) -> FoundOut:
        """What an experiment has found out, by its rollout's own metrics and by `metrics` beside them.

        Such a metric is an outcome, or two as in revenue/orders, counted within `window` (as in 7d) of a
        unit's first exposure.
        """
        path = path_of("models", model, "experiments", experiment)
        query: dict[str, str | Sequence[str]] = {"metric": list(metrics), "higher_is": higher_is}
        if window is not None:
            query["window"] = window
        return self.send(Call(method="GET", path=path, query=query, read=reading(FoundOut)))

    def audit_experiment(self, model: str, experiment: str = "latest") -> Audited:
        """Every record of the experiment held against the assignment that its plan gives."""
        path = path_of("models", model, "experiments", experiment, "audit")
        return self.send(Call(method="GET", path=path, read=reading(Audited)))

    def exposures(
        self, model: str, experiment: str = "latest", *, format: Literal["csv", "parquet"] = "csv"
    ) -> bytes:
        """The experiment's exposures as the bytes of a file: one row per unit."""
        path = path_of("models", model, "experiments", experiment, "exposures")
        return self.send(Call(method="GET", path=path, query={"format": format}, read=bytes))
