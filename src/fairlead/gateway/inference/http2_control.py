"""What is said on a connection of HTTP/2 (RFC 9113) beside its requests: settings, windows, farewells.

All of it is counted: a peer that gives up again and again, or says much that brings no request on, loses its
connection.
"""

from __future__ import annotations

import struct
import time

from fairlead.gateway.inference.http2_out import (
    CALM,
    CANCEL,
    FLOW,
    FRAME_BYTES,
    FRAME_SIZE,
    GOAWAY,
    NO_ERROR,
    PING,
    PROTOCOL,
    SETTINGS,
    Broken,
    Outgoing,
    Stream,
    frame,
)

__all__ = ["ACK", "MOST_WINDOW", "Controlled", "require_priority"]

ACK = 0x1
MOST_WINDOW = 2**31 - 1
_PUSH_SETTING, _WINDOW_SETTING, _FRAME_SETTING = 2, 4, 5
_MOST_FRAME = 2**24 - 1
_LONGEST_FRAME = 256 * 1024
_MOST_GIVEN_UP = 1_000
"""Requests that a peer may give up or have refused beyond those that were answered; each second halves their
number."""
_MOST_ASIDE = 10_000
"""Frames that bring no request on; each second halves their number, too."""
_FAREWELL = b"farewell"
_FAREWELL_SECONDS = 1.0


class Controlled(Outgoing):
    """The part of a connection that is about the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.greeted = False
        self._last = 0  # stream that the peer opened,
        self._taken_up = 0  # and that we began to answer
        self._given_up = 0
        self._aside = 0
        self._parting = 0.0

    def forget(self, stream: Stream) -> None:
        super().forget(stream)
        if self._given_up and stream.ended:
            self._given_up -= 1

    def tend(self, now: float, seconds: float) -> None:
        """Gives up answers of which the peer has taken too little for so many seconds.

        To be called about once a second, with `time.perf_counter()`.
        """
        self._given_up //= 2
        self._aside //= 2
        if 0 < self.stuck_since < now - seconds:
            self.abort()
        for stream in list(self._blocked.values()):
            if stream.moved < now - seconds:
                self._end(stream, CANCEL)
        if 0 < self._parting < now - _FAREWELL_SECONDS:
            self._part()

    def leave(self) -> None:
        """Has the peer send no more requests, and closes once those are answered that were on their way."""
        if self._parting:
            return
        self._parting = time.perf_counter()
        if self.greeted:
            self.say_goodbye(MOST_WINDOW, NO_ERROR)
            self.write(frame(PING, 0, 0, _FAREWELL))
        else:
            self._part()

    def dismiss(self) -> None:
        """Closes a connection that has no requests, for another to take its place."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self.abort()
        else:
            self._part()

    def say_goodbye(self, last: int, code: int) -> None:
        """Says which stream is the last that is answered, and why."""
        self.write(frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big")))

    def _part(self) -> None:
        """Takes no more requests, and closes once those under way are answered."""
        if not self.leaving:
            self.leaving = True
            self.say_goodbye(self._taken_up, NO_ERROR)
            if not self.streams:
                self.close()

    # --- what a peer gives up, or has to --------------------------------------------------------------------

    def give_up(self, number: int, payload: bytes) -> None:
        """The peer resets a stream."""
        if len(payload) != 4:
            raise Broken(FRAME_SIZE)
        if not number & 1 or number > self._last:
            raise Broken(PROTOCOL)
        self._abandoned.pop(number, None)
        stream = self.streams.get(number)
        if stream is None:
            self.bear()
            return
        self.drop(stream)
        stream.given_up()
        self._count_given_up()
        if self.leaving and not self.streams:
            self.close()

    def overhear(self, number: int, ended: int, code: int) -> None:
        """What comes for a stream that is no more is on its way still, or should never have been sent."""
        if not number & 1 or number > self._last:
            raise Broken(PROTOCOL)
        if number not in self._abandoned:
            raise Broken(code)
        if ended:
            del self._abandoned[number]

    def spoil(self, stream: Stream) -> None:
        """A request turned out to be malformed."""
        self._end(stream, PROTOCOL)
        self._count_given_up()

    def _end(self, stream: Stream, code: int) -> None:
        self.drop(stream)
        self.reset(stream.id, code, ended=stream.ended)
        stream.given_up()
        if self.leaving and not self.streams:
            self.close()

    def refuse(self, number: int, code: int, *, ended: bool) -> None:
        """Takes up no request of that number."""
        self.reset(number, code, ended=ended)
        self._count_given_up()

    def _count_given_up(self) -> None:
        # Whoever asks and gives up again and again has us work for nothing.
        self._given_up += 1
        if self._given_up > _MOST_GIVEN_UP:
            raise Broken(CALM)

    def bear(self, cost: int = 1) -> None:
        """Counts what costs us something and brings no request on."""
        self._aside += cost
        if self._aside > _MOST_ASIDE:
            raise Broken(CALM)

    # --- what is said beside requests -----------------------------------------------------------------------

    def take_aside(self, kind: int, flags: int, payload: bytes) -> None:
        """Takes a ping, settings, or the peer's farewell, which asks nothing of a server."""
        if kind == PING:
            if len(payload) != 8:
                raise Broken(FRAME_SIZE)
            if not flags & ACK:
                self.write(frame(PING, ACK, 0, payload))
            elif payload == _FAREWELL and self._parting:
                self._part()
        elif kind == SETTINGS:
            if len(payload) % 6 or (flags & ACK and payload):
                raise Broken(FRAME_SIZE)
            if not flags & ACK:
                self._heed(payload)
        elif len(payload) < 8:
            raise Broken(FRAME_SIZE)

    def _heed(self, payload: bytes) -> None:
        """Takes on the peer's settings."""
        window = self.first_window
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _WINDOW_SETTING:
                if value > MOST_WINDOW:
                    raise Broken(FLOW)
                window = value
            elif name == _FRAME_SETTING:
                if not FRAME_BYTES <= value <= _MOST_FRAME:
                    raise Broken(PROTOCOL)
                self._frame = min(value, _LONGEST_FRAME)
            elif name == _PUSH_SETTING and value > 1:
                raise Broken(PROTOCOL)
        self.write(frame(SETTINGS, ACK, 0, b""))
        more = window - self.first_window
        if not more:
            return
        self.first_window = window
        self.bear(len(self.streams) // 8)
        for stream in list(self.streams.values()):
            stream.window += more
            if stream.window > MOST_WINDOW:
                raise Broken(FLOW)
            if stream.unsent:
                self.pump(stream)

    def widen(self, number: int, payload: bytes) -> None:
        """The peer takes more, of a stream or of all."""
        if len(payload) != 4:
            raise Broken(FRAME_SIZE)
        size = int.from_bytes(payload, "big") & MOST_WINDOW
        if not size:
            raise Broken(PROTOCOL)
        if not number:
            self._window += size
            if self._window > MOST_WINDOW:
                raise Broken(FLOW)
            self.pump_all()
            return
        stream = self.streams.get(number)
        if stream is not None:
            stream.window += size
            if stream.window > MOST_WINDOW:
                raise Broken(FLOW)
            if stream.unsent:
                self.pump(stream)
        elif not number & 1 or number > self._last:
            raise Broken(PROTOCOL)


def require_priority(number: int, payload: bytes) -> None:
    """Priorities are not heeded, but must be well-formed: five bytes, and a stream before none itself."""
    if len(payload) != 5:
        raise Broken(FRAME_SIZE)
    if not number or int.from_bytes(payload[:4], "big") & MOST_WINDOW == number:
        raise Broken(PROTOCOL)
