"""The prediction cache of one gateway worker: least recently used, bounded in bytes and in time.

A key binds artifact, contract and canonical inputs under the deployment secret, never headers or ids; a value
is the model's raw answer, never the envelope. Identical requests in flight run once (see `batching.py`).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from fairlead.runtimes.binding import Prediction

__all__ = ["PredictionCache", "cache_secret"]

_ENTRY_BYTES = 250
"""About what an entry costs beyond its values: key, tuple, table slot, and a small object or two."""


def cache_secret(secret: bytes, digest: str, contract_id: str) -> bytes:
    """The key under which one version's inputs are hashed: nobody outside can aim at another's entry."""
    return hashlib.blake2b(f"{digest}\0{contract_id}".encode(), key=secret, digest_size=32).digest()


class PredictionCache:
    """At most `max_bytes` of predictions, each for its own lifetime. Time is given, in seconds."""

    __slots__ = ("_bytes", "_entries", "_max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[Prediction, float, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """The estimated bytes held."""
        return self._bytes

    @staticmethod
    def key(secret: bytes, encoded_row: bytes) -> bytes:
        """The 128-bit key of a row under a version's secret."""
        return hashlib.blake2b(encoded_row, key=secret, digest_size=16).digest()

    def get(self, key: bytes, now: float) -> Prediction | None:
        """The prediction, unless it is unknown or past its lifetime."""
        entry = self._entries.get(key)
        if entry is None or entry[1] <= now:
            return None  # what is past its lifetime stays for `stale` until its room is needed
        self._entries.move_to_end(key)
        return entry[0]

    def stale(self, key: bytes, now: float, seconds: float) -> Prediction | None:
        """The prediction, also up to `seconds` past its lifetime."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None and entry[1] + seconds > now else None

    def put(self, key: bytes, prediction: Prediction, now: float, lifetime: float) -> None:
        """Keeps a prediction for `lifetime` seconds, dropping the longest unused ones for room."""
        size = _ENTRY_BYTES + _size_of(prediction)
        if size > self._max_bytes:
            return
        if key in self._entries:
            self._drop(key)
        while self._bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[key] = (prediction, now + lifetime, size)
        self._bytes += size

    def _drop(self, key: bytes) -> None:
        self._bytes -= self._entries.pop(key)[2]


def _size_of(prediction: Prediction) -> int:
    value = prediction.value
    size = 32 * len(prediction.probabilities or ())
    if isinstance(value, list):
        # A number costs 32 bytes; a ranking's entry is a small dict with an id and a score.
        size += sum(300 if isinstance(item, dict) else 32 for item in value)
    elif isinstance(value, str):
        size += len(value)
    return size
