"""Calls of gRPC over HTTP/2: one message for one answer as a walk of its turn, streams as tasks.

What is spoken is gRPC's PROTOCOL-HTTP2.md. Answers are never compressed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from fairlead.errors import FairleadError, MalformedRequest
from fairlead.gateway.asking import Asked, asked_by
from fairlead.gateway.compression import inflated
from fairlead.gateway.inference.hpack import written
from fairlead.gateway.inference.http2 import Http2Connection
from fairlead.gateway.inference.http2_out import Stream
from fairlead.gateway.limits import Limits
from fairlead.serving.turns import Canceller, Turns

__all__ = ["GrpcConnection", "Method", "Opening", "Service", "StreamCall"]

OK, CANCELLED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 1, 8, 12, 13

_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_PREFIX_BYTES = 5
_UNSENT_BYTES = 256 * 1024


class Method(NamedTuple):
    """How a method is answered. `answer` takes the request's bytes, and gives those of the answer; where the
    method `streams` it takes the whole call and sends what it has."""

    answer: Callable[..., Any]
    streams: bool = False


class Opening(NamedTuple):
    """What the headers of a call say. `asked` has the deadline of one message in seconds, and `seconds` are
    those that the whole call may take. `error` is what is wrong with them; `status` is HTTP's, for what is no
    call at all."""

    method: Method | None = None
    asked: Asked = Asked(0.0)
    seconds: float | None = None
    error: FairleadError | None = None
    encoding: str = "identity"
    status: int = 200
    path: str = ""

    def received(self, now: float, since: float) -> Asked:
        """Who asks, by a message that came now in a call of then; raises what is wrong with the headers."""
        if self.error is not None:
            raise self.error
        deadline = self.asked.deadline
        if deadline is not None:
            deadline += now
        if self.seconds is not None:
            until = since + self.seconds
            deadline = until if deadline is None else min(until, deadline)
        return self.asked._replace(received=now, deadline=deadline)


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
            if isinstance(stream, UnaryCall) and not stream.ended and stream.since < latest:
                stream.refuse(CANCELLED, "The message was not whole in time.")

    def understood(self, headers: list[tuple[bytes, bytes]]) -> Opening:
        said = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        if not said.get("content-type", "").startswith("application/grpc"):
            return Opening(status=415)
        if said.get(":method") != "POST":
            return Opening(status=405)
        path = said.get(":path", "")
        method = self.service.methods.get(path)
        try:
            asked = asked_by(lambda name: said.get(name) or None, 0.0)
        except MalformedRequest as error:
            return Opening(method, error=error, path=path)
        timeout = _TIMEOUT.fullmatch(said.get("grpc-timeout", ""))
        seconds = None if timeout is None else int(timeout[1]) * _SECONDS[timeout[2]]
        return Opening(method, asked, seconds, encoding=said.get("grpc-encoding", "identity"), path=path)

    def begun(self, number: int, meaning: Any) -> Call | None:
        if meaning.status != 200:
            self.write(_heads(number, 0x5, written((b":status", b"%d" % meaning.status))))
            return None
        streams = meaning.method is not None and meaning.method.streams
        call = (StreamCall if streams else UnaryCall)(self, number, meaning)
        self.streams[number] = call
        service = self.service
        service.calls += 1
        if meaning.method is None:
            call.refuse(UNIMPLEMENTED, f"There is no method {meaning.path[:200]}.")
        elif service.calls > service.limits.connections:
            call.refuse(RESOURCE_EXHAUSTED, f"{service.limits.connections} calls are under way already.")
        else:
            call.begin()
        return None if call.done else call


class Call(Stream):
    """A call under way."""

    __slots__ = ("body", "done", "headed", "held", "opening", "service", "since", "task")

    connection: GrpcConnection

    def __init__(self, connection: GrpcConnection, number: int, opening: Opening) -> None:
        super().__init__(connection, number)
        self.service = connection.service
        self.opening = opening
        self.body = bytearray()
        self.held = 0
        self.task: Canceller | None = None
        self.done = self.headed = False
        self.since = time.perf_counter()

    def begin(self) -> None:
        """The call was admitted."""

    def given_up(self) -> None:
        self.finish()
        if self.task is not None:
            self.task.cancel()

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
        self.connection.send(self, b"", _ending(self.id, status, text, alone=not self.headed))

    def gather(self, data: bytes) -> bool:
        """Keeps data of a message that is not yet whole; False once it is refused."""
        self.body += data
        self.held += len(data)
        self.service.held += len(data)
        limits = self.service.limits
        if len(self.body) >= _PREFIX_BYTES:
            size = int.from_bytes(self.body[1:_PREFIX_BYTES], "big")
            if size > limits.body_bytes:
                self.refuse(
                    RESOURCE_EXHAUSTED, f"A message of {size} bytes; {limits.body_bytes} are allowed."
                )
                return False
        if self.service.held > limits.buffered_bytes:
            self.refuse(RESOURCE_EXHAUSTED, "Too much is being received at once.")
            return False
        return True

    def let_go(self, size: int) -> None:
        """So many bytes of what was gathered are held no more."""
        self.held -= size
        self.service.held -= size

    def plain(self, flag: int, message: bytes) -> bytes:
        """The message as it was before it was compressed; raises `MalformedRequest`."""
        if not flag:
            return message
        return inflated(message, self.opening.encoding, self.service.limits.body_bytes)


class UnaryCall(Call):
    """One message, one answer."""

    __slots__ = ()

    def received(self, data: bytes) -> None:
        if self.done:
            return
        if not self.ended:
            if self.gather(data):
                self.connection.grant(self, len(data))
            return
        if self.body:
            if not self.gather(data):
                return
            data = bytes(self.body)
        size = len(data) - _PREFIX_BYTES
        if size < 0 or int.from_bytes(data[1:_PREFIX_BYTES], "big") != size:
            self.refuse(INTERNAL, "The call does not hold exactly one message.")
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
            connection.write(_HEAD + number + _HEAD_BLOCK)
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
        self.task = asyncio.get_running_loop().create_task(self._answer())

    async def messages(self) -> AsyncIterator[bytes]:
        """What the caller sends, until it ends."""
        while True:
            while not self._incoming:
                if self.ended:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            message = self._incoming.popleft()
            self.let_go(len(message) + _PREFIX_BYTES - 1)
            if not self._incoming:
                granted, self._ungranted = self._ungranted, 0
                self.connection.grant(self, granted)
            yield self.plain(message[0], message[1:])

    async def say(self, answer: bytes) -> None:
        """Sends a message, and waits while too much is unsent."""
        if self.done:
            return
        head = b"" if self.headed else _HEAD + self.id.to_bytes(4, "big") + _HEAD_BLOCK
        self.headed = True
        self.connection.write(head)
        self.connection.send(self, b"\0%b%b" % (len(answer).to_bytes(4, "big"), answer))
        while len(self.unsent) > _UNSENT_BYTES and not self.done:
            self._left.clear()
            await self._left.wait()

    def received(self, data: bytes) -> None:
        if self.done:
            return
        if not self.gather(data):
            if self.task is not None:
                self.task.cancel()
            return
        body = self.body
        while len(body) >= _PREFIX_BYTES:
            end = _PREFIX_BYTES + int.from_bytes(body[1:_PREFIX_BYTES], "big")
            if len(body) < end:
                break
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


def _ending(number: int, status: int, text: str, *, alone: bool) -> bytes:
    """The frame that ends a call; `alone` when nothing was said before."""
    trailers = [(b"grpc-status", b"%d" % status)]
    if text:
        trailers.append(
            (b"grpc-message", quote(text[:2_000], safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode())
        )
    head = [(b":status", b"200"), (b"content-type", b"application/grpc")] if alone else []
    return _heads(number, 0x5, written(*head, *trailers))


def _heads(number: int, flags: int, block: bytes) -> bytes:
    return len(block).to_bytes(3, "big") + bytes((1, flags)) + number.to_bytes(4, "big") + block


def _in_two(flags: int, *headers: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A frame of headers before and after the number of its stream."""
    frame = _heads(0, flags, written(*headers))
    return frame[:5], frame[9:]


_HEAD, _HEAD_BLOCK = _in_two(
    0x4,
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
)
_ENDING, _ENDING_BLOCK = _in_two(0x5, (b"grpc-status", b"0"))
