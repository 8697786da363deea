"""One connection of HTTP/2 (RFC 9113): frames to streams, and back.

Only what a server of gRPC needs: no pushes, no priorities. What a peer may cost is bounded: the streams at a
time, the headers, what it gives up (`_MOST_GIVEN_UP`), and what it does not read, because then nothing more
is read of it. A peer that breaks the rules of a stream loses its connection.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any, cast

from fairlead.gateway.inference.hpack import BrokenHeaders, HeaderReader
from fairlead.gateway.inference.http2_out import (
    CALM,
    CANCEL,
    COMPRESSION,
    CONTINUATION,
    DATA,
    FIRST_WINDOW,
    FLOW,
    FRAME_BYTES,
    FRAME_SIZE,
    GOAWAY,
    HEAD,
    HEADERS,
    NO_ERROR,
    PING,
    PROTOCOL,
    PUSH,
    REFUSED,
    RESET,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_WINDOW,
    WINDOW,
    Broken,
    Outgoing,
    Stream,
    frame,
)

__all__ = ["Http2Connection"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES = 9

_END_STREAM, _END_HEADERS, _PADDED, _PRIORITIZED = 0x1, 0x4, 0x8, 0x20
_ACK = 0x1
_STREAMS_SETTING, _WINDOW_SETTING, _FRAME_SETTING, _HEADERS_SETTING = 3, 4, 5, 6

_STREAMS = 1_000
_CONNECTION_WINDOW = 16 * 2**20
_MOST_WINDOW = 2**31 - 1
_MOST_FRAME = 2**24 - 1
_LONGEST_FRAME = 256 * 1024
_MOST_GIVEN_UP = 1_000
"""Requests that a peer may give up beyond those that were answered; each second halves their number."""
_MOST_BLOCKS = 64
_LONGEST_BLOCK = 1_024
"""Header blocks of a connection whose meaning is kept: so many, and so long."""


class Http2Connection(Outgoing):
    """A connection from its first byte to its last. A request's headers may count `most_headers` bytes."""

    def __init__(self, most_headers: int) -> None:
        super().__init__()
        self.began = time.perf_counter()
        self.greeted = False
        self._reader = HeaderReader(most_headers)
        self._most_headers = most_headers
        self._blocks: dict[bytes, Any] = {}
        self._held = b""
        self._last = 0
        self._taken = 0
        self._partial: tuple[int, bool, bytearray] | None = None
        self._given_up = 0

    # --- for whoever answers --------------------------------------------------------------------------------

    def understood(self, headers: list[tuple[bytes, bytes]]) -> Any:
        """What the headers of a request say, in a form of the server's own. It is kept and used again."""
        raise NotImplementedError

    def begun(self, number: int, meaning: Any) -> Stream | None:
        """The stream of a new request; None when it was answered at once."""
        raise NotImplementedError

    def forget(self, stream: Stream) -> None:
        super().forget(stream)
        if self._given_up:
            self._given_up -= 1

    def tend(self, now: float, seconds: float) -> None:
        """Gives up answers of which the peer has taken nothing for so many seconds.

        To be called about once a second, with `time.perf_counter()`.
        """
        self._given_up //= 2
        if 0 < self.stuck_since < now - seconds:
            self.abort()
        for stream in list(self._blocked.values()):
            if stream.moved < now - seconds:
                self.streams.pop(stream.id, None)
                self._blocked.pop(stream.id)
                self.reset(stream.id, CANCEL)
                stream.given_up()

    def leave(self) -> None:
        """Takes no more requests, and closes once those under way are answered."""
        if not self.leaving:
            self.leaving = True
            self._say_goodbye(NO_ERROR)
        if not self.streams:
            self.close()

    # --- the connection -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport offers the interface without inheriting it.
        self._transport = cast("asyncio.Transport", transport)
        settings = (
            (_STREAMS_SETTING, _STREAMS),
            (_WINDOW_SETTING, STREAM_WINDOW),
            (_HEADERS_SETTING, self._most_headers),
        )
        body = b"".join(struct.pack(">HI", name, value) for name, value in settings)
        more = (_CONNECTION_WINDOW - FIRST_WINDOW).to_bytes(4, "big")
        self.write(frame(SETTINGS, 0, 0, body) + frame(WINDOW, 0, 0, more))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        streams, self.streams = self.streams, {}
        self._blocked.clear()
        for stream in streams.values():
            stream.given_up()

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        try:
            place = 0 if self.greeted else self._greet(data)
            if self.greeted:
                place = self._read(data, place)
        except Broken as broken:
            self._say_goodbye(broken.code)
            self.close()
        except BrokenHeaders:
            self._say_goodbye(COMPRESSION)
            self.close()
        else:
            self._held = data[place:] if place < len(data) else b""

    def _greet(self, data: bytes) -> int:
        if len(data) < len(_PREFACE) and _PREFACE.startswith(data):
            return 0
        if not data.startswith(_PREFACE):
            raise Broken(PROTOCOL)
        self.greeted = True
        return len(_PREFACE)

    def _say_goodbye(self, code: int) -> None:
        self.write(frame(GOAWAY, 0, 0, self._last.to_bytes(4, "big") + code.to_bytes(4, "big")))

    # --- frames that come -----------------------------------------------------------------------------------

    def _read(self, data: bytes, place: int) -> int:
        """Takes the whole frames from that place on; returns where the first that is not whole begins."""
        size = len(data)
        while size - place >= _HEAD_BYTES:
            high, low, kind, flags, number = HEAD.unpack_from(data, place)
            length = high << 8 | low
            if length > FRAME_BYTES:
                raise Broken(FRAME_SIZE)
            start = place + _HEAD_BYTES
            place = start + length
            if place > size:
                return start - _HEAD_BYTES
            payload = data[start:place]
            number &= _MOST_WINDOW
            if self._partial is not None and kind != CONTINUATION:
                raise Broken(PROTOCOL)
            if kind == DATA:
                self._take_data(number, flags, payload)
            elif kind == HEADERS:
                self._take_headers(number, flags, payload)
            else:
                self._take_other(kind, number, flags, payload)
        return place

    def _take_data(self, number: int, flags: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken >= _CONNECTION_WINDOW // 4:
            self.write(frame(WINDOW, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0
        if flags & _PADDED:
            payload = _unpadded(payload)
        stream = self.streams.get(number)
        if stream is None:
            if number > self._last or not number:
                raise Broken(PROTOCOL)
            return
        if stream.ended:
            raise Broken(STREAM_CLOSED)
        stream.ended = bool(flags & _END_STREAM)
        stream.received(payload)

    def _take_headers(self, number: int, flags: int, payload: bytes) -> None:
        if not number & 1:
            raise Broken(PROTOCOL)
        if flags & _PADDED:
            payload = _unpadded(payload)
        if flags & _PRIORITIZED:
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._take_block(number, bool(flags & _END_STREAM), payload)
        else:
            self._partial = number, bool(flags & _END_STREAM), bytearray(payload)

    def _continue(self, number: int, flags: int, payload: bytes) -> None:
        if self._partial is None or self._partial[0] != number or not payload:
            raise Broken(PROTOCOL)
        _, ended, block = self._partial
        block += payload
        if len(block) > self._most_headers:
            raise Broken(CALM)
        if flags & _END_HEADERS:
            self._partial = None
            self._take_block(number, ended, bytes(block))

    def _take_block(self, number: int, ended: bool, block: bytes) -> None:
        blocks = self._blocks
        meaning = blocks.get(block)
        if meaning is None:
            changes = self._reader.changes
            meaning = self.understood(self._reader.read(block))
            if self._reader.changes != changes or len(blocks) >= _MOST_BLOCKS:
                blocks.clear()
            if self._reader.changes == changes and len(block) <= _LONGEST_BLOCK:
                blocks[block] = meaning
        if number <= self._last:
            known = self.streams.get(number)
            if known is not None and not known.ended:
                if not ended:
                    raise Broken(PROTOCOL)
                known.ended = True  # by trailers, which say nothing to us
                known.received(b"")
            return
        if self.leaving:
            self.reset(number, REFUSED)
            return
        self._last = number
        if len(self.streams) >= _STREAMS:
            self.reset(number, REFUSED)
            return
        stream = self.begun(number, meaning)
        if stream is not None:
            self.streams[number] = stream
            if ended:
                stream.ended = True
                stream.received(b"")

    def _take_other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == WINDOW:
            self._widen(number, payload)
        elif kind == PING:
            if len(payload) != 8 or number:
                raise Broken(FRAME_SIZE)
            if not flags & _ACK:
                self.write(frame(PING, _ACK, 0, payload))
        elif kind == SETTINGS:
            if number or len(payload) % 6:
                raise Broken(FRAME_SIZE)
            if not flags & _ACK:
                self._heed(payload)
        elif kind == RESET:
            self._give_up(number, payload)
        elif kind == CONTINUATION:
            self._continue(number, flags, payload)
        elif kind == PUSH:
            raise Broken(PROTOCOL)

    def _give_up(self, number: int, payload: bytes) -> None:
        if len(payload) != 4 or not number or number > self._last:
            raise Broken(PROTOCOL)
        stream = self.streams.pop(number, None)
        if stream is None:
            return
        self._blocked.pop(number, None)
        stream.given_up()
        # Whoever asks and gives up again and again has us work for nothing.
        self._given_up += 1
        if self._given_up > _MOST_GIVEN_UP:
            raise Broken(CALM)

    def _heed(self, payload: bytes) -> None:
        """Takes on the peer's settings."""
        for place in range(0, len(payload), 6):
            name, value = struct.unpack_from(">HI", payload, place)
            if name == _WINDOW_SETTING:
                if value > _MOST_WINDOW:
                    raise Broken(FLOW)
                for stream in self.streams.values():
                    stream.window += value - self.first_window
                self.first_window = value
            elif name == _FRAME_SETTING:
                if not FRAME_BYTES <= value <= _MOST_FRAME:
                    raise Broken(PROTOCOL)
                self._frame = min(value, _LONGEST_FRAME)
        self.write(frame(SETTINGS, _ACK, 0, b""))
        self.pump_all()

    def _widen(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(FRAME_SIZE)
        size = int.from_bytes(payload, "big") & _MOST_WINDOW
        if not number:
            self._window += size
            if not size or self._window > _MOST_WINDOW:
                raise Broken(FLOW)
            self.pump_all()
            return
        stream = self.streams.get(number)
        if stream is not None:
            stream.window += size
            if not size or stream.window > _MOST_WINDOW:
                raise Broken(FLOW)
            if stream.unsent:
                self.pump(stream)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL)
    return payload[1 : len(payload) - payload[0]]
