"""The datatypes of the Open Inference Protocol, and tensors between arrays, raw bytes and plain JSON values.

Raw tensors are little-endian in C order. BYTES holds, for each element, its length as an unsigned 32-bit
integer and the bytes; they are UTF-8 texts here. FP16 travels raw only, as the protocol has it.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.errors import MalformedRequest

__all__ = ["datatype_of", "datatype_of_name", "from_json", "from_raw", "shape_of", "to_json", "to_raw"]

Array = npt.NDArray[Any]

_DTYPES: dict[str, Any] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
_DATATYPES = {dtype: name for name, dtype in _DTYPES.items()}
_OF_NAMES = {"string": "BYTES", **{dtype.name: name for name, dtype in _DTYPES.items() if name != "BYTES"}}
_LENGTH = struct.Struct("<I")
_MOST_AXES = 8
_MOST_ELEMENTS = 2**40


def datatype_of(array: Array) -> str:
    """The protocol's name for the array's type."""
    return _DATATYPES.get(array.dtype) or ("BYTES" if array.dtype.kind in "OUS" else "FP64")


def datatype_of_name(name: str) -> str:
    """The protocol's name for a type as runtime specs name it (`float32`, `string`)."""
    return _OF_NAMES[name]


def shape_of(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape, once it is known to make sense; raises `MalformedRequest`."""
    negative = any(size < 0 for size in shape)
    if len(shape) > _MOST_AXES or negative or math.prod(size or 1 for size in shape) > _MOST_ELEMENTS:
        raise MalformedRequest(
            f"Input {name[:100]!r} has a shape that makes no sense.",
            remedy="A shape holds at most 8 whole numbers from 0 on; the first is the number of rows.",
        )
    return tuple(shape)


def from_raw(name: str, datatype: str, shape: tuple[int, ...], data: bytes | memoryview) -> Array:
    """The tensor in these bytes, which are not copied where that can be avoided; `MalformedRequest` when they
    do not fit the shape."""
    dtype = _dtype(name, datatype)
    count = math.prod(shape)
    if datatype == "BYTES":
        return _texts(name, count, data).reshape(shape)
    if len(data) != count * dtype.itemsize:
        raise MalformedRequest(
            f"Input {name[:100]!r} has {len(data)} bytes; shape {list(shape)} of {datatype} takes "
            f"{count * dtype.itemsize}.",
            remedy="The number of elements must be the product of the shape.",
        )
    array = np.frombuffer(data, dtype)
    if datatype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise MalformedRequest(f"Input {name[:100]!r} has a BOOL that is neither 0 nor 1.")
    # Where a tensor begins in a request is chance; models want numbers at their natural boundaries.
    return (array if array.flags.aligned else array.copy()).reshape(shape)


def from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """The tensor in these JSON values, flat or nested; null is NaN in a tensor of floats.

    Raises `MalformedRequest` for values of another kind, or another number of them than the shape has.
    """
    dtype = _dtype(name, datatype)
    if datatype == "FP16":
        raise MalformedRequest(
            f"Input {name[:100]!r}: FP16 has no JSON form.", remedy="Send it as binary data."
        )
    flat, dimensions = _flattened(name, data)
    if len(flat) != math.prod(shape) or (len(dimensions) > 1 and dimensions != shape):
        raise MalformedRequest(
            f"Input {name[:100]!r} has {len(flat)} elements in {list(dimensions)} and shape {list(shape)}.",
            remedy="Send the elements flat, or nested as the shape says.",
        )
    kinds = set(map(type, flat))
    if not kinds <= _KINDS[datatype]:
        wrong = next(value for value in flat if type(value) not in _KINDS[datatype])
        raise _wrong_value(name, datatype, wrong)
    if datatype == "BYTES":
        made = np.empty(len(flat), object)
        made[:] = flat
        return made.reshape(shape)
    try:
        with np.errstate(over="ignore"):
            if dtype.kind == "f":
                return np.array(flat, np.float64).astype(dtype).reshape(shape)
        if float in kinds:
            flat = [_whole(name, datatype, value) for value in flat]
        return np.array(flat, dtype).reshape(shape)
    except OverflowError:
        limits = np.iinfo(dtype) if dtype.kind in "iu" else None
        wrong = next(v for v in flat if limits is None or not limits.min <= v <= limits.max)
        raise _wrong_value(name, datatype, wrong) from None


def to_raw(array: Array) -> bytes:
    """The tensor's raw bytes."""
    if array.dtype.kind not in "biuf":
        parts = []
        for value in array.reshape(-1).tolist():
            text = value if isinstance(value, bytes) else str(value).encode()
            parts += [_LENGTH.pack(len(text)), text]
        return b"".join(parts)
    if not array.dtype.isnative or sys.byteorder != "little":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def to_json(array: Array) -> list[Any]:
    """The tensor's elements as flat plain values."""
    return array.reshape(-1).tolist()


_NUMBERS = frozenset((int, float))
_KINDS: dict[str, frozenset[type]] = {
    "BOOL": frozenset((bool,)),
    "BYTES": frozenset((str,)),
    **dict.fromkeys(("FP32", "FP64"), _NUMBERS | {type(None)}),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"), _NUMBERS),
}


def _dtype(name: str, datatype: str) -> Any:
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        raise MalformedRequest(
            f"Input {name[:100]!r} has datatype {datatype[:100]!r}, which is not served.",
            remedy="Use " + ", ".join(_DTYPES) + "." + (" Send BF16 as FP32." if datatype == "BF16" else ""),
        )
    return dtype


def _texts(name: str, count: int, data: bytes | memoryview) -> Array:
    view = memoryview(data)
    # Each element takes its length at least, so that the shape cannot promise more than was sent.
    if count * _LENGTH.size > len(view):
        raise _torn(name, count)
    made = np.empty(count, object)
    place = 0
    for index in range(count):
        start = place + _LENGTH.size
        if start > len(view):
            raise _torn(name, count)
        place = start + _LENGTH.unpack_from(view, place)[0]
        if place > len(view):
            raise _torn(name, count)
        try:
            made[index] = str(view[start:place], "utf-8")
        except UnicodeDecodeError:
            raise MalformedRequest(
                f"Input {name[:100]!r}: element {index} is not UTF-8.", remedy="BYTES holds texts in UTF-8."
            ) from None
    if place != len(view):
        raise _torn(name, count)
    return made


def _torn(name: str, count: int) -> MalformedRequest:
    return MalformedRequest(
        f"Input {name[:100]!r} does not hold exactly {count} BYTES elements.",
        remedy="Each is its length as an unsigned 32-bit little-endian integer, and then its bytes.",
    )


def _flattened(name: str, data: Any) -> tuple[list[Any], tuple[int, ...]]:
    """The values in row-major order, and how they were nested."""
    if not isinstance(data, list):
        raise MalformedRequest(
            f"Input {name[:100]!r} has no list 'data'.", remedy="Send its elements as a list."
        )
    dimensions = [len(data)]
    flat = data
    while flat and isinstance(flat[0], list):
        length = len(flat[0])
        if len(dimensions) >= _MOST_AXES or not all(
            isinstance(part, list) and len(part) == length for part in flat
        ):
            raise MalformedRequest(
                f"Input {name[:100]!r}: its nested 'data' is no tensor.",
                remedy="Send the elements as a flat list.",
            )
        dimensions.append(length)
        flat = [value for part in flat for value in part]
    return flat, tuple(dimensions)


def _whole(name: str, datatype: str, value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise _wrong_value(name, datatype, value)
    return int(value)


def _wrong_value(name: str, datatype: str, value: Any) -> MalformedRequest:
    shown = repr(value)
    shown = shown if len(shown) <= 50 else shown[:50] + "…"
    return MalformedRequest(
        f"Input {name[:100]!r}: {shown} is no {datatype}.", remedy="See the model's metadata for its inputs."
    )
