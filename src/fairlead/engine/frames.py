"""What a gateway and a model worker say to each other: frames on a local stream socket.

A frame is the length of its body as an unsigned 32-bit little-endian integer, then the body, one MessagePack
map. Needs numpy and msgspec alone, since a worker may run in an environment of its own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "LENGTH",
    "MAX_FRAME",
    "Answer",
    "Cell",
    "FrameError",
    "Frames",
    "Ready",
    "Request",
    "Setup",
    "decode_answer",
    "decode_request",
    "encode",
    "pack",
    "unpack",
]

Array = npt.NDArray[Any]

MAX_FRAME = 1 << 30
"""Bytes; what claims to be longer is garbage."""

LENGTH = struct.Struct("<I")
_DTYPES = {"float32", "float64", "int32", "int64", "bool"}


class FrameError(ValueError):
    """The bytes are no frame, or no message that is expected here."""


class Cell(msgspec.Struct, array_like=True):
    """One tensor: `data` holds its bytes in C order, or its texts (dtype `string`) in that order.

    Texts on their way to a model may be null; those that it answers may not.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes | list[str | None]


class Setup(msgspec.Struct, tag="setup"):
    """The gateway's first message: which file to load, which outputs are wanted, and the features' names.

    `outputs` gives the tensor's name for each part that it plays, as in `OutputNames`.
    """

    path: str
    outputs: dict[str, str]
    names: tuple[str, ...]


class Ready(msgspec.Struct, tag="ready"):
    """The worker's answer to it. `error` says in words why the model cannot be loaded."""

    error: str | None = None


class Request(msgspec.Struct, tag="run"):
    """Rows to predict; `id` comes back with the answer."""

    id: int
    tensors: dict[str, Cell]


class Answer(msgspec.Struct, tag="answer"):
    """The wanted tensors, or in words what the model raised."""

    id: int
    tensors: dict[str, Cell] = {}
    error: str | None = None


_ENCODER = msgspec.msgpack.Encoder()
_FROM_GATEWAY = msgspec.msgpack.Decoder(Setup | Request)
_FROM_WORKER = msgspec.msgpack.Decoder(Ready | Answer)


def encode(message: Setup | Ready | Request | Answer) -> tuple[bytes, bytes]:
    """Length and body of the message's frame; `FrameError` when it is longer than a frame may be."""
    body = _ENCODER.encode(message)
    if len(body) > MAX_FRAME:
        raise FrameError(f"A message of {len(body)} bytes is longer than the {MAX_FRAME} of a frame.")
    return LENGTH.pack(len(body)), body


def decode_request(body: bytes | bytearray) -> Setup | Request:
    """What the gateway said, or `FrameError`."""
    try:
        message: Setup | Request = _FROM_GATEWAY.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(str(error)) from error
    return message


def decode_answer(body: bytes | bytearray) -> Ready | Answer:
    """What the worker said, or `FrameError`."""
    try:
        message: Ready | Answer = _FROM_WORKER.decode(body)
    except msgspec.MsgspecError as error:
        raise FrameError(str(error)) from error
    return message


class Frames:
    """Cuts a stream into the bodies of its frames, however the bytes arrive."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies that are complete with these bytes; `FrameError` at a length that cannot be."""
        self._held += data
        while len(self._held) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._held)
            if length > MAX_FRAME:
                raise FrameError(f"A frame of {length} bytes is announced.")
            end = LENGTH.size + length
            if len(self._held) < end:
                return
            body = bytes(memoryview(self._held)[LENGTH.size : end])
            del self._held[:end]
            yield body


def pack(array: Array, *, nulls: bool = False) -> Cell:
    """The tensor as it travels. Number types that are not served become the nearest that is."""
    shape = array.shape
    if array.dtype.kind in "OUT":
        values = array.ravel().tolist()
        if all(isinstance(value, str) or (nulls and value is None) for value in values):
            return Cell("string", shape, values)
        # A model's labels may be numbers in an array of objects.
        array = np.array(values)
        if array.dtype.kind not in "biuf" or array.ndim != 1:
            raise FrameError("A tensor of mixed objects cannot be sent.")
    if array.dtype.kind not in "biuf":
        raise FrameError(f"A tensor of {array.dtype} cannot be sent.")
    name = array.dtype.name
    if name not in _DTYPES:
        name = "float64" if array.dtype.kind == "f" else "int64"
    flat = np.ascontiguousarray(array, dtype=np.dtype(name)).reshape(-1).view(np.uint8)
    return Cell(name, shape, flat.data)  # type: ignore[arg-type]  # encoded as bytes, without a copy


def unpack(cell: Cell, *, nulls: bool = False) -> Array:
    """The tensor, writable and of its own; `FrameError` when data and shape do not agree."""
    count = math.prod(cell.shape)
    if any(size < 0 for size in cell.shape):
        raise FrameError(f"A tensor has shape {list(cell.shape)}.")
    if isinstance(cell.data, list):
        if cell.dtype != "string" or len(cell.data) != count:
            raise FrameError(f"{len(cell.data)} texts came for shape {list(cell.shape)} of {cell.dtype}.")
        if not nulls and None in cell.data:
            raise FrameError("A text is null.")
        return np.fromiter(cell.data, dtype=object, count=count).reshape(cell.shape)
    if cell.dtype not in _DTYPES:
        raise FrameError(f"A tensor of {cell.dtype!r} came.")
    dtype = np.dtype(cell.dtype)
    if len(cell.data) != count * dtype.itemsize:
        raise FrameError(f"{len(cell.data)} bytes came for shape {list(cell.shape)} of {cell.dtype}.")
    return np.frombuffer(cell.data, dtype).reshape(cell.shape).copy()
