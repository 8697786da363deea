"""The check of many rows at once: the rules and outcomes of `check.py` over arrays.

A clean matrix is found clean by a few passes in native code; else each column goes through `array_rules.py`.
Arrays have no null of their own: NaN in numbers and None in objects stand for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.array_rules import Breach, Column, check_column, plain
from fairlead.contracts.check import for_the_record
from fairlead.contracts.contract import Contract, Field
from fairlead.errors import DataContractViolation

__all__ = ["Checked", "Table", "TableCheck", "as_array", "python_values"]

Array = npt.NDArray[Any]

_INT64 = np.iinfo(np.int64)
_EXACT = 2.0**53
_MAX_FLOAT = 1.7976931348623157e308
_GROUP = 32
_MOST_NAMED = 100
"""So many broken values of a refused table are named; the message tells how many there are."""


class Table:
    """Rows as they were sent: a `matrix` whose columns are the features in contract order, or `columns`, one
    array per feature in that order (rows first; None where a feature was not sent)."""

    __slots__ = ("columns", "matrix", "rows")

    def __init__(
        self, rows: int, *, matrix: Array | None = None, columns: Sequence[Array | None] = ()
    ) -> None:
        self.rows = rows
        self.matrix = matrix
        self.columns = columns

    def column(self, index: int) -> Array | None:
        """The array of one feature."""
        return self.columns[index] if self.matrix is None else self.matrix[:, index]


class Checked(NamedTuple):
    """Rows that keep the contract: the clean `matrix` as it was sent, or `columns` after coercion and
    imputation. `flags` are the breaches that did not reject."""

    rows: int
    matrix: Array | None
    columns: Sequence[Column]
    flags: Sequence[Breach] = ()


class TableCheck:
    """A contract made ready to check tables."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        fields = contract.inputs
        self._numeric = all(
            field.type in ("float", "int") and not field.shape and field.categories is None
            for field in fields
        )
        if self._numeric:
            bounds = [_bounds(field) for field in fields]
            self._low = np.array([low for low, _ in bounds])
            self._high = np.array([high for _, high in bounds])
            self._holey = np.array([field.nullable for field in fields])
            self._whole = np.array([index for index, f in enumerate(fields) if f.type == "int"], np.intp)

    def __call__(self, table: Table) -> Checked:
        """The rows as the model gets them; raises `DataContractViolation` naming row, field and rule."""
        if table.matrix is not None and self._numeric and self._is_clean(table.matrix):
            return Checked(table.rows, table.matrix, ())
        columns: list[Column] = []
        breaches: list[Breach] = []
        for index, field in enumerate(self._contract.inputs):
            column, broken = check_column(field, table.column(index), table.rows)
            columns.append(column)
            breaches += broken
        rejecting = [breach for breach in breaches if breach.action == "reject"]
        if rejecting:
            raise self._violation(table, rejecting)
        return Checked(table.rows, None, columns, breaches)

    def _is_clean(self, matrix: Array) -> bool:
        """Whether no value breaks any rule; a matrix that only may is looked at column by column."""
        low, high = _reduced(np.minimum, matrix), _reduced(np.maximum, matrix)
        if not self._is_within(low, high):
            # NaN compares to nothing: columns that may hold nulls are looked at again without them.
            holes = np.isnan(low) if matrix.dtype.kind == "f" else ()
            if not np.any(holes) or (holes & ~self._holey).any():
                return False
            low = np.where(holes, _reduced(np.fmin, matrix), low)
            high = np.where(holes, _reduced(np.fmax, matrix), high)
            empty = np.isnan(low)
            low, high = np.where(empty, self._low, low), np.where(empty, self._high, high)
            if not self._is_within(low, high):
                return False
        if matrix.dtype.kind == "f":
            if self._whole.size:
                whole = matrix[:, self._whole]
                return bool(((np.floor(whole) == whole) | np.isnan(whole)).all())
            return True
        return matrix.dtype.itemsize < 8 or bool((low > -_EXACT).all() and (high < _EXACT).all())

    def _is_within(self, low: Array, high: Array) -> bool:
        # Single precision must not round a bound: it is compared as a float of 64 bits.
        return bool(
            (low.astype(np.float64) >= self._low).all() and (high.astype(np.float64) <= self._high).all()
        )

    def _violation(self, table: Table, breaches: Sequence[Breach]) -> DataContractViolation:
        named = sorted(
            (int(row), order, index)
            for order, breach in enumerate(breaches)
            for index, row in enumerate(breach.rows[:_MOST_NAMED].tolist())
        )[:_MOST_NAMED]
        found = [(row, breaches[order].finding(index)) for row, order, index in named]
        row, first = found[0]
        total = sum(len(breach.rows) for breach in breaches)
        more = f" and {total - 1} more" if total > 1 else ""
        error = DataContractViolation(
            f"Row {row}: field {first.field!r} breaks rule {first.rule!r}: expected {first.expected}{more}.",
            [{"row": row, **msgspec.to_builtins(finding)} for row, finding in found],
            refused={str(row): self._for_the_record(table, row) for row in sorted({row for row, _ in found})},
            remedy="A table is taken or refused as a whole; correct or leave out that row.",
        )
        error.details["broken"] = total
        return error

    def _for_the_record(self, table: Table, row: int) -> dict[str, Any]:
        columns = ((field.name, table.column(i)) for i, field in enumerate(self._contract.inputs))
        return for_the_record(
            self._contract, {name: plain(column[row]) for name, column in columns if column is not None}
        )


