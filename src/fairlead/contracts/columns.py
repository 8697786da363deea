"""One column of a sample as numpy values and a null mask, whichever library it comes from.

Nothing here imports pandas, Polars or pyarrow: a column of such a library has already imported it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import FieldType
from fairlead.errors import InvalidReference

__all__ = ["Column", "bases_of", "from_arrow", "from_pandas", "from_polars", "from_values"]

Array = npt.NDArray[Any]

_INT64 = np.iinfo(np.int64)
_CONVERT = "Convert the column to numbers or text, or leave it out."


class Column(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One column: `values` as float64, int64, bool or objects (text, or one numeric array per row of lists).

    `null` marks the rows that hold nothing; their `values` mean nothing. `shape` is as in `Field`.
    """

    name: str
    type: FieldType
    values: Array
    null: Array
    shape: tuple[int, ...] = ()

    @property
    def present(self) -> Array:
        """The values that are not null."""
        return self.values[~self.null] if self.null.any() else self.values

    def to_list(self, start: int = 0, stop: int | None = None) -> list[Any]:
        """Plain Python values of the rows from `start` up to `stop`; None for null."""
        values: list[Any] = self.values[start:stop].tolist()
        if self.shape:
            values = [None if value is None else value.tolist() for value in values]
        null = self.null[start:stop]
        if null.any():
            for index in np.flatnonzero(null).tolist():
                values[index] = None
        return values


# --- one way in per library ---------------------------------------------------------------------------------


def bases_of(sample: Any) -> set[str]:
    """The sample's class and what it derives from, as `library.Name`."""
    return {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(sample).__mro__}


def from_pandas(name: str, series: Any) -> Column:
    """The column in a pandas Series of any back end; categories become the values they stand for."""
    null = series.isna().to_numpy(dtype=bool)
    kind = "O" if str(series.dtype) == "category" else getattr(series.dtype, "kind", "O")
    if kind in "iub":
        whole = series.fillna(0 if kind != "b" else False) if null.any() else series
        return _from_array(name, whole.to_numpy(), null)
    if kind == "f":
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        column = _from_array(name, values, null)
        # pandas has no plain integer column with nulls: it makes floats of it, and so all of them are whole.
        return _as_int(column) if null.any() else column
    if kind in "mMc":
        raise _unusable(name, str(series.dtype))
    return _from_objects(name, series.astype(object).to_numpy(), null)


def from_polars(name: str, series: Any) -> Column:
    """The column in a Polars Series."""
    null = series.is_null().to_numpy()
    kind = str(series.dtype.base_type())
    if series.dtype.is_integer() or series.dtype.is_float():
        return _from_array(name, series.fill_null(0).to_numpy(), null)
    if kind == "Boolean":
        return _from_array(name, series.fill_null(False).to_numpy().astype(bool), null)
    if kind in ("String", "Categorical", "Enum", "List", "Array", "Null", "Object"):
        return _from_objects(name, _object_array(series.to_list()), null)
    raise _unusable(name, str(series.dtype))


def from_arrow(name: str, values: Any) -> Column:
    """The column in a pyarrow array, chunked or not."""
    import pyarrow as pa

    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    null = values.is_null().to_numpy(zero_copy_only=False)
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        whole = values.fill_null(False if pa.types.is_boolean(kind) else 0) if null.any() else values
        return _from_array(name, whole.to_numpy(zero_copy_only=False), null)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(test(kind) for test in (*texts, *lists, pa.types.is_null)):
        return _from_objects(name, _object_array(values.to_pylist()), null)
    raise _unusable(name, str(kind))


def from_values(name: str, values: Any) -> Column:
    """A column from a numpy array, a list, or anything that numpy makes a column of."""
    bases = bases_of(values)
    if "pandas.Series" in bases:
        return from_pandas(name, values)
    if "polars.Series" in bases:
        return from_polars(name, values)
    if not bases.isdisjoint({"pyarrow.Array", "pyarrow.ChunkedArray"}):
        return from_arrow(name, values)
    array = values if isinstance(values, np.ndarray) else _object_array(list(values))
    if array.dtype.kind in "iufb" and array.ndim == 1:
        return _from_array(name, array, np.zeros(len(array), dtype=bool))
    if array.dtype.kind in "OU":
        null = np.array([v is None or (isinstance(v, float | np.floating) and v != v) for v in array], bool)
        return _from_objects(name, array.astype(object), null)
    raise _unusable(name, f"an array of {array.dtype} with {array.ndim} axes")


