"""What gateways, model host and model workers say to each other: frames on local stream sockets.

A frame is two unsigned 32-bit little-endian integers, the bytes of its head and of its payload; then the
head, one MessagePack message; then the payload, the numbers of its tensors in C order. Each part is padded to
eight bytes, so that numbers are used where they were received. Needs numpy and msgspec alone, since a worker
may run in an environment of its own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "MAX_FRAME",
    "Answer",
    "Array",
    "Broken",
    "Buffer",
    "Cancel",
    "Failed",
    "Frame",
    "FrameError",
    "Frames",
    "Jobs",
    "Lease",
    "Loaded",
    "Lost",
    "Measure",
    "Measurement",
    "Message",
    "Ping",
    "Pong",
    "Release",
    "Setup",
    "Tensor",
    "Terms",
    "There",
    "WorkerSpec",
    "encode",
    "pack",
    "unpack",
]

Array = npt.NDArray[Any]
Buffer = bytes | bytearray | memoryview

MAX_FRAME = 1 << 30
"""Bytes; what claims to be longer is garbage."""

_SIZES = struct.Struct("<II")
_ALIGNMENT = 8
_ROOM = 1 << 16
_DTYPES = {name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "bool")}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_PADDING = bytes(_ALIGNMENT)


class FrameError(ValueError):
    """The bytes are no frame, or no message that is expected here."""


class Tensor(msgspec.Struct, array_like=True, gc=False):
    """One tensor of a message. Its numbers lie in the payload, after those of the tensors before it; `texts`
    (dtype `string`) are here. Texts on their way to a model may be null; those that it answers may not."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    texts: list[str | None] | None = None


# --- between gateways and a worker --------------------------------------------------------------------------


class Terms(msgspec.Struct, array_like=True, tag="terms", frozen=True):
    """How a worker joins and bounds: rows in one run, seconds that a row may wait for company, and rows and
    bytes that may wait. The latest of any gateway counts."""

    max_batch_rows: int = 1_000
    queue_delay: float = 0.0
    max_queue_rows: int = 10_000
    max_queue_bytes: int = 256 * 2**20


class Jobs(msgspec.Struct, array_like=True, tag="jobs"):
    """Rows to predict, as jobs that lie one after the other in the tensors: each job's number, its rows, its
    deadline on the system's monotonic clock, and its priority (1 first; 0 after all others)."""

    jobs: list[tuple[int, int, float, int]]
    tensors: list[Tensor]


class Cancel(msgspec.Struct, array_like=True, tag="cancel"):
    """Nobody waits for these jobs any more."""

    ids: list[int]


class Answer(msgspec.Struct, array_like=True, tag="answer"):
    """The wanted tensors for some jobs, one after the other as `ids` names them; or why there are none.

    `error` is `raised`, `expired`, `full` or `cancelled`; `message` says it in words. `rows` and `seconds`
    tell of the run that they were part of, `counted` whether this gateway counts it, `waiting` what waits.
    """

    ids: list[int]
    tensors: list[Tensor] = []
    error: str | None = None
    message: str = ""
    rows: int = 0
    seconds: float = 0.0
    counted: bool = False
    waiting: int = 0


# --- between the host and its workers -----------------------------------------------------------------------


class WorkerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A version as its worker needs it: whoever names the same shares a worker.

    `outputs` gives the tensor's name for each part that it plays, as in `OutputNames`, `names` the features'
    names in the contract's order.
    """

    digest: str
    kind: str
    folder: str
    entry: str
    outputs: dict[str, str]
    names: tuple[str, ...] = ()
    instances: int = 1
    threads: int = 1


class Setup(msgspec.Struct, array_like=True, tag="setup"):
    """What a worker loads and where it listens."""

    spec: WorkerSpec
    socket: str


class Loaded(msgspec.Struct, array_like=True, tag="loaded"):
    """The worker's answer to it. `error` says in words why the model cannot be loaded."""

    error: str | None = None


class Ping(msgspec.Struct, array_like=True, tag="ping"):
    """Are you there?"""