def as_array(values: Sequence[Any]) -> Array:
    """Plain values of one feature as the narrowest array that keeps each as it is."""
    kinds = set(map(type, values))
    if kinds <= {float}:
        return np.array(values, np.float64)
    if kinds <= {bool}:
        return np.array(values, np.bool_)
    if kinds <= {int} and all(_INT64.min <= value <= _INT64.max for value in values):
        return np.array(values, np.int64)
    return np.fromiter(values, dtype=object, count=len(values))


def python_values(kind: str, values: Array, null: Array | None = None) -> list[Any]:
    """The values of a checked column as a row has them, with None for null; `kind` is the field's type
    (`float`, `int`, `list<float>`, …)."""
    found: list[Any]
    if values.dtype == object:
        return list(values)
    scalar = kind.removeprefix("list<").removesuffix(">")
    if scalar == "int" and values.dtype.kind == "f":
        holes = np.isnan(values)
        null = holes if null is None else null | holes
        values = np.where(holes, 0, values).astype(np.int64)
    elif scalar == "float":
        values = values.astype(np.float64)
        if values.ndim == 1 and null is None:
            null = np.isnan(values)
    found = values.tolist()
    if null is not None and null.any():
        for index in np.flatnonzero(null).tolist():
            found[index] = None
    return found


def _reduced(function: np.ufunc, matrix: Array) -> Array:
    """The function over each column. Neighbouring rows are taken as one long row first: native loops over
    short rows spend their time on starting."""
    rows, width = matrix.shape
    found: Array
    if rows == 1:
        found = matrix[0]
        return found
    if rows >= 2 * _GROUP and matrix.flags.c_contiguous:
        whole = rows - rows % _GROUP
        grouped = matrix[:whole].reshape(-1, _GROUP * width)
        parts = function.reduce(grouped, axis=0).reshape(_GROUP, width)
        matrix = np.concatenate((parts, matrix[whole:]))
    found = function.reduce(matrix, axis=0)
    return found


def _bounds(field: Field) -> tuple[float, float]:
    """Bounds that no clean number is outside of."""
    widest = _MAX_FLOAT if field.type == "float" else math.nextafter(2.0**63, 0.0)
    low = -widest if field.minimum is None else max(-widest, field.minimum)
    high = widest if field.maximum is None else min(widest, field.maximum)
    return low, high
