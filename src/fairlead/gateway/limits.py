"""What callers may cost: the bounds of one connection and of all, and what the kernel does for us."""

from __future__ import annotations

import contextlib
import resource
import socket

__all__ = ["MAX_HEADERS", "SLICE", "Limits", "room_for_files", "watch_for_the_vanished"]

SLICE = 16 * 1024
"""Bytes that are parsed at once, so that what a caller sends in one piece cannot outrun the bounds."""

MAX_HEADERS = 100
"""Header lines of a request, and trailers."""

_SPARE_FILES = 512
_KEEPALIVE_SECONDS = 30
_KEEPALIVE_EVERY = 10
_KEEPALIVE_PROBES = 3


class Limits:
    """Bounds of one connection (bytes, numbers, seconds) and of all of a worker.

    `buffered_bytes` bounds, over all connections, what has been read of requests that came in more than one
    piece and are not yet answered. `request_seconds` runs from a request's first byte to its last;
    `write_seconds` is the time in which a caller takes at least 64 KiB, or all, of what waits for it.
    """

    __slots__ = (
        "after_url", "body_bytes", "buffered_bytes", "connections", "header_bytes", "idle_seconds",
        "request_seconds", "url_bytes", "write_seconds",
    )  # fmt: skip

    def __init__(
        self,
        *,
        body_bytes: int,
        header_bytes: int,
        connections: int,
        idle_seconds: float,
        request_seconds: float = 30.0,
        write_seconds: float = 30.0,
        buffered_bytes: int = 256 * 2**20,
        url_bytes: int = 8 * 1024,
    ) -> None:
        self.body_bytes = body_bytes
        self.header_bytes = header_bytes
        self.connections = connections
        self.idle_seconds = idle_seconds
        self.request_seconds = request_seconds
        self.write_seconds = write_seconds
        self.buffered_bytes = buffered_bytes
        self.url_bytes = min(url_bytes, header_bytes)
        self.after_url = header_bytes - self.url_bytes
        """What a URL must leave of `header_bytes`."""


def watch_for_the_vanished(listener: socket.socket, limits: Limits) -> None:
    """Has the kernel end connections whose peers are gone without a word.

    Linux hands these options of a listening socket on to those that it accepts.
    """
    wanted = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", _KEEPALIVE_SECONDS),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", _KEEPALIVE_EVERY),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", _KEEPALIVE_PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", int(limits.write_seconds * 1000)),
    ]
    for level, name, value in wanted:
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                listener.setsockopt(level, option, value)


def room_for_files(connections: int) -> None:
    """Lets this process open a file for each connection, as far as the system's hard limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
