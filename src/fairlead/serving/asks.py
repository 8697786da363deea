"""What a caller wants, whatever the protocol, and how far each of its rows has come."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping

import msgspec

from fairlead.contracts.check import Finding
from fairlead.contracts.compile import BatchReading, CompiledContract, Reading, RowReading
from fairlead.errors import DataContractViolation, FairleadError, NotReady, RuntimeFailed
from fairlead.predictions.record import Degraded, Status, UnitKind
from fairlead.routing.targeting import Columns
from fairlead.runtimes.binding import Prediction, Row
from fairlead.runtimes.leading import Contribution
from fairlead.serving.live import LiveArm

__all__ = ["Ask", "BatchAsk", "id_text", "new_prediction_id", "unit_of"]


class Ask(msgspec.Struct, eq=False):
    """One row that somebody wants a prediction for, filled in on its way from request to answer and record.

    `assigned` is the arm that the plan or a pin gives it, `arm` the one that answers: another where something
    stood in; `cause` is what had gone wrong then. `headers` are those that the plan's rules read.
    `milliseconds` have passed when the answer is made. `generated_id` tells that the caller gave no request
    id. `deadline` is on the monotonic clock, in seconds; `priority` 1 goes first, 0 is usual. Made by `of`:
    a struct is filled without Python.
    """

    reading: Reading | BatchReading | RowReading
    received: float
    prediction_id: bytes
    request_id: str
    generated_id: bool
    unit: str
    unit_kind: UnitKind
    pin: str | None = None
    use_case: str | None = None
    trace_id: str | None = None
    deadline: float | None = None
    priority: int = 0
    index: int = 0
    assigned: LiveArm | None = None
    arm: LiveArm | None = None
    row: Row = ()
    findings: list[Finding] | None = None
    encoded: bytes | None = None
    hash: str | None = None
    key: bytes | None = None
    prediction: Prediction | None = None
    cached: bool = False
    degraded: Degraded | None = None
    error: FairleadError | None = None
    cause: FairleadError | None = None
    milliseconds: float = 0.0
    headers: Mapping[str, str] | None = None
    explanation: list[Contribution] | None = None

    @staticmethod
    def of(
        reading: Reading | BatchReading | RowReading,
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
    ) -> Ask:
        """The ask of a reading; what the body says of ids and units wins over what is given here."""
        prediction_id = new_prediction_id()
        entity = None
        if type(reading) is Reading:
            request_id = reading.request_id or request_id
            unit = reading.unit or unit
            entity = reading.entity
        known = request_id or id_text(prediction_id)
        kind: UnitKind = "given"
        if not unit:
            unit, kind = (entity, "entity") if entity else (known, "request")
        return Ask(
            reading, received, prediction_id, known, not request_id, unit, kind, pin, use_case, trace_id,
            deadline, priority, index,
        )  # fmt: skip

    def read(self, compiled: CompiledContract) -> None:
        """Sets the row as that contract reads it; raises `DataContractViolation`."""
        reading = self.reading
        if isinstance(reading, BatchReading):
            self.row, self.findings = reading.row(self.index, compiled)
        else:
            self.row, self.findings = reading.row(compiled)

    def features(self, compiled: CompiledContract) -> Columns:
        """Its features by name as that contract reads them; none when it breaks the contract."""
        reading = self.reading
        try:
            if isinstance(reading, BatchReading):
                row, _ = reading.row(self.index, compiled)
            else:
                row, _ = reading.row(compiled)
        except DataContractViolation:
            return {}
        return {name: (value,) for name, value in zip(compiled.contract.names, row, strict=True)}

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
        "deadline", "headers", "pin", "priority", "reading", "received", "request_id", "trace_id", "unit",
        "use_case",
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
        self.headers: Mapping[str, str] | None = None

    def row(self, index: int) -> Ask:
        """The ask of one of its rows, not yet read."""
        ask = Ask.of(
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
        ask.headers = self.headers
        return ask


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
