"""What the headers of a call say, and what may be said of a call in advance (gRPC's PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from fairlead.errors import FairleadError, MalformedRequest
from fairlead.gateway.asking import Asked, asked_by
from fairlead.gateway.inference.hpack import Header, written
from fairlead.gateway.inference.http2_headers import announced_length

__all__ = ["ANSWER_HEAD", "ANSWER_TAIL", "Method", "Opening", "ending", "in_two", "opening_of"]

_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_KIND = re.compile(r"application/grpc(?:[+;].*)?", re.DOTALL)
_LONGEST_TEXT = 1_000


class Method(NamedTuple):
    """How a method is answered. `answer` takes the request's bytes, and gives those of the answer; where the
    method `streams` it takes the whole call and sends what it has."""

    answer: Callable[..., Any]
    streams: bool = False


class Opening(NamedTuple):
    """What the headers of a call say. `asked` has the deadline of one message in seconds, and `seconds` are
    those that the whole call may take. `error` is what is wrong with them; `status` is HTTP's, for what is no
    call at all. `length` is that of the data, where it is announced, else -1."""

    method: Method | None = None
    asked: Asked = Asked(0.0)
    seconds: float | None = None
    error: FairleadError | None = None
    encoding: str = "identity"
    status: int = 200
    path: str = ""
    length: int = -1

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


def opening_of(headers: Sequence[Header], methods: Mapping[str, Method]) -> Opening:
    """What well-formed headers of a request say; raises `Malformed`."""
    length = announced_length(headers)
    said = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    if not _KIND.fullmatch(said.get("content-type", "")):
        return Opening(status=415, length=length)
    if said[":method"] != "POST":
        return Opening(status=405, length=length)
    path = said[":path"]
    method = methods.get(path)
    seconds = None
    try:
        asked = asked_by(lambda name: said.get(name) or None, 0.0)
        if "grpc-timeout" in said:
            seconds = _seconds(said["grpc-timeout"])
    except MalformedRequest as error:
        return Opening(method, error=error, path=path, length=length)
    encoding = said.get("grpc-encoding", "identity").lower()
    return Opening(method, asked, seconds, encoding=encoding, path=path, length=length)


def _seconds(timeout: str) -> float:
    found = _TIMEOUT.fullmatch(timeout)
    if found is None:
        raise MalformedRequest(
            f"grpc-timeout is {timeout[:40]!r}.",
            remedy="Send up to eight digits and one of H, M, S, m, u, n.",
        )
    return int(found[1]) * _SECONDS[found[2]]


_STATUS_HEAD = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b"identity,deflate,gzip"),
)


def ending(status: int, text: str, *, alone: bool) -> bytes:
    """The header block that ends a call; `alone` when nothing was said before.

    Clients take headers of 8 KB at most, so that a long text is cut.
    """
    trailers = [(b"grpc-status", b"%d" % status)]
    if text:
        cut = text.encode(errors="replace")[:_LONGEST_TEXT].decode(errors="ignore")
        trailers.append((b"grpc-message", quote(cut, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode()))
    return written(*_STATUS_HEAD, *trailers) if alone else written(*trailers)


def in_two(flags: int, block: bytes) -> tuple[bytes, bytes]:
    """A frame of headers before and after the number of its stream."""
    return len(block).to_bytes(3, "big") + bytes((1, flags)), block


ANSWER_HEAD = written(*_STATUS_HEAD)
ANSWER_TAIL = ending(0, "", alone=False)
