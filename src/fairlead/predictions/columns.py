"""Records as Arrow tables: the documented columns of `predictions` and `outcomes`, in order, exactly typed.

`predictions` has the columns of `PredictionRecord`; `prediction_id` is UUID text, `at` is UTC, `features` is
a struct (see `features.py`), and `prediction`, `probabilities`, `flags`, `violations` are JSON text. Features
of sensitivity `sensitive` are not stored: they are null. `personal` ones are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from fairlead.predictions.features import NO_FEATURES, conform, feature_array, unify
from fairlead.predictions.record import Outcome, PredictionRecord, SchemaFrame

__all__ = [
    "OUTCOMES",
    "PREDICTIONS",
    "combine",
    "outcome_table",
    "prediction_tables",
    "predictions_schema",
    "with_features",
]

_TIME = pa.timestamp("us", tz="UTC")
_TYPES: dict[str, pa.DataType] = {
    "row": pa.int32(),
    "at": _TIME,
    "generation": pa.int64(),
    "cached": pa.bool_(),
    "latency_ms": pa.float64(),
    "conformal_quantile": pa.float64(),
}

PREDICTIONS = pa.schema(
    [
        (name, NO_FEATURES if name == "features" else _TYPES.get(name, pa.string()))
        for name in PredictionRecord.__struct_fields__
    ]
)
"""The columns of `predictions`; the type of `features` is each table's own."""

OUTCOMES = pa.schema(
    [
        ("received_at", _TIME),
        ("model", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("text", pa.string()),
        ("at", _TIME),
        ("request_id", pa.string()),
        ("row", pa.int32()),
        ("unit", pa.string()),
        ("outcome_id", pa.string()),
        ("mode", pa.string()),
    ]
)
"""The columns of `outcome_events`: a numeric value lies in `value`, a text in `text`."""


def predictions_schema(features: pa.StructType) -> pa.Schema:
    """The columns of `predictions` with `features` of that type."""
    return PREDICTIONS.set(_FEATURES, pa.field("features", features))


_FEATURES = PREDICTIONS.get_field_index("features")
_decode_rows = msgspec.msgpack.Decoder(list[Any]).decode


def prediction_tables(
    records: Sequence[PredictionRecord], contracts: Mapping[str, SchemaFrame]
) -> list[tuple[str, pa.Table]]:
    """The records as (model, table) pairs, one for each contract of each model, in order within each.

    The features of a contract that is not in `contracts` cannot be named and are left out. Raises what Arrow
    raises when a value cannot be stored.
    """
    groups: dict[tuple[str, str | None], list[PredictionRecord]] = {}
    for record in records:
        groups.setdefault((record.model, record.contract_id), []).append(record)
    return [
        (model, _prediction_table(group, contracts.get(contract_id or "")))
        for (model, contract_id), group in groups.items()
    ]


def combine(tables: Sequence[pa.Table]) -> pa.Table:
    """One table with the rows of all; their `features` are brought to the common type."""
    if not tables:
        raise ValueError("There are no tables to combine.")
    target = unify(table.schema.field(_FEATURES).type for table in tables)
    return pa.concat_tables(with_features(table, target) for table in tables)


def with_features(table: pa.Table, target: pa.StructType) -> pa.Table:
    """The table with its `features` as a struct of type `target`."""
    column = table.column(_FEATURES)
    if column.type == target:
        return table
    chunks = [conform(chunk, target) for chunk in column.chunks]
    arrays = [*table.columns]
    arrays[_FEATURES] = pa.chunked_array(chunks, target)
    return pa.Table.from_arrays(arrays, schema=predictions_schema(target))


def outcome_table(outcomes: Sequence[Outcome]) -> pa.Table:
    """The outcomes as events, one row each."""
    rows = [
        {
            **msgspec.structs.asdict(outcome),
            "value": None if isinstance(outcome.value, str) else outcome.value,
            "text": outcome.value if isinstance(outcome.value, str) else None,
        }
        for outcome in outcomes
    ]
    return pa.Table.from_pylist(rows, OUTCOMES)


def _prediction_table(records: list[PredictionRecord], schema: SchemaFrame | None) -> pa.Table:
    columns = list(zip(*map(msgspec.structs.astuple, records), strict=True))
    arrays: list[pa.Array] = []
    for index, field in enumerate(PREDICTIONS):
        values: Sequence[Any] = columns[index]
        if index == _FEATURES:
            arrays.append(_features(columns[index], schema))
        elif index == 0:
            arrays.append(pa.array(map(_uuid_text, values), field.type, size=len(values)))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=predictions_schema(arrays[_FEATURES].type))


def _uuid_text(value: bytes) -> str:
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _features(raws: Sequence[msgspec.Raw], schema: SchemaFrame | None) -> pa.StructArray:
    if schema is None or not schema.names:
        return pa.nulls(len(raws), NO_FEATURES)
    # one MessagePack array around all rows: one call decodes them
    rows = _decode_rows(b"\xdd" + len(raws).to_bytes(4, "big") + b"".join(raws))
    return feature_array(rows, schema)
