"""Bytes to requests: what the parser finds, and the rules that a request keeps beyond its grammar.

llhttp (by httptools) refuses what is malformed; what it lets through and we do not want (several hosts, other
transfer codings, upgrades, absolute targets, trailers, any size) is refused here, before a body is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from fairlead.errors import FairleadError, MalformedRequest
from fairlead.gateway.limits import MAX_HEADERS
from fairlead.gateway.refusals import (
    full_of_requests,
    mostly_framing,
    one_host,
    too_large,
    too_many_headers,
    unsupported,
)
from fairlead.gateway.wire import STEP_BYTES, Wire

if TYPE_CHECKING:
    from fairlead.gateway.protocol import HttpServer

__all__ = ["CLOSE", "KEEP_ALIVE", "RequestReader"]

CLOSE = b"connection: close"
KEEP_ALIVE = b"connection: keep-alive"

_WASTE = 8
"""Bytes that a body sent in chunks may take on the wire for each of its own."""
_SHORT = 3
"""A body whose length has no more digits is not worth a look ahead."""
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"))


class RequestReader(Wire):
    """The parser's callbacks but the last one. They run for every request: each check has its price.

    A callback refuses by `_stop`, which ends the parsing of the connection.
    """

    __slots__ = (
        "_body", "_deaf", "_ending", "_feed", "_headers", "_held", "_method", "_odd", "_parser", "_partial",
        "_raw", "_refused", "_repeats", "_room", "_trailer_room", "_url", "active", "began",
    )  # fmt: skip

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._refused: FairleadError | None = None
        self._ending = b""
        """A header line that says what becomes of the connection; empty when it stays."""
        self._odd: object = None
        self._deaf = False  # what still comes is thrown away
        self._held = 0  # bytes of what is arriving, as counted by the server
        self._partial: object = None  # the headers of the request that the last read left incomplete
        self._raw = 0  # bytes that came for it since
        self.began = 0.0
        """When the request that is arriving began (`time.perf_counter`); 0 between requests."""
        self.active = self._read_at
        """When a request last began or was under way."""

    def _begin_reading(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._feed = self._parser.feed_data

    def on_message_begin(self) -> None:
        self.began = self.active = self._read_at
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._method = b""  # until the head is whole
        self._room = self._server.limits.header_bytes
        self._body: bytes | bytearray = b""

    def on_url(self, url: bytes) -> None:
        self._url = self._url + url if self._url else url
        self._room -= len(url)
        if self._room < self._server.limits.after_url:
            self._stop(too_large("request's target", self._server.limits.url_bytes))

    def on_header(self, name: bytes, value: bytes) -> None:
        room = self._room = self._room - len(name) - len(value)
        headers = self._headers
        name = name.lower()
        if room < 0 or name in headers:
            self._odd_header(name, value)
        else:
            headers[name] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self._headers
        self._method = parser.get_method()
        if parser.get_http_version() != "1.1":
            self._old_version(parser.get_http_version())
        elif b"host" not in headers:
            self._stop(one_host())
        else:
            self._ending = b"" if parser.should_keep_alive() else CLOSE
        if self._method not in _METHODS or parser.should_upgrade():
            self._stop(unsupported("That method, or an upgrade, is"))
        if not self._url.startswith(b"/") or b"#" in self._url:
            self._stop(unsupported("A target that is no path is", "Send a path from '/'."))
        if len(headers) > MAX_HEADERS:
            self._stop(too_many_headers(MAX_HEADERS))
        length = headers.get(b"content-length")
        if length is not None:
            if len(length) > _SHORT:
                self._weigh(int(length))
        elif b"transfer-encoding" in headers:
            if headers[b"transfer-encoding"].lower() != b"chunked":
                self._stop(unsupported("That transfer coding is", "Use chunked."))
            # Trailers come by `on_header`, too: without room each of them is looked at.
            self._trailer_room, self._room = self._room, -1
        if b"expect" in headers:
            self._expected()

    def on_body(self, body: bytes) -> None:
        if not self._body:
            self._body = body
        elif isinstance(self._body, bytes):
            self._body = bytearray(self._body)
            self._body += body
        else:
            self._body += body
        if len(self._body) > self._server.limits.body_bytes:
            self._stop(too_large("body", self._server.limits.body_bytes))

    # --- heads that are not ordinary ------------------------------------------------------------------------

    def _odd_header(self, name: bytes, value: bytes) -> None:
        limits = self._server.limits
        if self._odd is not self._headers:
            self._odd = self._headers
            self._repeats = 0  # lines that are not among the headers
        if self._method:
            # A trailer. Nothing here needs any, and none may change what the head said.
            self._repeats += 1
            self._trailer_room -= len(name) + len(value)
            if self._trailer_room < 0 or self._repeats > MAX_HEADERS:
                self._stop(too_large("request's trailer", limits.header_bytes))
            return
        headers = self._headers
        if self._room < 0:
            self._stop(too_large("request head", limits.header_bytes))
        if self._repeats + len(headers) >= MAX_HEADERS:
            self._stop(too_many_headers(MAX_HEADERS))
        if name == b"host":
            self._stop(one_host())
        self._repeats += 1
        headers[name] = b"%b, %b" % (headers[name], value)

    def _old_version(self, version: str) -> None:
        if version != "1.0":
            self._stop(unsupported(f"HTTP/{version} is"))
        if b"transfer-encoding" in self._headers:
            self._stop(unsupported("A transfer coding in HTTP/1.0 is"))
        self._ending = KEEP_ALIVE if self._parser.should_keep_alive() else CLOSE

    def _weigh(self, length: int) -> None:
        """Refuses a body by what it says of its size, before it is read."""
        server = self._server
        if length > server.limits.body_bytes:
            self._stop(too_large("body", server.limits.body_bytes))
        if server.held + length > server.limits.buffered_bytes:
            self._stop(full_of_requests(server.limits.buffered_bytes))

    def _broken(self, error: httptools.HttpParserError) -> None:
        if self._refused is None:
            if isinstance(error, httptools.HttpParserUpgrade):
                self._refused = unsupported("An upgrade is")
            else:
                self._refused = MalformedRequest(f"The request is not valid HTTP: {error}.")
        self._refuse(self._refused)

    def _unfinished(self, size: int) -> None:
        """A read has ended within a request: counts what is held of it, and what it takes on the wire."""
        if self._partial is not self._headers:
            self._partial, self._raw = self._headers, 0
        else:
            self._raw += size
        limit = self._server.limits.header_bytes
        if self._method:
            if self._raw > _WASTE * len(self._body) + STEP_BYTES:
                self._refuse(mostly_framing())
        elif self._raw > 2 * limit:
            self._refuse(too_large("request head", limit))
        elif len(self._headers) > MAX_HEADERS:
            self._refuse(too_many_headers(MAX_HEADERS))
        self._hold(size)

    def _hold(self, size: int) -> None:
        server = self._server
        if self._deaf:
            return
        if server.held + size > server.limits.buffered_bytes:
            self._refuse(full_of_requests(server.limits.buffered_bytes))
            return
        server.held += size
        self._held += size
        self._careful = True

    def _refuse(self, error: FairleadError) -> None:
        """Answers an error and closes."""
        raise NotImplementedError

    def _expected(self) -> None:
        """The caller may wait for leave to send the body."""
        raise NotImplementedError

    def _stop(self, error: FairleadError) -> None:
        """Refuses the request from within a parser callback."""
        if self._refused is None:
            self._refused = error
        raise error
