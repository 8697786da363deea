"""What the rows of a log table hold of each field, as codes: the number of a bin, or that there was none.

A value as it was sent counts, not what stood in for it: a missing one that was imputed is a null, one of
another type a misfit, and one beyond its range lies where it lay. So a refused row, whose features no column
can hold, counts like any other as far as the log kept what it held.

Pure: Arrow tables in, arrays out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.contracts.check import MOST_KEPT
from fairlead.contracts.counts import Bins
from fairlead.contracts.profile import CategoryProfile
from fairlead.predictions.features import struct_type
from fairlead.predictions.record import SchemaFrame

__all__ = [
    "MISFIT",
    "NOT_COUNTABLE",
    "Seen",
    "SentRows",
    "categories_seen",
    "elements_seen",
    "feature_column",
    "fitting",
    "numbers_seen",
]

Array = npt.NDArray[Any]
T = TypeVar("T")

NOT_COUNTABLE = (
    pa.ArrowException,
    msgspec.MsgspecError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What values that nobody expected may raise while they are counted."""
_MISFITS = frozenset({"type", "not_finite", "shape"})


class Breach(msgspec.Struct):
    """A rule that a value broke."""

    field: str
    rule: str
    value: Any = None


_decode_breaches = msgspec.json.Decoder(list[Breach]).decode
_decode_refused = msgspec.json.Decoder(dict[str, Any]).decode


class _Misfit:
    """Stands for a value of another type than the field's."""


MISFIT = _Misfit()


class Seen(NamedTuple):
    """What was seen of one field. `codes` has a number per value: of its bin, or behind the bins one for null
    and one for misfits. `rows` tells whose each is; None where there is one per row. `numbers` are the values
    behind the codes where the field has numbers, `names` the values in the category of all others."""

    codes: Array
    rows: Array | None = None
    numbers: Array | None = None
    names: Mapping[int, str] | None = None


class SentRows:
    """What was sent where that is not what a table's columns hold: in rows that were refused, and in values
    for which something stood in."""

    def __init__(self, table: pa.Table) -> None:
        self.unread = table.column("features").combine_chunks().is_null().to_numpy(zero_copy_only=False)
        self.breaches: dict[int, list[Breach]] = {}
        for name in ("violations", "flags"):
            for row, breaches in _documents(table.column(name), _decode_breaches).items():
                self.breaches.setdefault(row, []).extend(breaches)
        self._refused = {
            row: held
            for row, held in _documents(table.column("refused"), _decode_refused).items()
            if self.unread[row]
        }
        self._sent: dict[str, dict[int, Any]] = {}
        for row, breaches in self.breaches.items():
            for breach in breaches:
                self._sent.setdefault(breach.field, {})[row] = _sent_value(breach)
        for row, held in list(self._refused.items()):
            if len(held) >= MOST_KEPT:
                del self._refused[row]  # what else it held is not known
            else:
                self.unread[row] = False

    def of(self, name: str, is_list: bool) -> tuple[Array, list[Any]]:
        """The rows in which that field was sent otherwise than its column says, and what was sent: None for
        nothing, `MISFIT` for a value of another type."""
        sent = self._sent.get(name, {})
        found = {row: held.get(name) for row, held in self._refused.items()}
        for row, value in sent.items():
            if row in found or not (self.unread[row] or is_list):
                found[row] = value
        if is_list:
            found = {row: _list_of(value) for row, value in found.items()}
        return np.fromiter(found, np.int64, len(found)), list(found.values())


def feature_column(features: pa.StructArray, schema: SchemaFrame, index: int) -> pa.Array:
    """The column of one feature of a contract out of a struct that may hold those of others, too."""
    field = struct_type(schema).field(index)
    given = {held.name.lower(): place for place, held in enumerate(features.type)}
    place = given.get(field.name.lower())
    if place is None:
        return pa.nulls(len(features), field.type)
    column = features.field(place)
    if column.type == field.type:
        return column
    if pa.types.is_list(field.type) and pa.types.is_string(column.type):
        texts = column.to_pylist()
        return pa.array([None if text is None else msgspec.json.decode(text) for text in texts], field.type)
    return pc.cast(column, field.type, safe=False)


