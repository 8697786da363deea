"""One connection of HTTP/2 (RFC 9113): frames to streams, and back.

Only what a server of gRPC needs: no pushes, no priorities. What a peer may cost is bounded: the streams at a
time, the headers, what it gives up and what it says beside its requests (`http2_control.py`), and what it
does not read, because then nothing more is read of it. A malformed request loses its stream; a peer that
breaks any other rule loses its connection.
"""

from __future__ import annotations

import asyncio
import struct
import time
from typing import Any, cast

from fairlead.gateway.inference.hpack import BrokenHeaders, Header, HeaderReader
from fairlead.gateway.inference.http2_control import ACK, MOST_WINDOW, Controlled, require_priority
from fairlead.gateway.inference.http2_headers import Malformed, require_request, require_trailers
from fairlead.gateway.inference.http2_out import (
    CALM,
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
    PING,
    PRIORITY,
    PROTOCOL,
    PUSH,
    REFUSED,
    RESET,
    SETTINGS,
    STREAM_CLOSED,
    STREAM_WINDOW,
    WINDOW,
    Broken,
    Stream,
    frame,
)

__all__ = ["Http2Connection"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_BYTES = 9

_END_STREAM, _END_HEADERS, _PADDED, _PRIORITIZED = 0x1, 0x4, 0x8, 0x20
_STREAMS_SETTING, _WINDOW_SETTING, _HEADERS_SETTING = 3, 4, 6

_STREAMS = 1_000
_CONNECTION_WINDOW = 16 * 2**20
_MOST_BLOCKS = 64
_LONGEST_BLOCK = 1_024
"""Header blocks of a connection whose meaning is kept: so many, and so long."""


class Http2Connection(Controlled):
    """A connection from its first byte to its last. A request's headers may count `most_headers` bytes."""

    def __init__(self, most_headers: int) -> None:
        super().__init__()
        self.began = time.perf_counter()
        # Larger headers are read, as their table is everybody's, and refused; far larger ones are not read.
        self._reader = HeaderReader(2 * most_headers)
        self._most_headers = most_headers
        self._blocks: dict[bytes, Any] = {}
        self._held = b""
        self._taken = 0
        self._partial: tuple[int, bool, bytearray] | None = None

    # --- for whoever answers --------------------------------------------------------------------------------

    def understood(self, headers: list[Header], *, too_large: bool) -> Any:
        """What the well-formed headers of a request say, in a form of the server's own; it may raise
        `Malformed`. It is kept and used again."""
        raise NotImplementedError

    def stream_of(self, number: int, meaning: Any) -> Stream:
        """The stream of a new request."""
        raise NotImplementedError

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
        for stream in list(self.streams.values()):
            self.drop(stream)
            stream.given_up()

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        try:
            place = 0 if self.greeted else self._greet(data)
            if self.greeted:
                place = self._read(data, place)
        except Broken as broken:
            self.say_goodbye(self._taken_up, broken.code)
            self.close()
        except BrokenHeaders:
            self.say_goodbye(self._taken_up, COMPRESSION)
            self.close()
        else:
            self._held = data[place:] if place < len(data) else b""

    def _greet(self, data: bytes) -> int:
        """Where the first frame begins, which has to be one of settings; 0 while it has not come."""
        size = len(_PREFACE)
        if not data.startswith(_PREFACE[: len(data)]):
            raise Broken(PROTOCOL)
        if len(data) < size + _HEAD_BYTES:
            return 0
        _, _, kind, flags, _ = HEAD.unpack_from(data, size)
        if kind != SETTINGS or flags & ACK:
            raise Broken(PROTOCOL)
        self.greeted = True
        return size

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
            number &= MOST_WINDOW
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
        size = len(payload)
        self._taken += size
        if self._taken >= _CONNECTION_WINDOW // 4:
            self.write(frame(WINDOW, 0, 0, self._taken.to_bytes(4, "big")))
            self._taken = 0
        if flags & _PADDED:
            payload = _unpadded(payload)
        stream = self.streams.get(number)
        if stream is None:
            self.overhear(number, flags & _END_STREAM, STREAM_CLOSED)
            return
        if stream.ended:
            raise Broken(STREAM_CLOSED)
        stream.room -= size
        if stream.room < 0:
            raise Broken(FLOW)
        if flags & _END_STREAM:
            stream.ended = True
        elif not payload:
            self.bear()
        if stream.due >= 0:
            stream.due -= len(payload)
            if stream.due < 0 or (stream.ended and stream.due):
                self.spoil(stream)
                return
        if size != len(payload):
            self.grant(stream, size - len(payload))
        stream.received(payload)

    def _take_headers(self, number: int, flags: int, payload: bytes) -> None:
        if not number & 1:
            raise Broken(PROTOCOL)
        if flags & _PADDED:
            payload = _unpadded(payload)
        if flags & _PRIORITIZED:
            require_priority(number, payload[:5])
            payload = payload[5:]
        if flags & _END_HEADERS:
            self._take_block(number, bool(flags & _END_STREAM), payload)
        else:
            self._partial = number, bool(flags & _END_STREAM), bytearray(payload)

    def _continue(self, number: int, flags: int, payload: bytes) -> None:
        if self._partial is None or self._partial[0] != number:
            raise Broken(PROTOCOL)
        _, ended, block = self._partial
        block += payload
        if len(block) > self._most_headers:
            raise Broken(CALM)
        if flags & _END_HEADERS:
            self._partial = None
            self._take_block(number, ended, bytes(block))
        elif not payload:
            self.bear()

    def _take_block(self, number: int, ended: bool, block: bytes) -> None:
        if number <= self._last:
            self._take_trailers(number, ended, self._decoded(block))
            return
        self._last = number
        meaning = self._blocks.get(block)
        if meaning is None:
            try:
                meaning = self._meaning(block)
            except Malformed:
                self.refuse(number, PROTOCOL, ended=ended)
                return
        if self.leaving or len(self.streams) >= _STREAMS:
            self.refuse(number, REFUSED, ended=ended)
            return
        self._taken_up = number
        stream = self.stream_of(number, meaning)
        stream.ended = ended
        self.streams[number] = stream
        if ended:
            if stream.due > 0:
                self.spoil(stream)
                return
            stream.begin()
            stream.received(b"")
        else:
            stream.begin()

    def _meaning(self, block: bytes) -> Any:
        changes = self._reader.changes
        headers = self._decoded(block)
        require_request(headers)
        meaning = self.understood(headers, too_large=self._reader.size > self._most_headers)
        if self._reader.changes == changes and len(block) <= _LONGEST_BLOCK:
            if len(self._blocks) >= _MOST_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = meaning
        return meaning

    def _decoded(self, block: bytes) -> list[Header]:
        changes = self._reader.changes
        headers = self._reader.read(block)
        if self._reader.changes != changes:
            self._blocks.clear()
        return headers

    def _take_trailers(self, number: int, ended: bool, headers: list[Header]) -> None:
        """The end of a request; its trailers say nothing to us."""
        stream = self.streams.get(number)
        if stream is None:
            self.overhear(number, ended, PROTOCOL)
            return
        if stream.ended:
            raise Broken(STREAM_CLOSED)
        try:
            require_trailers(headers)
        except Malformed:
            self.spoil(stream)
            return
        if not ended or stream.due > 0:
            self.spoil(stream)
            return
        stream.ended = True
        stream.received(b"")

    def _take_other(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == WINDOW:
            self.widen(number, payload)
        elif kind == RESET:
            self.give_up(number, payload)
        elif kind == CONTINUATION:
            self._continue(number, flags, payload)
        elif kind == PUSH:
            raise Broken(PROTOCOL)
        else:
            self.bear()
            if kind in (SETTINGS, PING, GOAWAY):
                if number:
                    raise Broken(PROTOCOL)
                self.take_aside(kind, flags, payload)
            elif kind == PRIORITY:
                require_priority(number, payload)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL)
    return payload[1 : len(payload) - payload[0]]
