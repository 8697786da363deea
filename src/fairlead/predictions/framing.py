"""Frames: how payloads lie in a log segment, so that a torn or damaged one is noticed and never believed.

    file    = MAGIC frame*
    frame   = length  checksum  payload
    length  = uint32, little endian, bytes of the payload, at least 1
    checksum = uint32, little endian, CRC-32 (zlib) of the payload

A length of 0 would make a run of zeros, which a power cut may leave behind, look like frames; it is refused.
"""

from __future__ import annotations

import struct
import zlib
from typing import Literal, NamedTuple

__all__ = ["HEADER_BYTES", "MAGIC", "MAX_PAYLOAD_BYTES", "Frames", "frame", "read_frames"]

MAGIC = b"FLSEG001"
HEADER_BYTES = 8
MAX_PAYLOAD_BYTES = 256 * 1024 * 1024
"""A longer length is damage, not a frame to wait for."""

_HEADER = struct.Struct("<II")


class Frames(NamedTuple):
    """What lies in a buffer: the whole payloads, where they end, and why reading stopped there.

    `end` is the offset after the last whole frame. `state` is `whole` (the buffer ends with a frame), `torn`
    (it ends within one) or `corrupt` (the bytes at `end` are no frame and never will be).
    """

    payloads: list[bytes]
    end: int
    state: Literal["whole", "torn", "corrupt"]


def frame(payload: bytes) -> bytes:
    """The payload with its length and checksum in front."""
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def read_frames(buffer: bytes, offset: int = 0) -> Frames:
    """All whole frames from `offset` on, in order; stops at the first that is torn or corrupt."""
    payloads: list[bytes] = []
    size = len(buffer)
    unpack, checksum_of = _HEADER.unpack_from, zlib.crc32
    while True:
        start = offset + HEADER_BYTES
        if start > size:
            return Frames(payloads, offset, "whole" if offset == size else "torn")
        length, checksum = unpack(buffer, offset)
        if not 0 < length <= MAX_PAYLOAD_BYTES:
            return Frames(payloads, offset, "corrupt")
        end = start + length
        if end > size:
            return Frames(payloads, offset, "torn")
        payload = buffer[start:end]
        if checksum_of(payload) != checksum:
            return Frames(payloads, offset, "corrupt")
        payloads.append(payload)
        offset = end
