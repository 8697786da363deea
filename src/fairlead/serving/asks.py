"""What a caller wants, whatever the protocol, and how far each of its rows has come."""

from __future__ import annotations

import random
import time

from fairlead.contracts.check import Finding
from fairlead.contracts.compile import BatchReading, Reading
from fairlead.errors import FairleadError, NotReady, RuntimeFailed
from fairlead.predictions.record import Status, UnitKind
from fairlead.runtimes.binding import Prediction, Row
from fairlead.serving.live import LiveArm

__all__ = ["Ask", "BatchAsk", "RowState", "id_text", "new_prediction_id", "unit_of"]


class Ask:
    """One prediction that somebody wants, whatever the protocol: the reading, who asks, and for whom."""

    __slots__ = (
        "pin", "prediction_id", "reading", "received", "request_id", "trace_id", "unit", "unit_kind",
        "use_case",
    )  # fmt: skip

    def __init__(
        self,
        reading: Reading,
        *,
        received: float,
        request_id: str | None = None,
        unit: str | None = None,
        pin: str | None = None,
        use_case: str | None = None,
        trace_id: str | None = None,
    ) -> None:
        self.reading = reading
        self.received = received
        self.prediction_id = new_prediction_id()
        self.request_id = reading.request_id or request_id or id_text(self.prediction_id)
        self.unit, self.unit_kind = unit_of(reading.unit or unit, reading.entity, self.request_id)
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id


class BatchAsk:
    """A batch that somebody wants. Rows without a unit are routed together, by the request id."""

    __slots__ = ("pin", "reading", "received", "request_id", "trace_id", "unit", "use_case")

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
    ) -> None:
        self.reading = reading
        self.received = received
        self.request_id = reading.request_id or request_id or id_text(new_prediction_id())
        self.unit = unit
        self.pin = pin
        self.use_case = use_case
        self.trace_id = trace_id


class RowState:
    """One row on its way: filled in step by step, then turned into its record and its envelope.

    `assigned` is the arm that the plan gives the unit, `arm` the one that answers: another where a pin chose.
    """

    __slots__ = (
        "arm", "assigned", "cached", "encoded", "error", "findings", "hash", "key", "prediction",
        "prediction_id", "row", "unit", "unit_kind",
    )  # fmt: skip

    def __init__(self, unit: str, unit_kind: UnitKind, prediction_id: bytes) -> None:
        self.assigned: LiveArm | None = None
        self.arm: LiveArm | None = None
        self.unit = unit
        self.unit_kind = unit_kind
        self.prediction_id = prediction_id
        self.row: Row = ()
        self.findings: list[Finding] = []
        self.encoded: bytes | None = None
        self.hash: str | None = None
        self.key: bytes | None = None
        self.prediction: Prediction | None = None
        self.cached = False
        self.error: FairleadError | None = None

    @property
    def status(self) -> Status:
        """`ok`, `rejected` (the caller's fault) or `failed` (ours)."""
        error = self.error
        if error is None:
            return "ok"
        return "failed" if error.retryable or isinstance(error, RuntimeFailed | NotReady) else "rejected"


def unit_of(given: str | None, entity: str | None, request_id: str) -> tuple[str, UnitKind]:
    """The unit that traffic is split by, and where it comes from."""
    if given:
        return given, "given"
    if entity:
        return entity, "entity"
    return request_id, "request"


def new_prediction_id() -> bytes:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, the version, and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    noise = random.getrandbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62 | (noise & ((1 << 62) - 1))
    return value.to_bytes(16, "big")


def id_text(identifier: bytes) -> str:
    """The usual text form of a UUID."""
    digits = identifier.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
