"""The request index: beside each Parquet file of predictions, which rows a request id may be in.

A NumPy file of two rows of uint64: the sorted 64-bit XXH3 hashes of the request ids, and their row numbers.
It is memory-mapped and searched by bisection, so a look-up touches a few pages of each file. Two ids may
share a hash; the caller compares the ids themselves.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import xxhash

__all__ = ["candidate_rows", "hash_requests", "write_index"]

Hashes = npt.NDArray[np.uint64]


def hash_requests(request_ids: list[str]) -> Hashes:
    """The hash of each id, in their order."""
    return np.fromiter(map(_hash, request_ids), np.uint64, len(request_ids))


def write_index(file: IO[bytes], hashes: Hashes) -> None:
    """Writes the index of a file whose row i has hash `hashes[i]`."""
    rows = np.argsort(hashes, kind="stable").astype(np.uint64)
    np.save(file, np.stack([hashes[rows], rows]))


def candidate_rows(index: Path, request_id: str) -> list[int]:
    """Row numbers, ascending, whose request id has the same hash as this one."""
    hashes, rows = _open(index)
    wanted = np.uint64(_hash(request_id))
    first, end = np.searchsorted(hashes, wanted, "left"), np.searchsorted(hashes, wanted, "right")
    return [int(row) for row in rows[first:end]]


def _hash(request_id: str) -> int:
    return xxhash.xxh3_64_intdigest(request_id.encode())


@lru_cache(maxsize=1024)
def _open(index: Path) -> Hashes:
    opened: Hashes = np.load(index, mmap_mode="r", allow_pickle=False)
    return opened
