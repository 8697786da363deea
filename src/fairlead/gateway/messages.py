"""What passes between the connections and the routes: a whole request, and the bytes of an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from fairlead.errors import FairleadError

__all__ = ["Gatekeeper", "Handler", "Refusal", "Request", "response"]

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class Request:
    """A whole request: header names in lower case, the body in one piece.

    `received` (`time.perf_counter`) is when its last byte was read, or later, when a caller who sent many
    requests at once had to take answers first. It arrived after `since`, when its connection was read before.
    `arrived` is 0, or since when it may have lain there, because it or its connection had to wait.
    `admitted` is whether it has been found that there is room for it.
    """

    __slots__ = ("admitted", "arrived", "body", "headers", "method", "path", "received", "since")

    def __init__(
        self,
        method: bytes,
        path: bytes,
        headers: dict[bytes, bytes],
        body: bytes,
        since: float = 0.0,
        arrived: float = 0.0,
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.received = time.perf_counter()
        self.since = since
        self.arrived = arrived
        self.admitted = False

    def header(self, name: bytes) -> str | None:
        """A header's value, None when it is absent or empty. One that was sent twice is joined by a comma."""
        value = self.headers.get(name)
        return value.decode("latin-1") if value else None

    def text(self, name: str) -> str | None:
        """As `header`, by a name in text."""
        return self.header(name.encode())


Handler = Callable[[Request], Coroutine[Any, Any, bytes]]
Refusal = Callable[[FairleadError], bytes]
Gatekeeper = Callable[[Request], bytes | None]
"""Answers a request that there is no room for, and None to one that may be begun."""


class _Date:
    """The Date header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def __call__(self) -> bytes:
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = f"date: {formatdate(now, usegmt=True)}\r\n".encode()
        return self._line


_date = _Date()


def response(
    status: int, body: bytes, headers: bytes = b"", content_type: bytes = b"application/json"
) -> bytes:
    """The bytes of a response; `headers` are whole lines that end in CRLF."""
    return b"%b%bcontent-type: %b\r\ncontent-length: %d\r\n%b\r\n%b" % (
        _STATUS_LINES[status], _date(), content_type, len(body), headers, body,
    )  # fmt: skip