class Pong(msgspec.Struct, array_like=True, tag="pong"):
    """I am: the seconds that the oldest run under way has taken so far, rows that wait, and my process id."""

    running: float
    waiting: int
    pid: int


# --- between gateways and the host --------------------------------------------------------------------------


class Lease(msgspec.Struct, array_like=True, tag="lease"):
    """A gateway needs that worker, within these bounds: bytes of memory, seconds for a run and for loading.
    The same number again changes the bounds."""

    id: int
    spec: WorkerSpec
    memory_limit: int
    timeout: float
    load_timeout: float


class Release(msgspec.Struct, array_like=True, tag="release"):
    """It needs it no more."""

    id: int


class There(msgspec.Struct, array_like=True, tag="there"):
    """The leased worker has loaded its model and listens at that path."""

    id: int
    socket: str
    pid: int


class Failed(msgspec.Struct, array_like=True, tag="failed"):
    """The leased worker cannot load its model; the lease is over."""

    id: int
    reason: str


class Lost(msgspec.Struct, array_like=True, tag="lost"):
    """The leased worker is gone, or still not back, for that reason; `There` follows when it is back."""

    id: int
    reason: str


class Broken(msgspec.Struct, array_like=True, tag="broken"):
    """A gateway got from its worker what is no answer."""

    id: int
    pid: int
    reason: str


class Measure(msgspec.Struct, array_like=True, tag="measure"):
    """What does a row cost in this version? `task` is JSON that `runtimes.placement` understands."""

    id: int
    task: bytes


class Measurement(msgspec.Struct, array_like=True, tag="measurement"):
    """The answer as JSON, or message and remedy of the refusal."""

    id: int
    found: bytes | None = None
    refusal: tuple[str, str] = ("", "")


Message = (
    Terms | Jobs | Cancel | Answer | Setup | Loaded | Ping | Pong
    | Lease | Release | There | Failed | Lost | Broken | Measure | Measurement
)  # fmt: skip

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message, numbers: Sequence[Array] = ()) -> list[Buffer]:
    """The buffers of the message's frame, in order; `FrameError` when it is longer than a frame may be."""
    head = _ENCODER.encode(message)
    payload = sum([array.nbytes + -array.nbytes % _ALIGNMENT for array in numbers])
    if len(head) + payload > MAX_FRAME:
        raise FrameError(
            f"A message of {len(head) + payload} bytes is longer than the {MAX_FRAME} of a frame."
        )
    parts: list[Any] = [_SIZES.pack(len(head), payload), head, _PADDING[: -len(head) % _ALIGNMENT]]
    for array in numbers:
        parts += (array, _PADDING[: -array.nbytes % _ALIGNMENT])
    if payload < _ROOM:
        return [b"".join(parts)]  # small frames go out in one piece: that costs less than a longer list
    found = [part if isinstance(part, bytes) else part.reshape(-1).view(np.uint8).data for part in parts]
    return [part for part in found if len(part)]


class Frame:
    """A received frame: its message, and the bytes that its tensors' numbers lie in; `FrameError` when it is
    no message."""

    __slots__ = ("message", "payload")

    def __init__(self, body: memoryview, head: int) -> None:
        try:
            self.message = _DECODER.decode(body[:head])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise FrameError(str(error)) from error
        self.payload = body[head + -head % _ALIGNMENT :]


