"""How a row lies in the log once it has been answered, refused or failed."""

from __future__ import annotations

import time

import msgspec

from fairlead.errors import DataContractViolation, FairleadError
from fairlead.predictions import framing
from fairlead.predictions.record import PredictionRecord
from fairlead.predictions.segments import frame
from fairlead.serving.asks import Ask
from fairlead.serving.envelope import encode, flags_of
from fairlead.serving.live import LiveModel

__all__ = ["record", "record_frame"]

_pack = msgspec.msgpack.Encoder().encode
_NIL = msgspec.Raw(_pack(None))
_PACKED_HEADER_BYTES = 3
_raw = msgspec.Raw
_frame = framing.frame
_now = time.time_ns


def record_frame(model: LiveModel, ask: Ask, gateway: str) -> bytes:
    """The framed record of a row, ready for the log.

    Most rows are answered well by the arm that the plan gave them; then only what differs from row to row is
    encoded, and joined with the arm's `Stamp`. The bytes are the same either way.
    """
    arm = ask.arm
    prediction = ask.prediction
    if (
        prediction is None or arm is None or arm is not ask.assigned or ask.encoded is None
        or ask.error is not None or ask.findings or ask.degraded or ask.index
    ):  # fmt: skip
        return frame(record(model, ask, gateway))
    stamp = arm.stamp
    value, probabilities = prediction.texts or arm.version.binding.texts(prediction)
    parts = _pack((
        stamp.tag, ask.prediction_id, ask.request_id, stamp.row_source, _now() // 1000, stamp.assigned,
        ask.unit, ask.unit_kind, ask.use_case, stamp.ok, ask.cached, ask.milliseconds, ask.hash, None,
        _raw(ask.encoded), value, probabilities, stamp.experiment, ask.trace_id, stamp.runtime,
    ))  # fmt: skip
    return _frame(stamp.length + parts[_PACKED_HEADER_BYTES:])


def record(model: LiveModel, ask: Ask, gateway: str) -> PredictionRecord:
    """The record of a row, whatever became of it."""
    arm, assigned = ask.arm, ask.assigned
    prediction, error = ask.prediction, ask.error
    failed = error or ask.cause
    by_nobody = ask.degraded == "contract_default"
    violations = error.violations if isinstance(error, DataContractViolation) else None
    value: str | None = None
    probabilities: str | None = None
    if prediction is not None and arm is not None:
        value, probabilities = prediction.texts or arm.version.binding.texts(prediction)
    return PredictionRecord(
        ask.prediction_id,
        ask.request_id,
        ask.index,
        "online" if assigned is None else assigned.stamp.source,
        _now() // 1000,
        model.name,
        None if assigned is None else assigned.name,
        None if assigned is None else assigned.role,
        None if assigned is None else assigned.version_name,
        None if arm is None or error is not None or by_nobody else arm.version_name,
        model.generation,
        None if arm is None else arm.compiled.id,
        ask.unit,
        ask.unit_kind,
        ask.use_case,
        ask.status,
        None if failed is None else failed.code,
        ask.degraded,
        ask.cached,
        ask.milliseconds,
        ask.hash,
        None,
        _NIL if ask.encoded is None else _raw(ask.encoded),
        value,
        probabilities,
        encode(flags_of(ask.findings)).decode() if ask.findings else None,
        None if violations is None else encode(violations).decode(),
        model.experiment,
        None if arm is None else arm.variant,
        None if arm is None else arm.training_data,
        ask.trace_id,
        None if arm is None else arm.version.runtime,
        gateway,
        _refused_text(error),
        None if arm is None or prediction is None or by_nobody else arm.conformal_quantile,
    )


def _refused_text(error: FairleadError | None) -> str | None:
    if not isinstance(error, DataContractViolation) or error.refused is None:
        return None
    return encode(error.refused).decode()
