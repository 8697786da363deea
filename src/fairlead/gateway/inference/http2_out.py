"""What a server of HTTP/2 (RFC 9113) sends: frames, within the windows that its peer gives."""

from __future__ import annotations

import asyncio
import struct
import time

HEAD = struct.Struct(">HBBBI")
"""The nine bytes before each frame: its length in two parts, kind, flags and stream."""

DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
NO_ERROR, PROTOCOL, FLOW, STREAM_CLOSED, FRAME_SIZE = 0, 1, 3, 5, 6
REFUSED, CANCEL, COMPRESSION, CALM = 7, 8, 9, 11

FRAME_BYTES = 16_384
STREAM_WINDOW = 2**20
FIRST_WINDOW = 65_535

_MOST_ABANDONED = 4_096
_TAKEN_BYTES = 64 * 1024
_NO_TABLE = b"\x20"


class Broken(Exception):
    """The peer broke the protocol: the connection ends with that code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Stream:
    """A request and its answer. `window` is what the peer still takes; `unsent` waits for more of it, and
    64 KiB of that were taken since `moved`; `tail`, a whole frame, ends the answer. `room` is what the peer
    may still send, `due` what it announced and has not sent yet (-1: it announced nothing), and `ended`
    tells that it has said everything."""

    __slots__ = (
        "connection", "due", "ended", "id", "moved", "room", "tail", "taken", "took", "unsent", "window",
    )  # fmt: skip

    def __init__(self, connection: Outgoing, number: int, due: int = -1) -> None:
        self.connection = connection
        self.id = number
        self.window = connection.first_window
        self.room = STREAM_WINDOW
        self.due = due
        self.ended = False
        self.taken = 0
        self.unsent = bytearray()
        self.tail = b""
        self.moved = 0.0
        self.took = 0

    def begin(self) -> None:
        """The headers have come."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Data has come; when `ended`, nothing more will."""
        raise NotImplementedError

    def sent(self) -> None:
        """All that waited to be sent has left."""

    def given_up(self) -> None:
        """The peer does not want the answer any more, or is gone."""
        raise NotImplementedError


class Outgoing(asyncio.Protocol):
    """The half of a connection that sends. While the peer does not read, nothing more is read of it.

    `unsent` counts the bytes of all streams that wait for the peer's windows.
    """

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.leaving = False
        self.stuck_since = 0.0
        self.first_window = FIRST_WINDOW
        self.unsent = 0
        self._transport: asyncio.Transport | None = None
        self._window = FIRST_WINDOW
        self._frame = FRAME_BYTES
        self._fresh = True
        self._blocked: dict[int, Stream] = {}
        self._ready: dict[int, Stream] = {}  # those of `_blocked` that wait for the connection's window alone
        self._abandoned: dict[int, None] = {}

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def heads(self, number: int, flags: int, block: bytes) -> bytes:
        """A frame of headers, to be written at once.

        The first of a connection says that we keep no table: a peer may allow as small a one as it likes.
        """
        if self._fresh:
            self._fresh = False
            block = _NO_TABLE + block
        return frame(HEADERS, flags, number, block)

    def fits(self, stream: Stream, size: int) -> bool:
        """Whether headers that were made before and so many bytes of data may leave at once, the data in one
        frame; they count as sent then."""
        if size > self._frame or size > self._window or size > stream.window or stream.unsent or self._fresh:
            return False
        self._window -= size
        stream.window -= size
        return True

    def send(self, stream: Stream, data: bytes, tail: bytes = b"") -> None:
        """Sends data as far as the windows allow and the rest later; `tail` ends the answer."""
        stream.unsent += data
        self.unsent += len(data)
        stream.tail = tail
        self.pump(stream)

    def forget(self, stream: Stream) -> None:
        """The answer is complete."""
        self.drop(stream)
        if not stream.ended:
            self.reset(stream.id, NO_ERROR, ended=False)
        if self.leaving and not self.streams:
            self.close()

    def drop(self, stream: Stream) -> None:
        """Nothing more is sent on that stream."""
        number = stream.id
        self.streams.pop(number, None)
        if stream.unsent:
            self.unsent -= len(stream.unsent)
            stream.unsent = bytearray()
            self._blocked.pop(number, None)
            self._ready.pop(number, None)

    def reset(self, number: int, code: int, *, ended: bool) -> None:
        """Ends a stream. Unless the peer has `ended` it, more of it may be on its way, and is overheard."""
        self.write(frame(RESET, 0, number, code.to_bytes(4, "big")))
        if not ended:
            self._abandoned[number] = None
            if len(self._abandoned) > _MOST_ABANDONED:
                del self._abandoned[next(iter(self._abandoned))]

    def grant(self, stream: Stream, size: int) -> None:
        """The peer may send so many more bytes on that stream."""
        stream.taken += size
        if stream.taken >= STREAM_WINDOW // 4 and not stream.ended:
            self.write(frame(WINDOW, 0, stream.id, stream.taken.to_bytes(4, "big")))
            stream.room += stream.taken
            stream.taken = 0

    def pump_all(self) -> None:
        """Sends what the connection's window held back, a little of each stream in turn."""
        while self._window > 0 and self._ready:
            self.pump(next(iter(self._ready.values())))

    def pump(self, stream: Stream) -> None:
        """Sends what the windows allow of what waits."""
        unsent = stream.unsent
        place = 0
        parts = []
        while place < len(unsent):
            size = min(len(unsent) - place, self._frame, self._window, stream.window)
            if size <= 0:
                break
            self._window -= size
            stream.window -= size
            parts.append(frame(DATA, 0, stream.id, bytes(unsent[place : place + size])))
            place += size
        del unsent[:place]
        self.unsent -= place
        self._ready.pop(stream.id, None)
        if unsent:
            self._blocked[stream.id] = stream
            if stream.window > 0:
                self._ready[stream.id] = stream
            stream.took += place
            if stream.took >= _TAKEN_BYTES or not stream.moved:
                stream.moved = time.perf_counter()
                stream.took = 0
        else:
            self._blocked.pop(stream.id, None)
            parts.append(stream.tail)
            stream.moved = 0.0
            stream.took = 0
        if parts:
            self.write(b"".join(parts))
        if not unsent:
            if stream.tail:
                self.forget(stream)
            stream.sent()

    def close(self) -> None:
        """Closes once what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """The peer reads slowly: nothing more is read of it until it has caught up."""
        self.stuck_since = time.perf_counter()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.stuck_since = 0.0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """A frame of that stream, 0 for the connection."""
    return HEAD.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, number) + payload
