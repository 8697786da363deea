"""Calls of gRPC over HTTP/2: one message for one answer as a walk of its turn, streams as tasks.

What is spoken is gRPC's PROTOCOL-HTTP2.md. Answers are never compressed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from fairlead.errors import NotSupported
from fairlead.gateway import refusals
from fairlead.gateway.compression import inflated
from fairlead.gateway.inference.grpc_opening import (
    ANSWER_HEAD,
    ANSWER_TAIL,
    Method,
    Opening,
    ending,
    in_two,
    opening_of,
)
from fairlead.gateway.inference.hpack import Header, written
from fairlead.gateway.inference.http2 import Http2Connection
from fairlead.gateway.inference.http2_out import Stream
from fairlead.gateway.limits import Limits
from fairlead.serving.turns import Canceller, Turns

__all__ = ["Call", "GrpcConnection", "Service", "StreamCall"]

OK, CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 1, 4, 8, 12, 13

_END_HEADERS, _LAST = 0x4, 0x5
_ENCODINGS = ("gzip", "deflate")
_PREFIX_BYTES = 5
_MESSAGE_BYTES = 64
"""What a message that waits takes beside its bytes."""
_GRACE_SECONDS = 0.5
"""So much later than its deadline a call is ended that has not ended by itself."""
_NOT_ONE_MESSAGE = "The call does not hold exactly one message."
_UNSENT_BYTES = 256 * 1024


class Service(Protocol):
    """What all connections of a server share."""

    @property
    def methods(self) -> Mapping[str, Method]:
        """The methods by their paths."""
        ...

    turns: Turns
    limits: Limits
    calls: int
    """How many are under way."""
    held: int
    """Bytes of messages that are not yet whole."""

    def admits(self, connection: GrpcConnection) -> bool:
        """Whether there is room for one more connection; counts it."""
        ...

    def lost(self, connection: GrpcConnection) -> None:
        """A connection has ended."""
        ...

    def failure(self, error: Exception) -> tuple[int, str]:
        """Status and message for an error."""
        ...


class GrpcConnection(Http2Connection):
    """A connection whose requests are calls."""

    def __init__(self, service: Service) -> None:
        super().__init__(service.limits.header_bytes)
        self.service = service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self.service.admits(self):
            self.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self.service.lost(self)
        super().connection_lost(exc)

    def look_after(self, now: float) -> None:
        """Ends what takes too long. To be called about once a second, with `time.perf_counter()`."""
        limits = self.service.limits
        self.tend(now, limits.write_seconds)
        latest = now - limits.request_seconds
        if not self.greeted and self.began < latest:
            self.abort()
        for stream in list(self.streams.values()):
            assert isinstance(stream, Call)
            seconds = stream.opening.seconds
            if seconds is not None and stream.since + seconds + _GRACE_SECONDS < now:
                stream.expire()
            elif isinstance(stream, UnaryCall) and not stream.ended and stream.since < latest:
                stream.refuse(CANCELLED, "The message was not whole in time.")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.service.turns.relieve()

    def understood(self, headers: list[Header], *, too_large: bool) -> Opening:
        opening = opening_of(headers, self.service.methods)
        if too_large:
            limit = self.service.limits.header_bytes
            return opening._replace(method=None, error=refusals.too_large("head of the request", limit))
        return opening

    def stream_of(self, number: int, meaning: Any) -> Call:
        streams = meaning.method is not None and meaning.method.streams
        return (StreamCall if streams else UnaryCall)(self, number, meaning)


class Call(Stream):
    """A call under way."""

    __slots__ = ("_task", "body", "done", "headed", "held", "opening", "service", "since")

    connection: GrpcConnection

    def __init__(self, connection: GrpcConnection, number: int, opening: Opening) -> None:
        super().__init__(connection, number, opening.length)
        self.service = connection.service
        self.opening = opening
        self.body = bytearray()
        self.held = 0
        self._task: Canceller | None = None
        self.done = self.headed = False
        self.since = time.perf_counter()

    def begin(self) -> None:
        service, opening = self.service, self.opening
        service.calls += 1
        if opening.status != 200:
            self.finish()
            block = written((b":status", b"%d" % opening.status))
            self.connection.send(self, b"", self.connection.heads(self.id, _LAST, block))
        elif opening.error is not None:
            self.refuse(*service.failure(opening.error))
        elif opening.method is None:
            self.refuse(UNIMPLEMENTED, f"There is no method {opening.path[:200]}.")
        elif service.calls > service.limits.connections:
            self.refuse(RESOURCE_EXHAUSTED, f"{service.limits.connections} calls are under way already.")
        elif self.connection.unsent > service.limits.buffered_bytes:
            self.refuse(RESOURCE_EXHAUSTED, "Too many answers wait to be taken.")

    @property
    def task(self) -> Canceller | None:
        """What to cancel when the answer is not wanted any more (`turns.Sink`)."""
        return self._task

    @task.setter
    def task(self, task: Canceller | None) -> None:
        self._task = task
        if self.done and task is not None:
            # The call was given up before there was anything to cancel.
            asyncio.get_running_loop().call_soon(task.cancel)

    def given_up(self) -> None:
        self.finish()
        if self._task is not None:
            self._task.cancel()

    def finish(self) -> None:
        """Nothing more is to be said."""
        if not self.done:
            self.done = True
            self.service.calls -= 1
            self.service.held -= self.held
            self.held = 0
            self.body = bytearray()

    def refuse(self, status: int, text: str = "") -> None:
        """Ends the call with a status."""
        if self.done:
            return
        self.finish()
        block = ending(status, text, alone=not self.headed)
        self.connection.send(self, b"", self.connection.heads(self.id, _LAST, block))

    def expire(self) -> None:
        """Ends the call because its time is up."""
        self.refuse(DEADLINE_EXCEEDED, "The call's time is up.")
        self.given_up()

    def gather(self, data: bytes) -> bool:
        """Keeps data of a message that is not yet whole; False once it is refused."""
        self.body += data
        self.held += len(data)
        self.service.held += len(data)
        limits = self.service.limits
        if len(self.body) >= _PREFIX_BYTES:
            size = int.from_bytes(self.body[1:_PREFIX_BYTES], "big")
            if size > limits.body_bytes:
                self.refuse_size(size)
                return False
        if self.service.held > limits.buffered_bytes:
            self.refuse(RESOURCE_EXHAUSTED, "Too much is being received at once.")
            return False
        return True

    def refuse_size(self, size: int) -> None:
        """Ends the call because a message is too long."""
        allowed = self.service.limits.body_bytes
        self.refuse(RESOURCE_EXHAUSTED, f"A message of {size} bytes; {allowed} are allowed.")

    def let_go(self, size: int) -> None:
        """So many bytes of what was gathered are held no more."""
        self.held -= size
        self.service.held -= size

    def is_sound(self, flag: int) -> bool:
        """Whether a message may say so of its compression; False once the call is refused."""
        if flag > 1 or (flag and self.opening.encoding == "identity"):
            self.refuse(INTERNAL, "A message says that it is compressed, and the call does not say how.")
            return False
        return True

    def plain(self, flag: int, message: bytes) -> bytes:
        """The message as it was before it was compressed; raises `MalformedRequest`, or `NotSupported`."""
        if not flag:
            return message
        encoding = self.opening.encoding
        if encoding not in _ENCODINGS:
            raise NotSupported(f"grpc-encoding {encoding[:40]!r}.", remedy="Use gzip, deflate or identity.")
        return inflated(message, encoding, self.service.limits.body_bytes)


class UnaryCall(Call):
    """One message, one answer."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        if self.done:
            return
        if not self.ended:
            if not self.gather(data):
                return
            body = self.body
            if len(body) > _PREFIX_BYTES + int.from_bytes(body[1:_PREFIX_BYTES], "big"):
                self.refuse(INTERNAL, _NOT_ONE_MESSAGE)
                return
            self.connection.grant(self, len(data))
            return
        if self.body:
            if not self.gather(data):
                return
            data = bytes(self.body)
        size = len(data) - _PREFIX_BYTES
        if size < 0 or int.from_bytes(data[1:_PREFIX_BYTES], "big") != size:
            self.refuse(INTERNAL, _NOT_ONE_MESSAGE)
            return
        if size > self.service.limits.body_bytes:
            self.refuse_size(size)
            return
        if data[0] and not self.is_sound(data[0]):
            return
        self.service.turns.start(self._answered(data), self)

    async def _answered(self, data: bytes) -> bytes:
        opening = self.opening
        assert opening.method is not None
        try:
            message = data[_PREFIX_BYTES:]
            if data[0]:
                message = self.plain(1, message)
            answer: bytes = await opening.method.answer(message, self)
        except Exception as error:
            self.refuse(*self.service.failure(error))
            return b""
        return answer

    def fill(self, answer: bytes) -> None:
        """Takes the answer of the walk."""
        if self.done:
            return
        self.finish()
        connection = self.connection
        size = len(answer) + _PREFIX_BYTES
        number = self.id.to_bytes(4, "big")
        if not connection.fits(self, size):
            data = b"\0%b%b" % (len(answer).to_bytes(4, "big"), answer)
            connection.write(connection.heads(self.id, _END_HEADERS, ANSWER_HEAD))
            connection.send(self, data, _ENDING + number + _ENDING_BLOCK)
            return
        connection.write(
            b"".join((
                _HEAD, number, _HEAD_BLOCK,
                size.to_bytes(3, "big"), b"\0\0", number, b"\0", len(answer).to_bytes(4, "big"), answer,
                _ENDING, number, _ENDING_BLOCK,
            ))
        )  # fmt: skip
        connection.forget(self)