def numbers_seen(
    bins: Bins, column: pa.Array, sent: tuple[Array, Sequence[Any]], skip: Array | None = None
) -> Seen:
    """Numbers of a column, one per row, with what was sent where that differs. Rows of `skip` are not
    counted."""
    numbers = np.array(column.to_numpy(zero_copy_only=False), np.float64)
    finite = np.isfinite(numbers)
    whole = bool(finite.all())
    null = np.zeros(0, bool) if whole else column.is_null().to_numpy(zero_copy_only=False)
    rows, values = sent
    if rows.size:
        null = np.zeros(len(numbers), bool) if whole else np.array(null)
        whole = False
        numbers[rows] = [_number(value) for value in values]
        null[rows] = [value is None for value in values]
        finite = np.isfinite(numbers)
    size = len(bins.counts)
    codes = np.searchsorted(_edges(bins), numbers, side="right")
    if not whole:
        codes[~finite] = size + 1
        codes[null] = size
    if skip is not None:
        codes[skip] = -1
    return Seen(codes, numbers=numbers)


def elements_seen(bins: Bins, column: pa.ListArray, sent: tuple[Array, Sequence[Any]]) -> Seen:
    """All numbers of a column of lists."""
    numbers = np.array(pc.list_flatten(column).to_numpy(zero_copy_only=False), np.float64)
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    others = [(row, item) for row, held in zip(*sent, strict=True) if isinstance(held, list) for item in held]
    if sent[0].size:
        kept = ~np.isin(rows, sent[0])
        rows = np.concatenate([rows[kept], np.array([row for row, _ in others], np.int64)])
        numbers = np.concatenate([numbers[kept], np.array([_number(item) for _, item in others], np.float64)])
    codes = np.searchsorted(_edges(bins), numbers, side="right")
    codes[~np.isfinite(numbers)] = len(bins.counts) + 1
    return Seen(codes, rows=rows, numbers=numbers)


def categories_seen(
    bins: CategoryProfile,
    column: pa.Array,
    sent: tuple[Array, Sequence[Any]] | None = None,
    *,
    value_of: Callable[[list[Any]], Iterable[Any]] = iter,
    skip: Array | None = None,
) -> Seen:
    """Categories of a column, one per row, with what was sent where that differs.

    `value_of` makes categories of the column's different values. Rows of `skip` are not counted.
    """
    known = {category: place for place, category in enumerate(bins.categories)}
    other, null, misfit = len(known), len(bins.counts), len(bins.counts) + 1
    encoded = column.dictionary_encode()
    different = list(value_of(encoded.dictionary.to_pylist()))
    places = np.array([null if value is None else known.get(value, other) for value in different], np.int64)
    indices = encoded.indices.fill_null(len(different)).to_numpy(zero_copy_only=False)
    codes = np.append(places, null)[indices]
    names = {}
    if other in places:
        unknown = np.flatnonzero(codes == other).tolist()
        names = {row: str(different[indices[row]]) for row in unknown}
    for row, value in zip(*(sent or ((), ())), strict=True):
        codes[row] = null if value is None else misfit if value is MISFIT else known.get(value, other)
        names.pop(int(row), None)
        if codes[row] == other:
            names[int(row)] = str(value)
    if skip is not None:
        codes[skip] = -1
        names = {row: name for row, name in names.items() if not skip[row]}
    return Seen(codes, names=names)


def fitting(values: Iterable[Any], kind: pa.DataType) -> pa.Array:
    """The values as a column of that type; null for those that are of another."""
    texts, booleans = pa.types.is_string(kind), pa.types.is_boolean(kind)
    held = str if texts else bool if booleans else int | float

    def fits(value: Any) -> bool:
        return isinstance(value, held) and (booleans or not isinstance(value, bool))

    return pa.array(
        [value if fits(value) else None for value in values], None if texts or booleans else pa.float64()
    )


def _edges(bins: Bins) -> Array:
    return np.asarray(() if isinstance(bins, CategoryProfile) else bins.edges, np.float64)


def _number(value: Any) -> float:
    """The value as a number; NaN for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("nan")


def _sent_value(breach: Breach) -> Any:
    return None if breach.rule == "missing" else MISFIT if breach.rule in _MISFITS else breach.value


def _list_of(value: Any) -> Any:
    """A list, as the log kept it: as text, perhaps cut."""
    if not isinstance(value, str):
        return value if value is None or isinstance(value, list) else MISFIT
    try:
        found = msgspec.json.decode(value)
    except msgspec.DecodeError:
        return MISFIT
    return found if isinstance(found, list) else MISFIT


def _documents(column: pa.ChunkedArray, decode: Callable[[str], T]) -> dict[int, T]:
    """The JSON documents of a column by row; most rows have none. What is none is left out."""
    found: dict[int, T] = {}
    rows = pc.indices_nonzero(column.combine_chunks().is_valid())
    for row, text in zip(rows.to_pylist(), column.take(rows).to_pylist(), strict=True):
        with contextlib.suppress(msgspec.MsgspecError):
            found[row] = decode(text)
    return found
