"""A gateway's socket to a worker: frames out at once, answers in without a copy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Protocol, cast

from fairlead.engine.frames import Answer, Buffer, FrameError, Frames

__all__ = ["Link"]


class Owner(Protocol):
    """Who uses the link."""

    def answered(self, answer: Answer, payload: memoryview) -> None:
        """The worker answers; `FrameError` when that makes no sense."""
        ...

    def garbage(self, reason: str) -> None:
        """The worker sent what is no answer."""
        ...

    def hung_up(self, link: Link) -> None:
        """The worker closed the connection."""
        ...


class Link(asyncio.BufferedProtocol):
    """The socket to the worker, for `owner`. Long answers are received where their tensors stay."""

    def __init__(self, owner: Owner, sock: socket.socket) -> None:
        self._owner = owner
        self._socket = sock
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Sends a frame; what the socket does not take at once waits in memory."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if len(buffers) > 1:
            transport.writelines(buffers)
            return
        (frame,) = buffers
        sent = 0
        if not transport.get_write_buffer_size():
            # At once: the loop would send it at the end of its turn, and the model is waiting.
            try:
                sent = self._socket.send(frame)
            except OSError:
                sent = 0  # full, or gone: the transport finds out
        if sent < len(frame):
            transport.write(memoryview(frame)[sent:])

    def close(self) -> None:
        """Hangs up at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio connected the socket."""
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio asks where the next bytes belong."""
        return self._frames.space()

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio has put bytes there."""
        try:
            for frame in self._frames.filled(nbytes):
                if not isinstance(frame.message, Answer):
                    raise FrameError("That is no answer.")
                self._owner.answered(frame.message, frame.payload)
        except FrameError as error:
            self._owner.garbage(f"it sent what is no answer ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        """asyncio sees that the worker closed its end."""
        self._owner.hung_up(self)
