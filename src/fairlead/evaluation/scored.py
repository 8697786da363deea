"""What is said between whoever wants rows scored and the process that scores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from fairlead.registry.versions import VersionSpec

__all__ = ["SIZE_BYTES", "Failed", "Ready", "Row", "Rows", "Scored", "Start", "Stream", "receive", "send"]

Row = Mapping[str, Any] | Sequence[Any]
"""Features by name, checked by the contract as a request's are; or values in contract order that were checked
before, as the log has them, which the model gets as they are."""

SIZE_BYTES = 4
_pack = msgspec.msgpack.Encoder().encode


class Scored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the version made of one row.

    `status` is as in the log: `ok`, `rejected` with `violations` when the row breaks the contract, `failed`
    when the model did. `prediction` and `probabilities` are as an answer has them, `flags` the findings that
    did not reject. `seconds` went into checking and running the row; rows that ran together share theirs.
    """

    status: Literal["ok", "rejected", "failed"]
    prediction: Any = None
    probabilities: dict[str, float] | None = None
    error_code: str | None = None
    error: str | None = None
    violations: list[dict[str, Any]] = []
    flags: list[dict[str, Any]] = []
    seconds: float = 0.0


class Start(msgspec.Struct, array_like=True, frozen=True):
    """Load this version from that folder. Names in `also_known` are dropped where the contract lacks them."""

    spec: VersionSpec
    folder: str
    also_known: frozenset[str]


class Ready(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """It is loaded and warm, by what, and after so many seconds."""

    runtime: str
    seconds: float


class Failed(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """It cannot be loaded, and why."""

    message: str
    remedy: str


class Rows(msgspec.Struct, array_like=True, frozen=True):
    """Score these, so many in one run."""

    rows: list[msgspec.Raw]
    together: int


class Stream(Protocol):
    """A blocking stream of bytes, such as a socket."""

    def recv(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Sends all of them."""
        ...


def send(stream: Stream, message: Any) -> None:
    """One message: its length in four bytes, little endian, then MessagePack."""
    data = _pack(message)
    stream.sendall(len(data).to_bytes(SIZE_BYTES, "little") + data)


def receive(stream: Stream) -> bytes:
    """The bytes of the next message; EOFError when there is none any more."""
    return _exactly(stream, int.from_bytes(_exactly(stream, SIZE_BYTES), "little"))


def _exactly(stream: Stream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = stream.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
