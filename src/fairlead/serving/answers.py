"""How an answer looks to its caller."""

from __future__ import annotations

from typing import Any

from fairlead.contracts.uncertainty import ClassSet, Interval
from fairlead.errors import DataContractViolation, FairleadError
from fairlead.serving.asks import Ask, BatchAsk
from fairlead.serving.envelope import BatchEnvelope, Envelope, RowEnvelope, flags_of
from fairlead.serving.live import LiveArm, LiveModel

__all__ = ["batch_envelope", "envelope"]


def envelope(model: LiveModel, arm: LiveArm, ask: Ask) -> Envelope:
    """The answer to a prediction."""
    prediction = ask.prediction
    assert prediction is not None
    assert ask.hash is not None
    wants = ask.reading.probabilities
    return Envelope(
        prediction.value,
        arm.version.binding.probabilities(prediction) if wants else None,
        None if arm.uncertainty is None else _uncertainty(arm, ask),
        ask.explanation,
        model.name,
        arm.version_name,
        arm.stage,
        model.experiment,
        arm.variant,
        arm.training_data,
        arm.compiled.id,
        ask.hash,
        None,
        ask.request_id,
        ask.cached,
        ask.degraded,
        flags_of(ask.findings) if ask.findings else [],
        ask.milliseconds,
    )


def batch_envelope(model: LiveModel, ask: BatchAsk, states: list[Ask], seconds: float) -> BatchEnvelope:
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


def _row_envelope(index: int, state: Ask, wants: bool) -> RowEnvelope:
    arm, prediction, error = state.arm, state.prediction, state.error
    return RowEnvelope(
        row=index,
        prediction=None if prediction is None else prediction.value,
        probabilities=arm.version.binding.probabilities(prediction) if wants and arm and prediction else None,
        uncertainty=None if arm is None or arm.uncertainty is None else _uncertainty(arm, state),
        model_version=None if arm is None else arm.version_name,
        stage=None if arm is None else arm.stage,
        variant=None if arm is None else arm.variant,
        contract_id=None if arm is None else arm.compiled.id,
        feature_hash=state.hash,
        cached=state.cached,
        degraded=state.degraded,
        flags=flags_of(state.findings or []),
        error=None if error is None else _row_error(error),
    )


def _uncertainty(arm: LiveArm, ask: Ask) -> Interval | ClassSet | None:
    """How sure the answer is; nothing is said of what no version answered."""
    held, prediction = arm.uncertainty, ask.prediction
    if held is None or prediction is None or ask.degraded == "contract_default":
        return None
    return held.told(prediction.value, prediction.probabilities, arm.classes)


def _row_error(error: FairleadError) -> dict[str, Any]:
    document: dict[str, Any] = {"code": error.code, "detail": error.message, "retryable": error.retryable}
    if isinstance(error, DataContractViolation):
        document["violations"] = error.violations
    return document


def _raise_for_all(states: list[Ask]) -> None:
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
