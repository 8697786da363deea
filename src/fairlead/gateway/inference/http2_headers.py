"""What the headers of a request must keep to (RFC 9113, sections 8.1 to 8.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fairlead.gateway.inference.hpack import Header

__all__ = ["Malformed", "announced_length", "require_request", "require_trailers"]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_NO_VALUE = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_PSEUDO = {b":method", b":scheme", b":path", b":authority"}
_OF_ONE_HOP = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


class Malformed(Exception):
    """A request that no client may send: its stream is reset."""


def require_request(headers: Sequence[Header]) -> None:
    """Raises `Malformed` unless a request may begin like that."""
    pseudo: dict[bytes, bytes] = {}
    begins = True
    for name, value in headers:
        if name[:1] == b":":
            if not begins or name in pseudo or name not in _PSEUDO:
                raise Malformed
            pseudo[name] = value
            if _NO_VALUE.search(value):
                raise Malformed
        else:
            begins = False
            _require(name, value)
    if not pseudo.get(b":method"):
        raise Malformed
    is_tunnel = pseudo[b":method"] == b"CONNECT"
    if is_tunnel != (b":path" not in pseudo) or is_tunnel != (b":scheme" not in pseudo):
        raise Malformed
    if not is_tunnel and not pseudo[b":path"].startswith((b"/", b"*")):
        raise Malformed


def require_trailers(headers: Sequence[Header]) -> None:
    """Raises `Malformed` unless a request may end like that."""
    for name, value in headers:
        _require(name, value)  # a colon is in no name, so that this refuses pseudo-headers too


def announced_length(headers: Sequence[Header]) -> int:
    """The bytes of data that the headers announce, -1 when they say nothing; raises `Malformed`."""
    lengths = {value for name, value in headers if name == b"content-length"}
    if not lengths:
        return -1
    length = lengths.pop()
    if lengths or not _DIGITS.fullmatch(length):
        raise Malformed
    return int(length)


def _require(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name) or _NO_VALUE.search(value) or name in _OF_ONE_HOP:
        raise Malformed
    if name == b"te" and value != b"trailers":
        raise Malformed
