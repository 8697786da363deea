"""Rows that are asked for together as arrays, and how they lie in the log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np

from fairlead.contracts.arrays import Checked
from fairlead.errors import DataContractViolation, FairleadError, NotReady, RuntimeFailed
from fairlead.predictions.record import Degraded, Status
from fairlead.predictions.segments import frame
from fairlead.predictions.tables import Cells, TableFlag, TableRecord, pack_cells
from fairlead.runtimes.base import Array
from fairlead.runtimes.tables import Answers
from fairlead.serving.asks import id_text, new_prediction_id, unit_of
from fairlead.serving.envelope import encode
from fairlead.serving.live import LiveArm, LiveModel

__all__ = ["TableAsk", "table_frames"]

_FRAME_ROWS = 65_536
"""A longer table takes several frames, so that its reader need not hold all of it."""


class TableAsk:
    """Rows that somebody wants predictions for, as one array per input; the first axis is the row.

    `outputs` names the output tensors that are wanted, none for all. `typed` says that the arrays have the
    types that their caller chose; plain JSON numbers have none, and become what the model takes.
    `deadline` is on the monotonic clock, in seconds; `priority` 1 goes first, 0 is the usual. The rest is
    filled in on the way from request to answer and record.
    """

    __slots__ = (
        "answers", "arm", "assigned", "checked", "deadline", "degraded", "error", "headers", "milliseconds",
        "outputs", "pin",
        "prediction_id", "priority", "received", "request_id", "rows", "tensors", "trace_id", "typed", "unit",
        "unit_kind", "use_case",
    )  # fmt: skip

    def __init__(
        self,
        tensors: Mapping[str, Array],
        *,
        received: float,
        outputs: Sequence[str] = (),
        typed: bool = True,
        request_id: str | None = None,
        unit: str | None = None,
        pin: str | None = None,
        use_case: str | None = None,
        trace_id: str | None = None,
        deadline: float | None = None,
        priority: int = 0,
    ) -> None:
        self.tensors = tensors
        self.outputs = outputs
        self.typed = typed
        self.received = received
        self.prediction_id = new_prediction_id()
        self.request_id = request_id or id_text(self.prediction_id)
        self.unit, self.unit_kind = unit_of(unit, None, self.request_id)
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id
        self.deadline = deadline
        self.priority = priority
        # A guess, until the rows are understood.
        self.rows = max((len(array) for array in tensors.values() if array.ndim), default=1) or 1
        self.assigned: LiveArm | None = None
        self.arm: LiveArm | None = None
        self.checked: Checked | None = None
        self.answers: Answers | None = None
        self.error: FairleadError | None = None
        self.degraded: Degraded | None = None
        self.milliseconds = 0.0
        self.headers: Mapping[str, str] | None = None

    @property
    def status(self) -> Status:
        """`ok`, `rejected` (the caller's fault) or `failed` (ours)."""
        error = self.error
        if error is None:
            return "ok"
        return "failed" if error.retryable or isinstance(error, RuntimeFailed | NotReady) else "rejected"


def table_frames(model: LiveModel, ask: TableAsk, gateway: str) -> list[bytes]:
    """The framed records of the rows, whatever became of them, ready for the log: one, or several for very
    many rows."""
    at = time.time_ns() // 1000
    return [
        frame(_record(model, ask, gateway, at, start, min(ask.rows, start + _FRAME_ROWS)))
        for start in range(0, ask.rows, _FRAME_ROWS)
    ]


def _record(model: LiveModel, ask: TableAsk, gateway: str, at: int, start: int, stop: int) -> TableRecord:
    arm, assigned, error = ask.arm, ask.assigned, ask.error
    checked = ask.checked
    violations, refused = _refusal(error, start, stop)
    answers: tuple[Array | None, ...] = (None, None, None) if ask.answers is None else ask.answers
    values, probabilities, scores = (
        None if part is None else pack_cells(part[start:stop]) for part in answers
    )
    return TableRecord(
        prediction_id=ask.prediction_id,
        request_id=ask.request_id,
        first=start,
        rows=stop - start,
        source="online",
        at=at,
        model=model.name,
        arm=None if assigned is None else assigned.name,
        role=None if assigned is None else assigned.role,
        assigned_version=None if assigned is None else assigned.version_name,
        served_version=None if arm is None or error is not None else arm.version_name,
        generation=model.generation,
        contract_id=None if arm is None else arm.compiled.id,
        unit=ask.unit,
        unit_kind=ask.unit_kind,
        use_case=ask.use_case,
        status=ask.status,
        error_code=None if error is None else error.code,
        degraded=None,
        latency_ms=ask.milliseconds,
        feature_snapshot=None,
        matrix=checked is not None and checked.matrix is not None,
        features=[] if checked is None else [pack_cells(array[start:stop]) for array in _features(checked)],
        nulls={} if checked is None else _nulls(checked, start, stop),
        values=values,
        probabilities=probabilities,
        classes=() if arm is None else arm.version.binding.class_names,
        scores=scores,
        flags=[] if checked is None else _flags(checked, start, stop),
        violations=violations,
        refused=refused,
        experiment=model.experiment,
        variant=None if arm is None else arm.variant,
        training_data=None if arm is None else arm.training_data,
        trace_id=ask.trace_id,
        runtime=None if arm is None else arm.version.runtime,
        gateway=gateway,
        conformal_quantile=None if arm is None or error is not None else arm.conformal_quantile,
    )


def _features(checked: Checked) -> list[Array]:
    return [column.values for column in checked.columns] if checked.matrix is None else [checked.matrix]


def _nulls(checked: Checked, start: int, stop: int) -> dict[int, Cells]:
    return {
        index: pack_cells(column.null[start:stop])
        for index, column in enumerate(checked.columns)
        if column.null is not None
    }


def _flags(checked: Checked, start: int, stop: int) -> list[TableFlag]:
    made = []
    for breach in checked.flags:
        places = np.flatnonzero((breach.rows >= start) & (breach.rows < stop))
        if places.size:
            shown = [breach.finding(place).value for place in places.tolist()]
            rows = pack_cells(breach.rows[places] - start)
            made.append(TableFlag(breach.field.name, breach.rule, rows, shown))
    return made


def _refusal(error: FairleadError | None, start: int, stop: int) -> tuple[dict[int, str], dict[int, str]]:
    """The named violations and what the rows held, as JSON by row."""
    if not isinstance(error, DataContractViolation):
        return {}, {}
    found: dict[int, list[object]] = {}
    for violation in error.violations:
        if start <= violation["row"] < stop:
            rest = {name: value for name, value in violation.items() if name != "row"}
            found.setdefault(violation["row"], []).append(rest)
    held = {int(row): features for row, features in (error.refused or {}).items()}
    return (
        {row: encode(violations).decode() for row, violations in found.items()},
        {row: encode(features).decode() for row, features in held.items() if start <= row < stop},
    )
