"""The prediction cache that the gateway workers of one machine share: a table in a memory-mapped file.

It stands behind the cache in each worker: what one has worked out saves the others a run, and a worker
that was replaced need not begin anew. Nobody locks: an entry carries a checksum over all of it, so that one
that is being written, or was torn by a crash, is a miss and nothing else.

    file  = header slot*
    slot  = key (16) · end, Unix seconds (float64) · length (uint32) · checksum (uint32) · MessagePack

A key may lie in any of the few slots of its set; a new entry takes the place of the one that ends first.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from fairlead.runtimes.binding import Prediction

__all__ = ["SLOT_BYTES", "NearCache"]

_MAGIC = b"FLNEAR01"
_HEADER_BYTES = 64
SLOT_BYTES = 512
"""An entry that does not fit is not shared."""
_WAYS = 4
_HEAD = struct.Struct("<16sdII")
_ROOM = SLOT_BYTES - _HEAD.size
_Plain = str | int | float | bool | None


class _Held(msgspec.Struct, array_like=True, frozen=True):
    value: _Plain | list[_Plain | dict[str, _Plain]]
    probabilities: list[float] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Held).decode


class NearCache:
    """At most `max_bytes` of predictions in the file at `path`. `clock` tells Unix seconds.

    Workers that name the same file and size share it; a file of another size or make is begun anew.
    """

    def __init__(self, path: Path, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._sets = max(1, max_bytes // (SLOT_BYTES * _WAYS))
        size = _HEADER_BYTES + self._sets * _WAYS * SLOT_BYTES
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != size or os.pread(descriptor, 8, 0) != _MAGIC:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, size)
                os.pwrite(descriptor, _MAGIC, 0)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)

    def get(self, key: bytes) -> tuple[Prediction, float] | None:
        """The prediction and the seconds that it has left; None when there is none."""
        held = self._map
        start = self._start(key)
        for at in range(start, start + _WAYS * SLOT_BYTES, SLOT_BYTES):
            if held[at : at + 16] != key:
                continue
            slot = held[at : at + SLOT_BYTES]
            _, until, length, checksum = _HEAD.unpack_from(slot)
            left = until - self._clock()
            if left <= 0 or length > _ROOM:
                return None
            body = slot[_HEAD.size : _HEAD.size + length]
            if _checksum(key, until, body) != checksum:
                return None
            try:
                found = _decode(body)
            except msgspec.MsgspecError:
                return None
            return Prediction(found.value, found.probabilities), left
        return None

    def put(self, key: bytes, prediction: Prediction, lifetime: float) -> None:
        """Keeps a prediction for `lifetime` seconds, unless it is too large."""
        try:
            body = _encode((prediction.value, prediction.probabilities))
        except (TypeError, OverflowError):
            return
        if len(body) > _ROOM:
            return
        until = self._clock() + lifetime
        at = self._place(key)
        entry = _HEAD.pack(key, until, len(body), _checksum(key, until, body)) + body
        self._map[at : at + len(entry)] = entry

    def close(self) -> None:
        """Lets go of the file."""
        self._map.close()

    def _start(self, key: bytes) -> int:
        return _HEADER_BYTES + int.from_bytes(key[:8], "little") % self._sets * (_WAYS * SLOT_BYTES)

    def _place(self, key: bytes) -> int:
        """Where the entry goes: over its own older form, else over what ends first."""
        start = self._start(key)
        earliest, place = float("inf"), start
        for at in range(start, start + _WAYS * SLOT_BYTES, SLOT_BYTES):
            other, until, _, _ = _HEAD.unpack_from(self._map, at)
            if other == key:
                return at
            if until < earliest:
                earliest, place = until, at
        return place


def _checksum(key: bytes, until: float, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<16sdI", key, until, len(body))))
