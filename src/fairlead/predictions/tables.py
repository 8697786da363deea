"""A table of predictions in the log: one frame for rows that were asked for, answered and logged together.

What the rows share is there once, features and answers lie as raw arrays. Reading makes the same rows of it
as if each had been logged alone: `row` counts on, `feature_hash` is computed by the published formula, and
the id of row i is the first row's id plus i in its last 62 bits: unique, and the same whenever it is read.

As in `record.py`, fields may be added at the end and are never renamed, reordered, retyped or removed.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.arrays import python_values
from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.predictions.record import PredictionRecord, SchemaFrame, Source, Status, UnitKind

__all__ = ["Cells", "TableFlag", "TableRecord", "pack_cells", "records_of", "row_id", "unpack_cells"]

Array = npt.NDArray[Any]

_DTYPES = {"|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"}
_TAIL = (1 << 62) - 1
_NIL = msgspec.Raw(msgspec.msgpack.encode(None))
_json = msgspec.json.Encoder().encode


class Cells(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One array in C order: its bytes, with the little-endian `dtype` as NumPy names it (`<f4`), or a list of
    any values, with the dtype `O`."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | list[Any]


class TableFlag(msgspec.Struct, array_like=True, frozen=True):
    """A rule that values of one field broke without being rejected: in which rows, and what was sent."""

    field: str
    rule: str
    rows: Cells
    values: list[Any]


class TableRecord(msgspec.Struct, array_like=True, tag="t", frozen=True, kw_only=True):
    """Rows `first` to `first + rows - 1` of one request (a MessagePack array behind the tag `t`).

    The fields that `PredictionRecord` has, too, mean the same for every row. `features` holds one matrix
    whose columns are the features, or one array per feature in contract order, or nothing when the rows were
    not understood; `nulls` marks nulls where an array cannot, by the feature's place. `values`,
    `probabilities` in the order of `classes`, and `scores` are the answers. `violations` and `refused` hold
    JSON by row.
    """

    prediction_id: bytes
    request_id: str
    first: int
    rows: int
    source: Source
    at: int
    model: str
    arm: str | None
    role: str | None
    assigned_version: str | None
    served_version: str | None
    generation: int
    contract_id: str | None
    unit: str | None
    unit_kind: UnitKind
    use_case: str | None
    status: Status
    error_code: str | None
    degraded: str | None
    latency_ms: float
    feature_snapshot: str | None
    matrix: bool
    features: list[Cells]
    nulls: dict[int, Cells]
    values: Cells | None
    probabilities: Cells | None
    classes: tuple[str, ...]
    scores: Cells | None
    flags: list[TableFlag]
    violations: dict[int, str]
    refused: dict[int, str]
    experiment: str | None
    variant: str | None
    training_data: str | None
    trace_id: str | None
    runtime: str | None
    gateway: str
    conformal_quantile: float | None = None


def row_id(prediction_id: bytes, row: int) -> bytes:
    """The id of a row of the table whose first row, number 0, has `prediction_id`."""
    value = int.from_bytes(prediction_id, "big")
    return (value & ~_TAIL | (value + row) & _TAIL).to_bytes(16, "big")


def pack_cells(array: Array) -> Cells:
    """The array as it lies in a record; its bytes are not copied before the record is encoded."""
    if array.dtype.kind not in "biuf":
        return Cells("O", array.shape, array.reshape(-1).tolist())
    dtype = array.dtype
    if not dtype.isnative or sys.byteorder != "little":
        dtype = dtype.newbyteorder("<")
    flat = np.ascontiguousarray(array, dtype).reshape(-1).view(np.uint8)
    return Cells(dtype.str, array.shape, flat.data)  # type: ignore[arg-type]  # encoded as bytes, without a copy


def unpack_cells(cells: Cells) -> Array:
    """The array; ValueError when data, type and shape do not agree."""
    count = math.prod(cells.shape)
    if isinstance(cells.data, list):
        made = np.empty(len(cells.data), object)
        made[:] = cells.data
        return made.reshape(cells.shape)
    if cells.dtype not in _DTYPES:
        raise ValueError(f"an array of {cells.dtype!r}")
    if len(cells.data) != count * np.dtype(cells.dtype).itemsize:
        raise ValueError(f"{len(cells.data)} bytes for shape {list(cells.shape)} of {cells.dtype}")
    return np.frombuffer(cells.data, cells.dtype).reshape(cells.shape)


def records_of(table: TableRecord, schema: SchemaFrame | None) -> list[PredictionRecord]:
    """The rows of the table as they would have been logged one by one.

    Features of a contract that is not known have no types: they are left out, as is their hash. Raises
    ValueError for a table whose arrays do not agree.
    """
    rows = _feature_rows(table, schema)
    encoded = [None] * table.rows if rows is None else [encode_row(row) for row in rows]
    contract = table.contract_id or ""
    flags = _flags(table)
    values, probabilities = _values(table), _probabilities(table)
    shared: dict[str, Any] = {name: getattr(table, name) for name in _SHARED}
    return [
        PredictionRecord(
            **shared,
            prediction_id=row_id(table.prediction_id, table.first + index),
            row=table.first + index,
            cached=False,
            feature_hash=None if row is None else feature_hash(contract, row),
            features=_NIL if row is None else msgspec.Raw(row),
            prediction=value,
            probabilities=named,
            flags=flags.get(index),
            violations=table.violations.get(table.first + index),
            refused=table.refused.get(table.first + index),
        )
        for index, row, value, named in zip(range(table.rows), encoded, values, probabilities, strict=True)
    ]


_SHARED = tuple(
    name
    for name in PredictionRecord.__struct_fields__
    if name in TableRecord.__struct_fields__
    and name not in ("prediction_id", "probabilities", "features", "flags", "violations", "refused")
)


def _feature_rows(table: TableRecord, schema: SchemaFrame | None) -> Sequence[tuple[Any, ...]] | None:
    if schema is None or not table.features:
        return None
    if table.matrix:
        matrix = unpack_cells(table.features[0])
        arrays = [matrix[:, index] for index in range(matrix.shape[1])]
    else:
        arrays = [unpack_cells(cells) for cells in table.features]
    if len(arrays) != len(schema.types) or any(len(array) != table.rows for array in arrays):
        raise ValueError(f"{len(arrays)} features and {table.rows} rows")
    nulls = {index: unpack_cells(cells) for index, cells in table.nulls.items()}
    columns = [
        python_values(kind, array, nulls.get(index))
        for index, (kind, array) in enumerate(zip(schema.types, arrays, strict=True))
    ]
    return list(zip(*columns, strict=True))


def _values(table: TableRecord) -> Iterator[str | None] | list[None]:
    if table.values is None:
        return [None] * table.rows
    values = unpack_cells(table.values)
    if table.scores is None:
        return (_json(value).decode() for value in values.tolist())
    scores = unpack_cells(table.scores)
    return (
        _json([{"id": key, "score": score} for key, score in zip(ids, points, strict=True)]).decode()
        for ids, points in zip(values.tolist(), scores.tolist(), strict=True)
    )


def _probabilities(table: TableRecord) -> Iterator[str | None] | list[None]:
    if table.probabilities is None:
        return [None] * table.rows
    rows = unpack_cells(table.probabilities).tolist()
    return (_json(dict(zip(table.classes, row, strict=False))).decode() for row in rows)


def _flags(table: TableRecord) -> Mapping[int, str]:
    found: dict[int, list[dict[str, Any]]] = {}
    for flag in table.flags:
        for row, value in zip(unpack_cells(flag.rows).tolist(), flag.values, strict=True):
            found.setdefault(row, []).append({"field": flag.field, "rule": flag.rule, "value": value})
    return {row: _json(flags).decode() for row, flags in found.items()}
