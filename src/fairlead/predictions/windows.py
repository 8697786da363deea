"""Windows: counts and latencies of one minute, as rows that add.

A row counts the predictions of one minute, model, source, version, arm and role that fell into one latency
bucket; summing rows over any set of minutes, arms or buckets gives the counts of that set. The *version* is
the one that answered, or that should have when none did.

Bucket i holds latencies in (y^(i-1), y^i] microseconds with y = 1.01/0.99, so that a quantile read from
buckets is within 1 % of the exact one (DDSketch: Masson, Rim and Lee, VLDB 2019). Rejected requests are the
caller's fault and no work: they are counted with a null bucket and have no latency.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.predictions.record import Source

__all__ = [
    "KEYS",
    "SHARES",
    "WINDOWS",
    "Window",
    "buckets_of",
    "quantile",
    "window_of",
    "window_of_buckets",
    "window_table",
]

_ACCURACY = 0.01
_BASE = (1 + _ACCURACY) / (1 - _ACCURACY)
_LAST_BUCKET = 1_200  # more than seven hours

SHARES = (0.5, 0.95, 0.99)
"""The quantiles of latency that a `Window` has."""

KEYS = ("minute", "model", "source", "version", "arm", "role", "bucket")

WINDOWS = pa.schema(
    [
        ("minute", pa.timestamp("us", tz="UTC")),
        ("model", pa.string()),
        ("source", pa.string()),
        ("version", pa.string()),
        ("arm", pa.string()),
        ("role", pa.string()),
        ("bucket", pa.int16()),
        ("count", pa.int64()),
        ("ok", pa.int64()),
        ("rejected", pa.int64()),
        ("failed", pa.int64()),
        ("cached", pa.int64()),
        ("latency_sum", pa.float64()),
        ("latency_max", pa.float64()),
    ]
)


def buckets_of(latency_ms: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """The bucket of each latency; what is below a microsecond, or no number, falls into bucket 0."""
    microseconds = np.nan_to_num(latency_ms, nan=0.0, posinf=1e12) * 1_000
    index = np.ceil(np.log(np.maximum(microseconds, 1.0)) / math.log(_BASE))
    return np.minimum(index, _LAST_BUCKET).astype(np.int16)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The latency in milliseconds that `share` of them do not exceed (nearest rank); None for none."""
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, math.ceil(share * total))
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank <= 0:
            return float(2 * _BASE**bucket / (_BASE + 1) / 1_000)
    raise AssertionError("a rank lies beyond the counts")


def window_table(predictions: pa.Table) -> pa.Table:
    """The window rows of predictions of one model or several."""
    at = predictions.column("at").cast(pa.int64()).to_numpy()
    minute = pa.array(at - at % 60_000_000).cast(WINDOWS.field("minute").type)
    status = predictions.column("status")
    rejected = pc.equal(status, "rejected")
    latency = predictions.column("latency_ms")
    measured = pc.if_else(rejected, pa.scalar(None, pa.float64()), latency)
    bucket = pc.if_else(rejected, pa.scalar(None, pa.int16()), pa.array(buckets_of(latency.to_numpy())))
    version = pc.coalesce(predictions.column("served_version"), predictions.column("assigned_version"))
    rows = pa.table(
        {
            "minute": minute,
            **{name: predictions.column(name) for name in ("model", "source")},
            "version": version,
            **{name: predictions.column(name) for name in ("arm", "role")},
            "bucket": bucket,
            "ok": pc.equal(status, "ok").cast(pa.int64()),
            "rejected": rejected.cast(pa.int64()),
            "failed": pc.equal(status, "failed").cast(pa.int64()),
            "cached": predictions.column("cached").cast(pa.int64()),
            "latency_ms": measured,
        }
    )
    sums = [(name, "sum") for name in ("ok", "rejected", "failed", "cached")]
    found = rows.group_by(list(KEYS), use_threads=False).aggregate(
        [([], "count_all"), *sums, ("latency_ms", "sum"), ("latency_ms", "max")]
    )
    names = [*KEYS, "count_all", *(f"{name}_sum" for name, _ in sums), "latency_ms_sum", "latency_ms_max"]
    return found.select(names).rename_columns(WINDOWS.names).cast(WINDOWS)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What happened from `start` (inclusive) to `end` (exclusive). `rate` is predictions per second.

    `exact` tells whether the quantiles come from the rows; otherwise they are within 1 %.
    """

    start: datetime
    end: datetime
    version: str | None
    arm: str | None = None
    role: str | None = None
    source: Source | None = None
    count: int
    ok: int
    rejected: int
    failed: int
    cached: int
    rate: float
    error_rate: float | None
    cache_hit_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    mean_ms: float | None
    max_ms: float | None
    exact: bool


def window_of_buckets(
    rows: Iterable[dict[str, Any]], start: datetime, end: datetime, version: str | None
) -> Window:
    """The sum of window rows (as `WINDOWS` has them) over the time given."""
    totals: Counter[str] = Counter()
    buckets: Counter[int] = Counter()
    latency_sum, latency_max = 0.0, None
    for row in rows:
        totals.update({name: row[name] for name in ("count", "ok", "rejected", "failed", "cached")})
        if row["bucket"] is not None:
            buckets[row["bucket"]] += row["count"]
            latency_sum += row["latency_sum"]
            latency_max = max(latency_max or 0.0, row["latency_max"])
    measured = buckets.total()
    found = [quantile(buckets, share) for share in SHARES]
    return window_of(
        totals,
        start,
        end,
        version,
        [None if value is None else min(value, latency_max or value) for value in found],
        latency_sum / measured if measured else None,
        latency_max,
        exact=False,
    )


def window_of(
    totals: Mapping[str, Any],
    start: datetime,
    end: datetime,
    version: str | None,
    quantiles: Sequence[float | None],
    mean: float | None,
    highest: float | None,
    *,
    exact: bool,
) -> Window:
    """A window of counted predictions, with the rates that follow from the counts."""
    answered = totals["ok"] + totals["failed"]
    seconds = (end - start).total_seconds()
    return Window(
        start=start,
        end=end,
        version=version,
        count=totals["count"],
        ok=totals["ok"],
        rejected=totals["rejected"],
        failed=totals["failed"],
        cached=totals["cached"],
        rate=totals["count"] / seconds if seconds else 0.0,
        error_rate=totals["failed"] / answered if answered else None,
        cache_hit_rate=totals["cached"] / totals["ok"] if totals["ok"] else None,
        p50_ms=quantiles[0],
        p95_ms=quantiles[1],
        p99_ms=quantiles[2],
        mean_ms=mean,
        max_ms=highest,
        exact=exact,
    )