class StreamCall(Call):
    """Any number of messages both ways, answered by a task."""

    __slots__ = ("_arrived", "_incoming", "_left", "_ungranted")

    def __init__(self, connection: GrpcConnection, number: int, opening: Opening) -> None:
        super().__init__(connection, number, opening)
        self._incoming: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._left = asyncio.Event()
        self._ungranted = 0

    def begin(self) -> None:
        super().begin()
        if not self.done:
            self.task = asyncio.get_running_loop().create_task(self._answer())

    async def messages(self) -> AsyncIterator[bytes]:
        """What the caller sends, until it ends."""
        while True:
            while not self._incoming:
                if self.ended:
                    if self.body:
                        self.refuse(INTERNAL, "The call ends within a message.")
                    return
                self._arrived.clear()
                await self._arrived.wait()
            message = self._incoming.popleft()
            self.let_go(len(message) + _PREFIX_BYTES - 1 + _MESSAGE_BYTES)
            if not self._incoming:
                granted, self._ungranted = self._ungranted, 0
                self.connection.grant(self, granted)
            yield self.plain(message[0], message[1:])

    async def say(self, answer: bytes) -> None:
        """Sends a message, and waits while too much is unsent."""
        if self.done:
            return
        if not self.headed:
            self.headed = True
            self.connection.write(self.connection.heads(self.id, _END_HEADERS, ANSWER_HEAD))
        self.connection.send(self, b"\0%b%b" % (len(answer).to_bytes(4, "big"), answer))
        while len(self.unsent) > _UNSENT_BYTES and not self.done:
            self._left.clear()
            await self._left.wait()

    def received(self, data: bytes) -> None:
        if self.done:
            return
        if not self.gather(data):
            self.given_up()
            return
        body = self.body
        while len(body) >= _PREFIX_BYTES:
            end = _PREFIX_BYTES + int.from_bytes(body[1:_PREFIX_BYTES], "big")
            if len(body) < end:
                break
            if not self.is_sound(body[0]):
                self.given_up()
                return
            self.held += _MESSAGE_BYTES
            self.service.held += _MESSAGE_BYTES
            self._incoming.append(bytes(body[:1] + body[_PREFIX_BYTES:end]))
            del body[:end]
        if self._incoming:
            self._ungranted += len(data)
        else:
            self.connection.grant(self, len(data))
        self._arrived.set()

    def sent(self) -> None:
        self._left.set()

    def fill(self, answer: bytes) -> None:
        """Unused: a stream's answers are said one by one."""

    async def _answer(self) -> None:
        assert self.opening.method is not None
        answer: Callable[..., Awaitable[None]] = self.opening.method.answer
        try:
            await answer(self)
        except Exception as error:
            self.refuse(*self.service.failure(error))
        else:
            self.refuse(OK)


_HEAD, _HEAD_BLOCK = in_two(_END_HEADERS, ANSWER_HEAD)
_ENDING, _ENDING_BLOCK = in_two(_LAST, ANSWER_TAIL)
