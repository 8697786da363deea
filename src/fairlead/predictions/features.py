"""The type of the `features` column: a struct with one typed field per feature of the contract.

| contract | Arrow and Parquet |
|---|---|
| float, int, bool, string | float64, int64, bool, string |
| list of float, of int | list<float64>, list<int64> |

One file or table may hold records of several contracts. Then its struct is their union by name: null where a
contract lacks the feature. When types differ, int widens to float (also within lists) and everything else to
string, where a list becomes its JSON and 7 may read `7` or `7.0`. Names that differ only in case are one
field, under the first spelling, because SQL would not tell them apart; within one contract the second gets a
number (`Age`, `age_2`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairlead.predictions.record import SchemaFrame

__all__ = ["NO_FEATURES", "conform", "feature_array", "from_names", "names_of", "struct_type", "unify"]

NO_FEATURES = pa.struct([])
"""The type of `features` when no contract is known."""

_ARROW: dict[str, pa.DataType] = {
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "string": pa.string(),
    "list<float>": pa.list_(pa.float64()),
    "list<int>": pa.list_(pa.int64()),
}
_BY_TEXT = {str(kind): kind for kind in _ARROW.values()}
_WIDER: dict[frozenset[pa.DataType], pa.DataType] = {
    frozenset((_ARROW["int"], _ARROW["float"])): _ARROW["float"],
    frozenset((_ARROW["list<int>"], _ARROW["list<float>"])): _ARROW["list<float>"],
}


def struct_type(schema: SchemaFrame) -> pa.StructType:
    """The struct of a contract's features, in contract order; an unknown type is stored as string."""
    taken: set[str] = set()
    fields = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        free, number = name, 2
        while free.lower() in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free.lower())
        fields.append(pa.field(free, _ARROW.get(kind, pa.string())))
    return pa.struct(fields)


def unify(types: Iterable[pa.StructType]) -> pa.StructType:
    """The narrowest struct that holds them all; field names in order of their first appearance."""
    return reduce(_unify_two, types, NO_FEATURES)


def names_of(struct: pa.StructType) -> dict[str, str]:
    """The struct as plain data: each field's type by its name, in order."""
    return {field.name: str(field.type) for field in struct}


def from_names(names: Mapping[str, str]) -> pa.StructType:
    """The struct that `names_of` described."""
    return pa.struct([(name, _BY_TEXT[text]) for name, text in names.items()])


def conform(array: pa.StructArray, target: pa.StructType) -> pa.StructArray:
    """The same rows as a struct of type `target`, which must be wide enough (see `unify`)."""
    if array.type == target:
        return array
    given = {field.name.lower(): index for index, field in enumerate(array.type)}
    children = []
    for field in target:
        index = given.get(field.name.lower())
        if index is None:
            children.append(pa.nulls(len(array), field.type))
        else:
            children.append(_widen(array.field(index), field.type))
    if not children:
        return pa.array([None if missing else {} for missing in array.is_null().to_pylist()], target)
    return pa.StructArray.from_arrays(children, fields=list(target), mask=array.is_null())


def _unify_two(left: pa.StructType, right: pa.StructType) -> pa.StructType:
    if left == right:
        return left
    fields = {field.name.lower(): field for field in left}
    for field in right:
        held = fields.get(field.name.lower())
        if held is None:
            fields[field.name.lower()] = field
        elif held.type != field.type:
            wider = _WIDER.get(frozenset((held.type, field.type)), pa.string())
            fields[field.name.lower()] = pa.field(held.name, wider)
    return pa.struct(list(fields.values()))


def _widen(values: pa.Array, target: pa.DataType) -> pa.Array:
    if values.type == target:
        return values
    if pa.types.is_list(values.type) and pa.types.is_string(target):
        return pa.array([None if row is None else json.dumps(row) for row in values.to_pylist()], target)
    return pc.cast(values, target, safe=False)


def feature_array(rows: list[Any], schema: SchemaFrame) -> pa.StructArray:
    """Rows of feature values in contract order, or None, as a struct; values that do not fit become null.

    Fields marked `sensitive` are null throughout.
    """
    target = struct_type(schema)
    width = len(target)
    missing = None
    if any(row is None or len(row) != width for row in rows):
        missing = pa.array([row is None for row in rows])
        rows = [_fit_width(row, width) for row in rows]
    hidden = {index for index, kind in enumerate(schema.sensitivities) if kind == "sensitive"}
    children = [
        pa.nulls(len(rows), field.type) if index in hidden else _column(values, field.type)
        for index, (field, values) in enumerate(zip(target, zip(*rows, strict=True), strict=True))
    ]
    return pa.StructArray.from_arrays(children, fields=list(target), mask=missing)


def _fit_width(row: list[Any] | None, width: int) -> list[Any]:
    values = row or []
    return [*values[:width], *[None] * (width - len(values))]


def _column(values: tuple[Any, ...], target: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, target)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.array([_fit(value, target) for value in values], target)


def _fit(value: Any, target: pa.DataType) -> Any:
    """The value as the type has it; None when it is no such value (a rejected request may hold anything)."""
    if pa.types.is_list(target):
        if not isinstance(value, list):
            return None
        fitted = [_fit(item, target.value_type) for item in value]
        return None if None in fitted else fitted
    if pa.types.is_boolean(target):
        return value if isinstance(value, bool) else None
    if pa.types.is_string(target):
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if pa.types.is_floating(target):
        return float(value) if abs(value) <= 2**1023 or value != value else None
    return int(value) if value == value and abs(value) < 2**63 and value == int(value) else None
