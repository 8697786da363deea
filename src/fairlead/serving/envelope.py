"""What a caller gets back: the full envelope of a prediction, and the rows of a batch."""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.contracts.check import Finding
from fairlead.contracts.uncertainty import ClassSet, Interval
from fairlead.runtimes.leading import Contribution

__all__ = ["BatchEnvelope", "Envelope", "Flag", "RowEnvelope", "encode"]

encode = msgspec.json.Encoder().encode


class Flag(msgspec.Struct, frozen=True, gc=False):
    """A contract finding that did not reject."""

    field: str
    rule: str
    value: Any


class Envelope(msgspec.Struct, gc=False):
    """One prediction with all that it takes to explain it later. What is not available is null."""

    prediction: Any
    probabilities: dict[str, float] | None
    uncertainty: Interval | ClassSet | None
    explanation: list[Contribution] | None
    model: str
    model_version: str
    stage: str
    experiment: str | None
    variant: str | None
    training_data: str | None
    contract_id: str
    feature_hash: str
    feature_snapshot: str | None
    request_id: str
    cached: bool
    degraded: str | None
    flags: list[Flag]
    latency_ms: float


class RowEnvelope(msgspec.Struct, gc=False):
    """One row of a batch. A row that failed has `error` (a problem document) and no prediction."""

    row: int
    prediction: Any
    probabilities: dict[str, float] | None
    uncertainty: Interval | ClassSet | None
    model_version: str | None
    stage: str | None
    variant: str | None
    contract_id: str | None
    feature_hash: str | None
    cached: bool
    degraded: str | None
    flags: list[Flag]
    error: dict[str, Any] | None = None


class BatchEnvelope(msgspec.Struct, gc=False):
    """The rows of a batch in the order in which they came; the key of a row is `request_id#row`."""

    predictions: list[RowEnvelope]
    model: str
    batch_size: int
    failed: int
    request_id: str
    latency_ms: float


def flags_of(findings: list[Finding]) -> list[Flag]:
    """The findings as they stand in an envelope."""
    return [Flag(finding.field, finding.rule, finding.value) for finding in findings]
