"""Plain JSON and CSV values as arrays, for faces whose callers name no types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.arrays import as_array
from fairlead.errors import MalformedRequest

__all__ = ["column_of", "columns_of_records", "object_of", "tensor_of"]

Array = npt.NDArray[Any]


def object_of(body: bytes, known: Sequence[str]) -> dict[str, Any]:
    """A JSON object with none but known members; raises `MalformedRequest`."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(
            f"The body is no JSON object: {error}.", remedy="Send UTF-8 JSON; NaN and Infinity are not JSON."
        ) from error
    for name in found:
        if name not in known:
            raise MalformedRequest(
                f"The body has an unknown member {name[:100]!r}.", remedy=f"Known are {', '.join(known)}."
            )
    return found


def tensor_of(name: str, values: Any) -> Array:
    """Nested lists of numbers as a tensor, or a list of values of any one kind; raises `MalformedRequest`."""
    if not isinstance(values, list):
        raise MalformedRequest(f"{name[:100]!r} is no list.", remedy="Send one value or list per row.")
    if values and all(isinstance(value, list) for value in values):
        width = len(values[0])
        if any(len(row) != width for row in values):
            raise MalformedRequest(
                f"{name[:100]!r} has rows of different lengths.", remedy="Send as many values in each."
            )
        flat = as_array([value for row in values for value in row])
        return _numbers_or_values(flat).reshape(len(values), width)
    return column_of(values)


def column_of(values: Sequence[Any]) -> Array:
    """The values of one column, null among numbers as NaN."""
    return _numbers_or_values(as_array(values))


def columns_of_records(records: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Objects of the same kind as columns; what one of them lacks is null in it."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: column_of([record.get(name) for record in records]) for name in names}


def _numbers_or_values(array: Array) -> Array:
    """Whole numbers beside others, and nulls among numbers, make an array of floats."""
    if array.dtype != object:
        return array
    kinds = set(map(type, array))
    if kinds <= {int, float, type(None)} and float in kinds:
        try:
            return np.array(array, np.float64)
        except OverflowError:
            return array
    return array
