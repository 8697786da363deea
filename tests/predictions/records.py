"""Records for tests: valid ones with every column set, varied by keyword."""

from __future__ import annotations

import itertools
import time
import uuid
from typing import Any

import msgspec

from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame

__all__ = ["AT", "SCHEMA", "make_outcome", "make_record", "uuid7"]

AT = 1_763_683_200_000_000  # 2025-11-21T00:00:00Z in microseconds

SCHEMA = SchemaFrame(
    "c000000000000001",
    ("age", "visits", "member", "country", "basket"),
    ("float", "int", "bool", "string", "list<float>"),
    ("none", "none", "none", "personal", "none"),
)

_serial = itertools.count(1)


def uuid7(at: int, serial: int) -> bytes:
    """A UUIDv7 of that time in microseconds, unique by its serial number."""
    return uuid.UUID(
        int=(max(at, 0) // 1000) << 80
        | 7 << 76
        | (serial >> 62 & 0xFFF) << 64
        | 2 << 62
        | serial & (1 << 62) - 1
    ).bytes


def make_record(features: Any = (31.5, 4, True, "DE", [9.5, 0.5]), **changes: Any) -> PredictionRecord:
    """A served prediction of model `shop`; `features` is encoded, everything else may be overridden."""
    serial = next(_serial)
    at = changes.pop("at", AT + serial * 1000)
    fields: dict[str, Any] = {
        "prediction_id": uuid7(at, serial),
        "request_id": f"request-{serial}",
        "row": 0,
        "source": "online",
        "at": at,
        "model": "shop",
        "arm": "stable",
        "role": "stable",
        "assigned_version": "v1",
        "served_version": "v1",
        "generation": 3,
        "contract_id": SCHEMA.contract_id,
        "unit": f"customer-{serial % 100}",
        "unit_kind": "given",
        "use_case": None,
        "status": "ok",
        "error_code": None,
        "degraded": None,
        "cached": False,
        "latency_ms": 0.4,
        "feature_hash": "b1946ac92492d234",
        "feature_snapshot": None,
        "prediction": "1",
        "probabilities": '{"0":0.2,"1":0.8}',
        "flags": None,
        "violations": None,
        "experiment": None,
        "variant": None,
        "training_data": "cdnow-1997",
        "trace_id": None,
        "runtime": "onnx",
        "gateway": "g0",
    }
    encoded = features if isinstance(features, msgspec.Raw) else msgspec.Raw(msgspec.msgpack.encode(features))
    return PredictionRecord(features=encoded, **{**fields, **changes})


def make_outcome(**changes: Any) -> Outcome:
    """A conversion of a request of model `shop`."""
    fields: dict[str, Any] = {
        "received_at": time.time_ns() // 1000,
        "model": "shop",
        "metric": "conversion",
        "value": 1.0,
        "at": AT,
        "request_id": "request-1",
        "row": 0,
    }
    return Outcome(**{**fields, **changes})
