"""What the connection layer says when it refuses: one sentence for each rule, and what to do."""

from __future__ import annotations

from fairlead.errors import MalformedRequest, Overloaded, PayloadTooLarge, RequestTimeout

__all__ = [
    "full_of_connections", "full_of_requests", "mostly_framing", "not_whole", "one_host", "too_large",
    "too_many_headers", "unsupported",
]  # fmt: skip


def unsupported(what: str, remedy: str = "Speak HTTP/1.1.") -> MalformedRequest:
    """Something of HTTP that is allowed and not taken here."""
    return MalformedRequest(f"{what} not supported.", remedy=remedy)


def one_host() -> MalformedRequest:
    """No Host header, or several."""
    return MalformedRequest("A request has exactly one Host header.", remedy="Send one.")


def mostly_framing() -> MalformedRequest:
    """A chunked body that takes far more bytes on the wire than it has."""
    return MalformedRequest("The request is mostly framing.", remedy="Send larger chunks.")


def too_large(what: str, limit: int) -> PayloadTooLarge:
    """A part of a request has more than `limit` bytes."""
    return PayloadTooLarge(
        f"The {what} is larger than {limit} bytes.",
        remedy="Send less, or raise the server's limit.",
        limit=limit,
    )


def too_many_headers(limit: int) -> PayloadTooLarge:
    """More than `limit` header lines, or trailers."""
    return PayloadTooLarge(f"The request has more than {limit} headers.", remedy="Send fewer.", limit=limit)


def not_whole(seconds: float) -> RequestTimeout:
    """The request's last byte did not come in time."""
    return RequestTimeout(
        f"The request was not whole {seconds:g} s after its first byte.",
        remedy="Send it faster.",
        limit=seconds,
    )


def full_of_requests(limit: int) -> Overloaded:
    """All connections together hold as much as they may of what is still arriving or being answered."""
    return Overloaded(
        f"The gateway would hold more than {limit} bytes of requests.",
        remedy="Try again later, or raise max_buffered_bytes.",
    )


def full_of_connections(limit: int) -> Overloaded:
    """There is no room for one more connection."""
    return Overloaded(
        f"The gateway has {limit} connections already.", remedy="Try again later, or raise max_connections."
    )