# --- values to a column -------------------------------------------------------------------------------------


def _from_array(name: str, values: Array, null: Array) -> Column:
    match values.dtype.kind:
        case "b":
            return Column(name=name, type="bool", values=values, null=null)
        case "i" | "u":
            if values.dtype == np.uint64 and values.max(initial=0) > _INT64.max:
                raise _too_large(name)
            return Column(name=name, type="int", values=values.astype(np.int64), null=null)
        case "f":
            numbers = values.astype(np.float64)
            null = null | np.isnan(numbers)
            if np.isinf(numbers).any():
                raise InvalidReference(
                    f"Column {name!r} holds an infinite value.", remedy="Replace it, or drop its row."
                )
            return Column(name=name, type="float", values=numbers, null=null)
        case _:
            raise _unusable(name, str(values.dtype))


def _from_objects(name: str, values: Array, null: Array) -> Column:
    present = values[~null].tolist()
    kinds = {_kind(value) for value in present}
    if not kinds:
        raise InvalidReference(
            f"Column {name!r} holds nothing but nulls, so its type cannot be known.",
            remedy="Leave it out, or give the column its type.",
        )
    if kinds == {"list"}:
        return _from_lists(name, present, null)
    if kinds == {"int", "float"}:
        kinds = {"float"}
    if len(kinds) > 1:
        raise InvalidReference(
            f"Column {name!r} mixes {' and '.join(sorted(kinds))}.", remedy="Give the column one type."
        )
    kind = kinds.pop()
    if kind not in ("string", "int", "float", "bool"):
        raise _unusable(name, kind)
    if kind == "int" and not _INT64.min <= min(present) <= max(present) <= _INT64.max:
        raise _too_large(name)
    if kind == "string":
        texts = np.full(len(values), "", dtype=object)
        texts[~null] = [str(value) for value in present]
        return Column(name=name, type="string", values=texts, null=null)
    dtype = {"int": np.int64, "float": np.float64, "bool": np.bool_}[kind]
    filled: Array = np.zeros(len(values), dtype=dtype)
    filled[~null] = present
    return _from_array(name, filled, null)


def _from_lists(name: str, present: list[Any], null: Array) -> Column:
    parts = [np.asarray(value) for value in present]
    if any(part.ndim != 1 or (part.dtype.kind not in "iuf" and part.size) for part in parts):
        raise InvalidReference(
            f"Column {name!r} holds lists of something else than numbers.", remedy=_CONVERT
        )
    whole = all(part.dtype.kind in "iu" for part in parts if part.size)
    parts = [part.astype(np.int64 if whole else np.float64) for part in parts]
    if not all(np.isfinite(part).all() for part in parts):
        raise InvalidReference(
            f"Column {name!r} holds a list with a number that is not finite.", remedy="Drop its row."
        )
    lengths = {part.size for part in parts}
    values = np.empty(len(null), dtype=object)
    for index, part in zip(np.flatnonzero(~null).tolist(), parts, strict=True):
        values[index] = part
    shape = (lengths.pop(),) if len(lengths) == 1 and 0 not in lengths else (-1,)
    return Column(name=name, type="int" if whole else "float", values=values, null=null, shape=shape)


def _as_int(column: Column) -> Column:
    present = column.present
    if not present.size or not (present == np.floor(present)).all() or np.abs(present).max() > 2.0**53:
        return column
    values = np.where(column.null, 0, column.values).astype(np.int64)
    return Column(name=column.name, type="int", values=values, null=column.null)


def _kind(value: Any) -> str:
    match value:
        case bool() | np.bool_():
            return "bool"
        case int() | np.integer():
            return "int"
        case float() | np.floating():
            return "float" if math.isfinite(value) else "infinity"
        case str():
            return "string"
        case list() | tuple() | np.ndarray():
            return "list"
        case _:
            return type(value).__name__


def _object_array(values: list[Any]) -> Array:
    """One object per entry, also where the entries are lists of equal length."""
    return np.fromiter(values, dtype=object, count=len(values))


def _unusable(name: str, kind: str) -> InvalidReference:
    return InvalidReference(
        f"Column {name!r} is {kind}, and a feature is float, int, bool or string.", remedy=_CONVERT
    )


def _too_large(name: str) -> InvalidReference:
    return InvalidReference(
        f"Column {name!r} holds an integer beyond 64 bits.", remedy="Make it text, or scale it down."
    )
