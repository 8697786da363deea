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
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

__all__ = ["KEYS", "WINDOWS", "buckets_of", "quantile", "window_table"]

_ACCURACY = 0.01
_BASE = (1 + _ACCURACY) / (1 - _ACCURACY)
_LAST_BUCKET = 1_200  # more than seven hours

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
