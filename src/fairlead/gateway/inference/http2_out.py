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


class Broken(Exception):
    """The peer broke the protocol: the connection ends with that code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Stream:
    """A request and its answer. `window` is what the peer still takes; `unsent` waits for more of it since
    `moved`; `tail`, a whole frame, ends the answer. `ended` tells that the peer has said everything."""

    __slots__ = ("connection", "ended", "id", "moved", "tail", "taken", "unsent", "window")

    def __init__(self, connection: Outgoing, number: int) -> None:
        self.connection = connection
        self.id = number
        self.window = connection.first_window
        self.ended = False
        self.taken = 0
        self.unsent = bytearray()
        self.tail = b""
        self.moved = 0.0

    def received(self, data: bytes) -> None:
        """Data has come; when `ended`, nothing more will."""
        raise NotImplementedError

    def sent(self) -> None:
        """All that waited to be sent has left."""

    def given_up(self) -> None:
        """The peer does not want the answer any more, or is gone."""
        raise NotImplementedError


class Outgoing(asyncio.Protocol):
    """The half of a connection that sends. While the peer does not read, nothing more is read of it."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.leaving = False
        self.stuck_since = 0.0
        self.first_window = FIRST_WINDOW
        self._transport: asyncio.Transport | None = None
        self._window = FIRST_WINDOW
        self._frame = FRAME_BYTES
        self._blocked: dict[int, Stream] = {}

    def write(self, data: bytes) -> None:
        """Sends bytes as they are."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def fits(self, stream: Stream, size: int) -> bool:
        """Whether so many bytes of data may leave at once, in one frame; they count as sent then."""
        if size > self._frame or size > self._window or size > stream.window or stream.unsent:
            return False
        self._window -= size
        stream.window -= size
        return True

    def send(self, stream: Stream, data: bytes, tail: bytes = b"") -> None:
        """Sends data as far as the windows allow and the rest later; `tail` ends the answer."""
        stream.unsent += data
        stream.tail = tail
        self.pump(stream)

    def forget(self, stream: Stream) -> None:
        """The answer is complete."""
        self.streams.pop(stream.id, None)
        self._blocked.pop(stream.id, None)
        if not stream.ended:
            self.reset(stream.id, NO_ERROR)
        if self.leaving and not self.streams:
            self.close()

    def reset(self, number: int, code: int) -> None:
        """Ends a stream without an answer."""
        self.write(frame(RESET, 0, number, code.to_bytes(4, "big")))

    def grant(self, stream: Stream, size: int) -> None:
        """The peer may send so many more bytes on that stream."""
        stream.taken += size
        if stream.taken >= STREAM_WINDOW // 4 and not stream.ended:
            self.write(frame(WINDOW, 0, stream.id, stream.taken.to_bytes(4, "big")))
            stream.taken = 0

    def pump_all(self) -> None:
        """Sends what the connection's window held back."""
        for stream in list(self._blocked.values()):
            self.pump(stream)

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
        if unsent:
            self._blocked[stream.id] = stream
            if place or not stream.moved:
                stream.moved = time.perf_counter()
        else:
            self._blocked.pop(stream.id, None)
            parts.append(stream.tail)
            stream.moved = 0.0
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
