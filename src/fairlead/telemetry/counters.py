"""Counters per arm in a small memory-mapped file: one block per gateway worker, one writer, many readers.

A worker increments 64-bit cells in place; any process sums the blocks of all workers. A block outlives its
worker, and the replacement in the same slot goes on counting where it stopped, so nothing runs backwards.
Rollback decisions and `/metrics` read these, never the lagging log.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from fairlead.telemetry.latency import BUCKETS, bucket_of

__all__ = ["ArmCounters", "ArmKey", "CounterBlock", "CounterRow", "read_counters"]

_MAGIC = b"FLCNT005"
_HEADER = 64
_KEY_BYTES = 512
CELLS = (
    "ok", "rejected", "failed", "shed", "cache_hits", "cache_misses", "unlogged", "runs", "run_rows",
    "latency_ns", "run_ns", "cache_shared_hits", "faults", "stale_cache", "fallback_version",
    "contract_default", "cancelled", "loads", "load_ns", "evictions", "shadow_same", "shadow_different",
    "shadow_dropped",
)  # fmt: skip
"""The scalar cells of a row. `runs` and `run_rows` count model runs and the rows in them; `latency_ns` and
`run_ns` are sums. `unlogged` counts answers without a record. `cache_shared_hits` are those of `cache_hits`
that came from the cache that gateways share. `faults` counts rows that the arm's version could not answer,
whoever then did; `stale_cache`, `fallback_version` and `contract_default` what stood in for it. `cancelled`
are rows whose callers went away. `loads`, `load_ns` and `evictions` say how often the version came into
memory, how long that took, and how often it had to leave; one of its arms counts them. A shadow's `ok`,
`rejected`, `failed` and latencies are those of its runs on copies; `shadow_same` and `shadow_different`
compare its answers with those that were given; `shadow_dropped` are copies for which was no room or time."""
_ROW_CELLS = len(CELLS) + BUCKETS
_ROW_BYTES = _KEY_BYTES + 8 * _ROW_CELLS
CAPACITY = 4096
"""Rows per block; those that are not in use lie in a hole of the file and cost nothing. An arm that finds no
room is counted in the last row, whose key says so."""

_INDEX = {name: index for index, name in enumerate(CELLS)}
_OK, _REJECTED, _FAILED = _INDEX["ok"], _INDEX["rejected"], _INDEX["failed"]
_HITS, _MISSES = _INDEX["cache_hits"], _INDEX["cache_misses"]
_RUNS, _RUN_ROWS, _RUN_NS = _INDEX["runs"], _INDEX["run_rows"], _INDEX["run_ns"]
_LATENCY = _INDEX["latency_ns"]
_STATUS = {"ok": _OK, "rejected": _REJECTED, "failed": _FAILED}


class ArmKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """What a row counts. An empty model means the gateway itself: requests that reached no model."""

    model: str = ""
    version: str = ""
    arm: str = ""
    role: str = ""


class CounterRow:
    """The live cells of one arm in this worker. Not safe for threads: the event loop alone counts."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def answered(self, status: str, seconds: float, rows: int = 1) -> None:
        """Counts the answer to a row, or to rows that were answered together, and its latency."""
        cells = self._cells
        cells[_STATUS[status]] += rows
        cells[_LATENCY] += int(seconds * 1e9) * rows
        cells[len(CELLS) + bucket_of(seconds)] += rows

    def looked_up(self, hit: bool) -> None:
        """Counts one look-up in the prediction cache."""
        self._cells[_HITS if hit else _MISSES] += 1

    def ran(self, rows: int, seconds: float) -> None:
        """Counts one run of the model."""
        cells = self._cells
        cells[_RUNS] += 1
        cells[_RUN_ROWS] += rows
        cells[_RUN_NS] += int(seconds * 1e9)

    def add(self, cell: str, amount: int = 1) -> None:
        """Adds to a cell by name: for the rare ones."""
        self._cells[_INDEX[cell]] += amount


