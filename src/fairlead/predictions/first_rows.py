"""Bins for a contract of which no version has a reference: those of the first rows that the log has of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
import numpy as np
import pyarrow as pa

from fairlead.contracts.columns import Column
from fairlead.contracts.contract import Contract, Field, FieldType, Output, Scalar, class_name
from fairlead.contracts.profile import PredictionProfile, ReferenceProfile, answers_profile, field_profile
from fairlead.predictions.record import SchemaFrame
from fairlead.predictions.seen import feature_column

__all__ = ["reference_of_rows"]

_MOST_ROWS = 10_000


def reference_of_rows(
    table: pa.Table, schema: SchemaFrame, contract: Contract | None
) -> tuple[ReferenceProfile, tuple[Scalar, ...], tuple[Field, ...]]:
    """The profile of the table's first rows, the classes whose scores are in it in order, and the fields.

    What the log does not say of the contract is read from the rows where `contract` is not known.
    """
    table = table.slice(0, _MOST_ROWS)
    features = table.column("features").combine_chunks()
    listed = contract.inputs if contract is not None else _fields(schema)
    named = {field.name: field for field in listed}
    fields = {
        name: field_profile(named[name], _column(name, kind, feature_column(features, schema, index)))
        for index, (name, kind) in enumerate(zip(schema.names, schema.types, strict=True))
        if name in named
    }
    prediction, classes = _answers(table, contract.output if contract is not None else None)
    profile = ReferenceProfile(
        contract_id=schema.contract_id, rows=table.num_rows, fields=fields, prediction=prediction
    )
    return profile, classes, listed


def _fields(schema: SchemaFrame) -> tuple[Field, ...]:
    found = []
    sensitivities = schema.sensitivities or ("none",) * len(schema.names)
    for name, kind, sensitivity in zip(schema.names, schema.types, sensitivities, strict=True):
        inner = kind.removeprefix("list<").removesuffix(">")
        held: Any = inner if inner in get_args(FieldType) else "string"
        hidden: Any = sensitivity
        found.append(Field(name=name, type=held, shape=(-1,) if kind != inner else (), sensitivity=hidden))
    return tuple(found)


def _column(name: str, kind: str, column: pa.Array) -> Column:
    null = column.is_null().to_numpy(zero_copy_only=False)
    inner: Any = kind.removeprefix("list<").removesuffix(">")
    if kind != inner:
        values = np.empty(len(column), object)
        values[:] = column.to_pylist()
        return Column(name=name, type=inner, values=values, null=null, shape=(-1,))
    if kind == "float":
        values = np.array(column.to_numpy(zero_copy_only=False), np.float64)
        null = ~np.isfinite(values)
    elif kind == "int":
        values = column.fill_null(0).to_numpy(zero_copy_only=False)
    else:
        values = np.array(column.to_pylist(), object)
    return Column(name=name, type=inner, values=values, null=null)


def _answers(table: pa.Table, output: Output | None) -> tuple[PredictionProfile | None, tuple[Scalar, ...]]:
    """The profile of the answers that there are; None without any."""
    rows = [
        (msgspec.json.decode(value), scores)
        for value, scores, status in zip(
            table.column("prediction").to_pylist(),
            table.column("probabilities").to_pylist(),
            table.column("status").to_pylist(),
            strict=True,
        )
        if value is not None and status == "ok"
    ]
    if not rows:
        return None, ()
    values = [value for value, _ in rows]
    listed = [msgspec.json.decode(scores) for _, scores in rows if scores is not None]
    if output is None:
        output = _output(values, listed[0] if listed else {})
    classes = output.classes or tuple(listed[0] if listed else ())
    if output.kind != "class" or len(listed) < len(values):
        return answers_profile(output, values), classes if output.kind == "class" else ()
    scores = [[held.get(class_name(name)) or 0.0 for name in classes] for held in listed]
    return answers_profile(output, values, scores), classes


def _output(values: Sequence[Any], scores: Mapping[str, float]) -> Output:
    first = values[0]
    if isinstance(first, list):
        ranks = any(isinstance(item, Mapping) for held in values for item in held)
        return Output(kind="ranking" if ranks else "vector")
    if scores or isinstance(first, str | bool):
        return Output(kind="class")
    return Output(kind="number")
