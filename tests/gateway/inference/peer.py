"""A caller of HTTP/2 that writes its frames by hand."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import numpy as np
from tritonclient.utils import np_to_triton_dtype

from fairlead.gateway.inference.hpack import HeaderReader, written
from fairlead.gateway.inference.messages import message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x4, 0x8, 0x20
ROWS = np.random.default_rng(0).uniform(0, 10, (9, 4)).astype(np.float32)
INFER = "/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def block(path: str = INFER, kind: bytes = b"application/grpc", *more: tuple[bytes, bytes]) -> bytes:
    return written(
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"me"),
        (b"content-type", kind), (b"te", b"trailers"), *more,
    )  # fmt: skip


def asked(model: str, name: str, array: np.ndarray) -> bytes:
    made = message("ModelInferRequest")(model_name=model, raw_input_contents=[array.tobytes()])
    made.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
    raw = made.SerializeToString()
    return b"\0" + len(raw).to_bytes(4, "big") + raw


def request(rows: np.ndarray = ROWS) -> bytes:
    return asked("iris", "X", rows)


class Peer:
    """A caller that writes its frames by hand."""

    def __init__(self, port: int, *, settings: bytes = b"", greet: bool = True) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.seen: list[tuple[int, int, int, bytes]] = []
        self._read = b""
        self._headers = HeaderReader(2**16)
        if greet:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def flood(self, data: bytes) -> None:
        """Sends as much as the server takes."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            self.send(data)

    def finish(self) -> None:
        """Sends no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What comes, until the server closes."""
        while True:
            while len(self._read) < 9 or len(self._read) < 9 + int.from_bytes(self._read[:3], "big"):
                try:
                    more = self._socket.recv(65_536)
                except ConnectionError:
                    return
                if not more:
                    return
                self._read += more
            end = 9 + int.from_bytes(self._read[:3], "big")
            kind, flags, stream = struct.unpack(">BBI", self._read[3:9])
            payload, self._read = self._read[9:end], self._read[end:]
            self.seen.append((kind, flags, stream, payload))
            yield kind, flags, stream, payload

    def answer(self, stream: int) -> tuple[bytes, dict[bytes, bytes]]:
        """The data of a stream and its headers and trailers, once it has ended."""
        data, said = b"", {}
        for kind, flags, number, payload in self.frames():
            if number != stream:
                continue
            if kind == DATA:
                data += payload
            if kind == HEADERS:
                said |= dict(self._headers.read(payload))
            if flags & END_STREAM and kind in (DATA, HEADERS):
                return data, said
        raise AssertionError("the server closed instead")

    def goodbye(self) -> int | None:
        """The code with which the server ends the connection."""
        code = None
        for kind, _, _, payload in self.frames():
            if kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
        return code

    def reset(self, stream: int) -> int:
        """The code with which the server resets a stream."""
        for kind, _, number, payload in self.frames():
            if (kind, number) == (RESET, stream):
                return int.from_bytes(payload, "big")
        raise AssertionError("the server closed instead")

    def close(self) -> None:
        self._socket.close()


def rows_answered(data: bytes) -> int:
    answer = message("ModelInferResponse").FromString(data[5:])
    return int(answer.outputs[0].shape[0])
