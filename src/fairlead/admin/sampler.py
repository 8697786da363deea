"""How fast and how well versions answer right now, from the counters that gateways keep in mapped memory.

The counters only grow; two looks at them a while apart tell what happened between. One look per second for a
minute is kept.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec

from fairlead.telemetry.counters import ArmKey, read_counters
from fairlead.telemetry.latency import BUCKETS, quantile

__all__ = ["Pulse", "Sampler"]

_LOOKS = 61
_CELLS = ("ok", "rejected", "failed", "cache_hits", "cache_misses")
_Counts = tuple[list[int], list[int]]


class Pulse(msgspec.Struct, frozen=True, kw_only=True):
    """How a version does: answers per second over 10 s and over 60 s; the rest over 60 s, None without an
    answer. Latencies are in milliseconds."""

    rate_10s: float = 0.0
    rate_60s: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    error_rate: float | None = None
    rejected_rate: float | None = None
    cache_hit_rate: float | None = None


class Sampler:
    """Looks at the counters once a second, in a thread of its own between `start` and `stop`."""

    def __init__(self, counters: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = counters
        self._clock = clock
        self._looks: deque[tuple[float, dict[tuple[str, str], _Counts]]] = deque(maxlen=_LOOKS)
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begins to look."""
        self._stopping = threading.Event()
        threading.Thread(target=self._run, args=(self._stopping,), name="sampler", daemon=True).start()

    def stop(self) -> None:
        """Ends looking."""
        self._stopping.set()

    def look(self) -> None:
        """Notes the counters as they are now."""
        found: dict[tuple[str, str], _Counts] = {}
        for arm in read_counters(self._folder):
            key = _version_of(arm.key)
            cells, latency = found.setdefault(key, ([0] * len(_CELLS), [0] * BUCKETS))
            for index, name in enumerate(_CELLS):
                cells[index] += arm.cells[name]
            for index, count in enumerate(arm.latency):
                latency[index] += count
        self._looks.append((self._clock(), found))

    def pulse(self, model: str, version: str) -> Pulse:
        """How that version has done lately."""
        looks = list(self._looks)
        if len(looks) < 2:
            return Pulse()
        key = (model, version)
        now, latest = looks[-1]
        ten = next(look for look in looks if now - look[0] <= 10.5)
        answers_10s, _ = _between(ten[1], latest, key)
        cells, latency = _between(looks[0][1], latest, key)
        ok, rejected, failed, hits, misses = cells
        answers = ok + rejected + failed
        return Pulse(
            rate_10s=_per_second(sum(answers_10s[:3]), now - ten[0]),
            rate_60s=_per_second(answers, now - looks[0][0]),
            p50_ms=_milliseconds(quantile(latency, 0.5)),
            p99_ms=_milliseconds(quantile(latency, 0.99)),
            error_rate=_share(failed, answers),
            rejected_rate=_share(rejected, answers),
            cache_hit_rate=_share(hits, hits + misses),
        )

    def _run(self, stopping: threading.Event) -> None:
        while not stopping.is_set():
            self.look()
            stopping.wait(1.0)


def _version_of(key: ArmKey) -> tuple[str, str]:
    return key.model, key.version


def _between(
    before: dict[tuple[str, str], _Counts], after: dict[tuple[str, str], _Counts], key: tuple[str, str]
) -> _Counts:
    """What was counted between two looks; never less than nothing, should a block have been lost."""
    nothing: _Counts = ([0] * len(_CELLS), [0] * BUCKETS)
    (cells_before, latency_before), (cells, latency) = before.get(key, nothing), after.get(key, nothing)
    return (
        [max(0, b - a) for a, b in zip(cells_before, cells, strict=True)],
        [max(0, b - a) for a, b in zip(latency_before, latency, strict=True)],
    )


def _per_second(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 4)
