"""A contract guessed from a sample. What is only guessed flags, it never rejects.

A sample proves the types and whether nulls occur. That no larger age or other country exists it does not
prove: ranges and categories are listed in `inferred`, and a value outside of them is answered and flagged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from fairlead.contracts.contract import Contract, Field, Output, Scalar
from fairlead.contracts.table import Column, Table, read_table
from fairlead.errors import InvalidReference

__all__ = ["infer_contract", "infer_field", "infer_output", "split_target"]

MAX_CATEGORIES = 50
MAX_CLASSES_OF_INTEGERS = 20


def infer_contract(
    sample: Any,
    *,
    target: Any = None,
    output: Output | None = None,
    columns: Sequence[str] | None = None,
) -> Contract:
    """The contract that the sample suggests: a pandas or Polars frame, a pyarrow table or a numpy matrix.

    `target` is the name of a column of the sample that is the answer and no feature, or the answers
    themselves; the output is inferred from it unless `output` is given, and is a number when neither is.
    `columns` selects and orders the features, and names those of a matrix. Missing values, wrong types and
    NaN reject; a column that holds nulls takes null and may be left out. Raises `InvalidReference`.
    """
    table, answers = split_target(sample, target, columns)
    if output is None:
        output = infer_output(answers) if answers is not None else Output(kind="number")
    return Contract(inputs=tuple(infer_field(column) for column in table.columns), output=output).verify()


def split_target(
    sample: Any, target: Any, columns: Sequence[str] | None = None
) -> tuple[Table, Column | None]:
    """The features and, when there is a target, the answers.

    `target` names a column or holds one answer per row, as in `infer_contract`.
    """
    if isinstance(target, str):
        whole = read_table(sample, columns=None if columns is None else [*columns, target])
        return whole.without(target), whole.column(target)
    table = read_table(sample, columns=columns)
    answers = None if target is None else _answers(target)
    if answers is not None and len(answers.values) != table.rows:
        raise InvalidReference(
            f"The target has {len(answers.values)} answers for {table.rows} rows.",
            remedy="Give one answer per row.",
        )
    return table, answers


def _answers(target: Any) -> Column:
    if getattr(target, "columns", None) is not None:
        columns = read_table(target).columns
        if len(columns) != 1:
            raise InvalidReference(
                f"The target has {len(columns)} columns.", remedy="Give the one that is the answer."
            )
        return columns[0]
    if isinstance(target, np.ndarray) and target.ndim == 2:
        target = target[:, 0] if target.shape[1] == 1 else list(target)
    return read_table({"target": target}).columns[0]


def infer_field(column: Column) -> Field:
    """The field that the column suggests."""
    nullable = bool(column.null.any())
    field = Field(
        name=column.name, type=column.type, shape=column.shape, nullable=nullable, required=not nullable
    )
    if column.type in ("float", "int"):
        return _with_range(field, column)
    return _with_categories(field, column)


def infer_output(answers: Column) -> Output:
    """What a model that learnt these answers predicts.

    Text and booleans are classes, and so are integers with at most 20 distinct values; all else is a number,
    and lists are vectors.
    """
    if answers.shape:
        return Output(kind="vector", length=None if answers.shape == (-1,) else answers.shape[0])
    if answers.type == "float":
        return Output(kind="number")
    distinct = sorted(set(answers.present.tolist()))
    if answers.type == "int" and len(distinct) > MAX_CLASSES_OF_INTEGERS:
        return Output(kind="number")
    return Output(kind="class", classes=tuple(distinct))


def _with_range(field: Field, column: Column) -> Field:
    present = column.present
    if column.shape:
        present = np.concatenate(list(present)) if len(present) else present
    if not present.size:
        return field
    return replace(
        field,
        minimum=_at_most(present.min().item()),
        maximum=_at_least(present.max().item()),
        on_range="flag",
        inferred=("range",),
    )


def _with_categories(field: Field, column: Column) -> Field:
    present = column.present.tolist()
    distinct: set[Scalar] = set(present)
    # With fewer than two rows per value it is a name or an id. A boolean seen both ways has nothing to flag.
    if not 1 <= len(distinct) <= min(MAX_CATEGORIES, len(present) // 2) or distinct == {False, True}:
        return field
    categories = tuple(sorted(distinct, key=str))
    return replace(field, categories=categories, on_category="flag", inferred=("categories",))


def _at_most(value: float | int) -> float:
    """The largest float that is not above the value: beyond 2**53 not every integer is a float."""
    near = float(value) + 0.0  # no -0.0
    return near if near <= value else math.nextafter(near, -math.inf)


def _at_least(value: float | int) -> float:
    near = float(value) + 0.0
    return near if near >= value else math.nextafter(near, math.inf)
