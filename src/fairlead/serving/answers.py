"""How an answer looks: to the caller as an envelope, to the log as records."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from fairlead.errors import DataContractViolation, FairleadError
from fairlead.predictions.record import PredictionRecord
from fairlead.runtimes.binding import Prediction
from fairlead.serving.asks import Ask, BatchAsk, RowState
from fairlead.serving.envelope import BatchEnvelope, Envelope, RowEnvelope, encode, flags_of
from fairlead.serving.live import LiveArm, LiveModel

__all__ = ["batch_envelope", "envelope", "records"]

_NIL = msgspec.Raw(msgspec.msgpack.encode(None))


def envelope(model: LiveModel, arm: LiveArm, ask: Ask, state: RowState, seconds: float) -> Envelope:
    """The answer to a prediction."""
    prediction = state.prediction
    assert prediction is not None
    assert state.hash is not None
    return Envelope(
        prediction.value,
        _named(arm, prediction) if ask.reading.probabilities else None,
        None,
        None,
        model.name,
        arm.version_name,
        arm.stage,
        model.experiment,
        arm.variant,
        arm.training_data,
        arm.compiled.id,
        state.hash,
        None,
        ask.request_id,
        state.cached,
        None,
        flags_of(state.findings) if state.findings else [],
        round(seconds * 1000, 3),
    )


def batch_envelope(model: LiveModel, ask: BatchAsk, states: list[RowState], seconds: float) -> BatchEnvelope:
    """The answer to a batch; raises `DataContractViolation` when every row broke the contract."""
    failed = sum(state.error is not None for state in states)
    if failed == len(states):
        _raise_for_all(states)
    wants = ask.reading.probabilities
    return BatchEnvelope(
        predictions=[_row_envelope(index, state, wants) for index, state in enumerate(states)],
        model=model.name,
        batch_size=len(states),
        failed=failed,
        request_id=ask.request_id,
        latency_ms=round(seconds * 1000, 3),
    )


def records(
    model: LiveModel, ask: Ask | BatchAsk, states: list[RowState], seconds: float, gateway: str
) -> list[PredictionRecord]:
    """The log's record of each row."""
    at = time.time_ns() // 1000
    latency = round(seconds * 1000, 3)
    found = []
    for index, state in enumerate(states):
        arm, assigned = state.arm, state.assigned
        prediction, error = state.prediction, state.error
        violations = error.violations if isinstance(error, DataContractViolation) else None
        version = None if arm is None else arm.version_name
        found.append(
            PredictionRecord(
                state.prediction_id,
                ask.request_id,
                index,
                "online",
                at,
                model.name,
                None if assigned is None else assigned.name,
                None if assigned is None else assigned.role,
                None if assigned is None else assigned.version_name,
                version if error is None else None,
                model.generation,
                None if arm is None else arm.compiled.id,
                state.unit,
                state.unit_kind,
                ask.use_case,
                state.status,
                None if error is None else error.code,
                None,
                state.cached,
                latency,
                state.hash,
                None,
                _NIL if state.encoded is None else msgspec.Raw(state.encoded),
                None if prediction is None else encode(prediction.value).decode(),
                _probabilities_text(arm, prediction),
                encode(flags_of(state.findings)).decode() if state.findings else None,
                None if violations is None else encode(violations).decode(),
                model.experiment,
                None if arm is None else arm.variant,
                None if arm is None else arm.training_data,
                ask.trace_id,
                None if arm is None else arm.version.runtime,
                gateway,
                _refused_text(error),
            )
        )
    return found


def _named(arm: LiveArm, prediction: Prediction) -> dict[str, float] | None:
    if prediction.probabilities is None:
        return None
    return dict(zip(arm.version.binding.class_names, prediction.probabilities, strict=False))


def _probabilities_text(arm: LiveArm | None, prediction: Prediction | None) -> str | None:
    if arm is None or prediction is None or prediction.probabilities is None:
        return None
    return encode(_named(arm, prediction)).decode()


def _refused_text(error: FairleadError | None) -> str | None:
    if not isinstance(error, DataContractViolation) or error.refused is None:
        return None
    return encode(error.refused).decode()


def _row_envelope(index: int, state: RowState, wants: bool) -> RowEnvelope:
    arm, prediction, error = state.arm, state.prediction, state.error
    return RowEnvelope(
        row=index,
        prediction=None if prediction is None else prediction.value,
        probabilities=_named(arm, prediction) if wants and arm and prediction else None,
        model_version=None if arm is None else arm.version_name,
        stage=None if arm is None else arm.stage,
        variant=None if arm is None else arm.variant,
        contract_id=None if arm is None else arm.compiled.id,
        feature_hash=state.hash,
        cached=state.cached,
        degraded=None,
        flags=flags_of(state.findings),
        error=None if error is None else _row_error(error),
    )


def _row_error(error: FairleadError) -> dict[str, Any]:
    document: dict[str, Any] = {"code": error.code, "detail": error.message, "retryable": error.retryable}
    if isinstance(error, DataContractViolation):
        document["violations"] = error.violations
    return document


def _raise_for_all(states: list[RowState]) -> None:
    """Every row failed: the request fails, with each row's violations where they broke the contract."""
    violations: list[dict[str, Any]] = []
    for index, state in enumerate(states):
        error = state.error
        assert error is not None
        if not isinstance(error, DataContractViolation):
            raise error
        violations += [{"row": index, **violation} for violation in error.violations]
    raise DataContractViolation(
        f"All {len(states)} rows break the contract.", violations, remedy="See `violations`."
    )
