"""What the data plane answers, as frozen records. Fields that a newer server adds are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

__all__ = ["Arm", "BatchPrediction", "Flag", "Health", "Prediction", "RowPrediction", "ServedModel"]


class Flag(msgspec.Struct, frozen=True):
    """A contract finding that did not reject."""

    field: str
    rule: str
    value: Any = None


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction and all that it takes to explain it later. What is not available is None.

    `prediction` is a class, a number, a list of numbers, or a ranking: a list of `{"id", "score"}`, best
    first. `degraded` says how the answer is less than it should be; `latency_ms` is the server's own time.
    """

    prediction: Any
    model: str
    model_version: str
    request_id: str
    probabilities: dict[str, float] | None = None
    uncertainty: dict[str, Any] | None = None
    explanation: list[dict[str, Any]] | None = None
    stage: str | None = None
    experiment: str | None = None
    variant: str | None = None
    training_data: str | None = None
    contract_id: str | None = None
    feature_hash: str | None = None
    feature_snapshot: str | None = None
    cached: bool = False
    degraded: str | None = None
    flags: tuple[Flag, ...] = ()
    latency_ms: float = 0.0


class RowPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a batch. A row that failed has `error`, a problem document, and no prediction."""

    row: int
    prediction: Any = None
    probabilities: dict[str, float] | None = None
    uncertainty: dict[str, Any] | None = None
    model_version: str | None = None
    stage: str | None = None
    variant: str | None = None
    contract_id: str | None = None
    feature_hash: str | None = None
    cached: bool = False
    degraded: str | None = None
    flags: tuple[Flag, ...] = ()
    error: dict[str, Any] | None = None


class BatchPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a batch in the order in which they were sent; iterate over it to get them."""

    predictions: tuple[RowPrediction, ...]
    model: str
    request_id: str
    batch_size: int
    failed: int
    latency_ms: float = 0.0

    def __len__(self) -> int:
        return len(self.predictions)

    def __iter__(self) -> Iterator[RowPrediction]:
        return iter(self.predictions)

    def __getitem__(self, row: int) -> RowPrediction:
        return self.predictions[row]


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One share of a model's traffic, from 0 to 1."""

    name: str
    version: str
    role: str
    stage: str
    share: float
    contract_id: str


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model as one gateway serves it now. `override` names the version of a local rollback in force."""

    model: str
    generation: int
    arms: tuple[Arm, ...]
    experiment: str | None = None
    override: str | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway that answered: `status` is `ready`, or says why not."""

    status: str
    fairlead: str = ""
    gateway: str = ""
    uptime_seconds: float = 0.0
    models: dict[str, Any] = {}

    @property
    def ready(self) -> bool:
        """Whether it can answer predictions."""
        return self.status == "ready"