class Frames:
    """Cuts a stream into frames: read into `space()`, then tell `filled()` how many bytes came.

    A long frame is read into memory of its own, so that its tensors need not be copied.
    """

    def __init__(self) -> None:
        self._room = bytearray(_ROOM)
        self._held = 0
        self._long: bytearray | None = None

    def space(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return memoryview(self._room if self._long is None else self._long)[self._held :]

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete with these bytes, for those who are given bytes."""
        found: list[Frame] = []
        view = memoryview(data)
        while view:
            space = self.space()
            count = min(len(space), len(view))
            space[:count] = view[:count]
            found += self.filled(count)
            view = view[count:]
        return found

    def filled(self, count: int) -> list[Frame]:
        """The frames that are complete with these bytes; `FrameError` at a length that cannot be."""
        self._held += count
        if self._long is not None:
            if self._held < len(self._long):
                return []
            whole, self._long, self._held = self._long, None, 0
            return [_cut(memoryview(whole))]
        found: list[Frame] = []
        room = self._room
        start = 0
        while self._held - start >= _SIZES.size:
            size = _size(room, start)
            if start + size > self._held:
                break
            # A copy, since the room is used again and models may write into what they get.
            found.append(_cut(memoryview(room[start : start + size])))
            start += size
        rest = room[start : self._held]
        self._held = len(rest)
        if len(rest) >= _SIZES.size and (size := _size(rest, 0)) > _ROOM:
            self._long = bytearray(size)
            self._long[: len(rest)] = rest
        else:
            room[: len(rest)] = rest
        return found


def _size(room: bytearray, start: int) -> int:
    """Bytes of the whole frame that begins there."""
    head, payload = _SIZES.unpack_from(room, start)
    if head + payload > MAX_FRAME:
        raise FrameError(f"A frame of {head + payload} bytes is announced.")
    return int(_SIZES.size + head + -head % _ALIGNMENT + payload)


def _cut(whole: memoryview) -> Frame:
    (head, _) = _SIZES.unpack_from(whole)
    return Frame(whole[_SIZES.size :], head)


def pack(tensors: Mapping[str, Array], *, nulls: bool = False) -> tuple[list[Tensor], list[Array]]:
    """The tensors as they travel: for the message, and for the payload. Number types that are not served
    become the nearest that is; `FrameError` for what cannot be sent."""
    described: list[Tensor] = []
    numbers: list[Array] = []
    for name, array in tensors.items():
        if array.dtype.kind in "OUT":
            values = array.ravel().tolist()
            if all(isinstance(value, str) or (nulls and value is None) for value in values):
                described.append(Tensor(name, "string", array.shape, values))
                continue
            shape = array.shape
            # A model's labels may be numbers in an array of objects.
            array = np.array(values)
            if array.dtype.kind not in "biuf" or array.ndim != 1:
                raise FrameError("A tensor of mixed objects cannot be sent.")
            array = array.reshape(shape)
        if array.dtype.kind not in "biuf":
            raise FrameError(f"A tensor of {array.dtype} cannot be sent.")
        dtype = _NAMES.get(array.dtype) or array.dtype.name  # which numpy makes up in Python each time
        if dtype not in _DTYPES:
            dtype = "float64" if array.dtype.kind == "f" else "int64"
        described.append(Tensor(name, dtype, array.shape))
        numbers.append(np.ascontiguousarray(array, _DTYPES[dtype]))
    return described, numbers


def unpack(tensors: Sequence[Tensor], payload: memoryview, *, nulls: bool = False) -> dict[str, Array]:
    """The tensors, over the payload's memory; `FrameError` when it and the shapes do not agree."""
    found: dict[str, Array] = {}
    offset = 0
    for tensor in tensors:
        if min(tensor.shape, default=0) < 0:
            raise FrameError(f"A tensor has shape {list(tensor.shape)}.")
        count = math.prod(tensor.shape)
        if tensor.dtype == "string":
            found[tensor.name] = _texts(tensor, count, nulls)
            continue
        dtype = _DTYPES.get(tensor.dtype)
        if dtype is None:
            raise FrameError(f"A tensor of {tensor.dtype!r} came.")
        size = count * dtype.itemsize
        if offset + size > len(payload):
            raise FrameError(f"{len(payload)} bytes came, too few for shape {list(tensor.shape)} of {dtype}.")
        found[tensor.name] = np.frombuffer(payload, dtype, count, offset).reshape(tensor.shape)
        offset += size + -size % _ALIGNMENT
    if offset != len(payload):
        raise FrameError(f"{len(payload)} bytes came and {offset} were announced.")
    return found


def _texts(tensor: Tensor, count: int, nulls: bool) -> Array:
    texts = tensor.texts
    if texts is None or len(texts) != count:
        raise FrameError(f"Texts do not fill shape {list(tensor.shape)}.")
    if not nulls and None in texts:
        raise FrameError("A text is null.")
    return np.fromiter(texts, dtype=object, count=count).reshape(tensor.shape)
