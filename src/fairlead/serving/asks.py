"""What a caller wants, whatever the protocol, and how far each of its rows has come."""

from __future__ import annotations

import random
import time

from fairlead.contracts.check import Finding
from fairlead.contracts.compile import BatchReading, CompiledContract, Reading
from fairlead.errors import FairleadError, NotReady, RuntimeFailed
from fairlead.predictions.record import Degraded, Status, UnitKind
from fairlead.runtimes.binding import Prediction, Row
from fairlead.serving.live import LiveArm

__all__ = ["Ask", "BatchAsk", "id_text", "new_prediction_id", "unit_of"]


class Ask:
    """One row that somebody wants a prediction for, filled in on its way from request to answer and record.

    `assigned` is the arm that the plan gives the unit, `arm` the one that answers: another where a pin or a
    fallback chose; `cause` is what went wrong when something stood in. `milliseconds` have passed when the
    answer is made. `generated_id` tells that the caller
    gave no request id. `deadline` is on the monotonic clock, in seconds; `priority` 1 goes first, 0 is usual.
    """

    __slots__ = (
        "arm", "assigned", "cached", "cause", "deadline", "degraded", "encoded", "error", "findings",
        "generated_id", "hash", "index", "key", "milliseconds", "pin", "prediction", "prediction_id",
        "priority", "reading", "received", "request_id", "row", "trace_id", "unit", "unit_kind", "use_case",
    )  # fmt: skip

    def __init__(
        self,
        reading: Reading | BatchReading,
        *,
        received: float,
        request_id: str | None = None,
        unit: str | None = None,
        pin: str | None = None,
        use_case: str | None = None,
        trace_id: str | None = None,
        deadline: float | None = None,
        priority: int = 0,
        index: int = 0,
    ) -> None:
        self.reading = reading
        self.received = received
        prediction_id = self.prediction_id = new_prediction_id()
        entity = None
        if type(reading) is Reading:
            request_id = reading.request_id or request_id
            unit = reading.unit or unit
            entity = reading.entity
        self.generated_id = not request_id
        self.request_id: str = request_id or id_text(prediction_id)
        self.unit_kind: UnitKind
        if unit:
            self.unit, self.unit_kind = unit, "given"
        elif entity:
            self.unit, self.unit_kind = entity, "entity"
        else:
            self.unit, self.unit_kind = self.request_id, "request"
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id
        self.deadline = deadline
        self.priority = priority
        self.index = index
        self.assigned: LiveArm | None = None
        self.arm: LiveArm | None = None
        self.row: Row = ()
        self.findings: list[Finding] | None = None
        self.encoded: bytes | None = None
        self.hash: str | None = None
        self.key: bytes | None = None
        self.prediction: Prediction | None = None
        self.cached = False
        self.degraded: Degraded | None = None
        self.error: FairleadError | None = None
        self.cause: FairleadError | None = None
        self.milliseconds = 0.0

    def read(self, compiled: CompiledContract) -> None:
        """Sets the row as that contract reads it; raises `DataContractViolation`."""
        reading = self.reading
        if type(reading) is Reading:
            self.row, self.findings = reading.row(compiled)
        else:
            assert isinstance(reading, BatchReading)
            self.row, self.findings = reading.row(self.index, compiled)

    @property
    def status(self) -> Status:
        """`ok`, `rejected` (the caller's fault) or `failed` (ours)."""
        error = self.error
        if error is None:
            return "ok"
        return "failed" if error.retryable or isinstance(error, RuntimeFailed | NotReady) else "rejected"


class BatchAsk:
    """A batch that somebody wants. Rows without a unit are routed together, by the request id."""

    __slots__ = (
        "deadline", "pin", "priority", "reading", "received", "request_id", "trace_id", "unit", "use_case"
    )  # fmt: skip

    def __init__(
        self,
        reading: BatchReading,
        *,
        received: float,
        request_id: str | None = None,
        unit: str | None = None,
        pin: str | None = None,
        use_case: str | None = None,
        trace_id: str | None = None,
        deadline: float | None = None,
        priority: int = 0,
    ) -> None:
        self.reading = reading
        self.received = received
        self.request_id = reading.request_id or request_id or id_text(new_prediction_id())
        self.unit = unit
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id
        self.deadline = deadline
        self.priority = priority

    def row(self, index: int) -> Ask:
        """The ask of one of its rows, not yet read."""
        return Ask(
            self.reading,
            received=self.received,
            request_id=self.request_id,
            unit=self.reading.units[index] or self.unit,
            pin=self.pin,
            use_case=self.use_case,
            trace_id=self.trace_id,
            deadline=self.deadline,
            priority=self.priority,
            index=index,
        )


def unit_of(given: str | None, entity: str | None, request_id: str) -> tuple[str, UnitKind]:
    """The unit that traffic is split by, and where it comes from."""
    if given:
        return given, "given"
    if entity:
        return entity, "entity"
    return request_id, "request"


_ID_HIGH = (1 << 62) - 1


def new_prediction_id() -> bytes:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, the version, and 74 random bits."""
    noise = random.getrandbits(74)
    return (
        (time.time_ns() // 1_000_000) << 80 | (0x7000 | noise >> 62) << 64 | 1 << 63 | noise & _ID_HIGH
    ).to_bytes(16, "big")


def id_text(identifier: bytes) -> str:
    """The usual text form of a UUID."""
    digits = identifier.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
