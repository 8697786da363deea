"""Bodies that travel compressed: gzip and deflate (which is the zlib format), both ways."""

from __future__ import annotations

import zlib

from fairlead.errors import MalformedRequest, PayloadTooLarge

__all__ = ["deflated", "inflated"]

_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_WORTH_BYTES = 1_024
_LEVEL = 1


def inflated(body: bytes, encoding: str | None, limit: int) -> bytes:
    """The body as it was before it was compressed.

    Raises `PayloadTooLarge` as soon as it grows beyond `limit` bytes, `MalformedRequest` for what is damaged
    or compressed in a way that is not spoken here.
    """
    if encoding is None or encoding.lower() == "identity":
        return body
    window = _WINDOWS.get(encoding.strip().lower())
    if window is None:
        raise MalformedRequest(
            f"Content-Encoding {encoding[:40]!r} is not spoken here.", remedy="Use gzip, deflate or none."
        )
    engine = zlib.decompressobj(window)
    try:
        whole = engine.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedRequest(f"The compressed body is damaged: {error}.") from error
    if len(whole) > limit:
        raise PayloadTooLarge(
            f"The body is larger than {limit} bytes once it is decompressed.",
            remedy="Send less, or raise the server's limit.",
            limit=limit,
        )
    if not engine.eof or engine.unused_data:
        raise MalformedRequest("The compressed body does not end where the request does.")
    return whole


def deflated(body: bytes, accepted: str | None) -> tuple[bytes, str | None]:
    """The body as the caller accepts it, and the name of its encoding; short ones are left as they are."""
    if accepted is None or len(body) < _WORTH_BYTES:
        return body, None
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        name = name.strip()
        if name in ("gzip", "deflate") and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            engine = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[name])
            return engine.compress(body) + engine.flush(), name
    return body, None
