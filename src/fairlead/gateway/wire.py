"""The transport of a connection: what waits to be sent, and when nothing more is read or written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from fairlead.gateway.connection import HttpConnection
    from fairlead.gateway.protocol import HttpServer

__all__ = ["STEP_BYTES", "Wire"]

STEP_BYTES = 64 * 1024
"""What a slow caller takes of its answers at least, within `write_seconds`."""

_LINGER_SECONDS = 1.0
_UNAVAILABLE = b"HTTP/1.1 503"


class Wire(asyncio.Protocol):
    """A transport that may be gone, and how it is paused and closed."""

    __slots__ = (
        "_careful", "_closing", "_late", "_mark", "_read_at", "_reading", "_resting", "_server",
        "_stuck", "_transport", "_unread_since",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._careful = False  # something is out of the ordinary
        self._resting = False  # goes on in a later turn
        self._transport: asyncio.Transport | None = None
        self._closing = False  # nothing more is written
        self._reading = True
        self._read_at = time.perf_counter()  # when something was read last
        self._unread_since = 0.0  # since when something may lie there that the last read has left; or 0
        self._late = 0.0  # the same of what is read now; 0 if reading went on
        self._stuck = False  # the transport holds more than it likes
        self._mark = (0, 0.0)  # unsent bytes, and when there were so many

    def close(self) -> None:
        """Closes once what was written has left."""
        self._begin_closing()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._begin_closing()
        if self._transport is not None:
            self._transport.abort()

    def _begin_closing(self) -> None:
        self._closing = True
        self._mark_unsent()

    def _close_gently(self) -> None:
        """Closes our half and reads on for a moment.

        A caller who is still sending would otherwise see a reset instead of the answer.
        """
        self._begin_closing()
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write_eof()
        self._go_on_reading()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, transport.close)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _write_answers(self, answers: Sequence[bytes]) -> None:
        if answers and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(answers))
            if any(answer.startswith(_UNAVAILABLE) for answer in answers):
                # A caller who asks on at once must cost less than one who heeds Retry-After: what he sends
                # meanwhile is read in one go.
                self._rest()

    def _rest(self) -> None:
        """Goes on in a later turn."""
        if not self._resting:
            self._resting = self._careful = True
            self._stop_reading()
            self._server.rest(cast("HttpConnection", self))

    def _unsent(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _mark_unsent(self) -> None:
        self._mark = (self._unsent(), time.perf_counter())

    def _takes_nothing(self, now: float, seconds: float) -> bool:
        """Whether the caller has taken less than a step of what waits for it, in so many seconds."""
        marked, since = self._mark
        left = self._unsent()
        if not left or left <= marked - STEP_BYTES or left > marked:
            self._mark = (left, now)
            return False
        return since < now - seconds

    def _stop_reading(self) -> None:
        if self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._unread_since = self._unread_since or self._read_at
            self._transport.pause_reading()

    def _go_on_reading(self) -> None:
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()