class CounterBlock:
    """One worker's block. Opens what a predecessor left, or makes a new one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = _HEADER + CAPACITY * _ROW_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _is_block(descriptor, size):
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, size)
                os.pwrite(descriptor, _MAGIC, 0)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)
        self._rows: dict[ArmKey, CounterRow] = {}
        for index in range(CAPACITY):
            key = _key_at(self._view, index)
            if key is None:
                break
            self._rows[key] = CounterRow(_cells_at(self._view, index))

    def row(self, key: ArmKey) -> CounterRow:
        """The row of that arm, made on first use."""
        found = self._rows.get(key)
        if found is None:
            encoded = msgspec.msgpack.encode(key)
            if len(self._rows) >= CAPACITY - 1 or len(encoded) > _KEY_BYTES - 2:
                key = ArmKey("(others)")
                encoded = msgspec.msgpack.encode(key)
                if key in self._rows:
                    return self._rows[key]
            index = len(self._rows)
            start = _HEADER + index * _ROW_BYTES
            # The length goes last: a reader that sees it sees the whole key.
            self._view[start + 2 : start + 2 + len(encoded)] = encoded
            self._view[start : start + 2] = len(encoded).to_bytes(2, "little")
            found = self._rows[key] = CounterRow(_cells_at(self._view, index))
        return found


class ArmCounters(msgspec.Struct, kw_only=True):
    """Summed counters of one arm: the scalar cells by name, and the latency histogram."""

    key: ArmKey
    cells: dict[str, int]
    latency: list[int]

    @property
    def answered(self) -> int:
        """Answers of any status."""
        return self.cells["ok"] + self.cells["rejected"] + self.cells["failed"]


def read_counters(folder: Path) -> list[ArmCounters]:
    """The counters of every arm, summed over all blocks in the folder, in key order."""
    summed: dict[ArmKey, ArmCounters] = {}
    size = _HEADER + CAPACITY * _ROW_BYTES
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        for key, cells in _rows_of(path, size):
            _add(summed, key, cells)
    return [summed[key] for key in sorted(summed)]


def _rows_of(path: Path, size: int) -> Iterator[tuple[ArmKey, list[int]]]:
    """The rows of a block that are in use, read as far as they reach; none of what is no block."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size != size or file.read(_HEADER)[: len(_MAGIC)] != _MAGIC:
            return
        for _ in range(CAPACITY):
            # As a block of one row, so that there is one place that knows how a row lies.
            view = memoryview(bytes(_HEADER) + file.read(_ROW_BYTES))
            key = _key_at(view, 0)
            if key is None:
                return
            yield key, list(_cells_at(view, 0))


def _add(summed: dict[ArmKey, ArmCounters], key: ArmKey, cells: list[int]) -> None:
    scalars, latency = cells[: len(CELLS)], cells[len(CELLS) :]
    held = summed.get(key)
    if held is None:
        named = dict(zip(CELLS, scalars, strict=True))
        summed[key] = ArmCounters(key=key, cells=named, latency=latency)
        return
    for name, value in zip(CELLS, scalars, strict=True):
        held.cells[name] += value
    held.latency = _sum(held.latency, latency)


def _sum(left: Iterable[int], right: Iterable[int]) -> list[int]:
    return [a + b for a, b in zip(left, right, strict=True)]


def _is_block(descriptor: int, size: int) -> bool:
    return os.fstat(descriptor).st_size == size and os.pread(descriptor, 8, 0) == _MAGIC


def _key_at(view: memoryview, index: int) -> ArmKey | None:
    start = _HEADER + index * _ROW_BYTES
    length = int.from_bytes(view[start : start + 2], "little")
    if not length:
        return None
    return msgspec.msgpack.decode(view[start + 2 : start + 2 + length], type=ArmKey)


def _cells_at(view: memoryview, index: int) -> memoryview:
    start = _HEADER + index * _ROW_BYTES + _KEY_BYTES
    return view[start : start + 8 * _ROW_CELLS].cast("Q")
