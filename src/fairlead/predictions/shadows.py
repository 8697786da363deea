"""What a shadow would have answered instead: its predictions beside those given to the same requests.

A copy belongs to the latest answer before it with its request id and row. The two are *compared* when both
are `ok` and no fallback stood in for the answer. They *differ* when labels do, the first items of rankings,
or numbers by more than a millionth of the larger one: what the gateway counts, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fairlead.predictions.ingest import Snapshot
from fairlead.predictions.query import Queries
from fairlead.predictions.shadow_report import (
    Confused,
    Difference,
    Latency,
    Segment,
    ShadowReport,
    UnitDifference,
)

__all__ = ["segments_of", "shadow_report"]

_SAMPLE = 50_000
_MOST_CONFUSED, _MOST_UNITS, _MOST_SEGMENTS = 50, 20, 10
_MOST_VALUES = 20
_FEW_VALUES = 10
_LEAST_ROWS = 20
_BEYOND_CHANCE = 3.0
"""So many standard deviations more rows differ in a segment that is named without having been declared."""


def shadow_report(
    queries: Queries,
    model: str,
    since: datetime,
    until: datetime,
    *,
    version: str | None = None,
    slices: Sequence[str] = (),
) -> ShadowReport:
    """How the shadow compares between the two times; the latest one when no version is named."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        if version is None:
            (latest,) = queries.trusted(_LATEST, [model, since, until], ["predictions"], snapshot).to_pylist()
            version = latest["version"]
        report = ShadowReport(model=model, version=version, start=since, end=until)
        if version is None:
            return report
        asked = _Asked(queries, snapshot, [model, version, since, until])
        (totals,) = asked.rows(_TOTALS)
        if not totals["rows"]:
            return report
        sample = asked.table(_SAMPLED)
        return msgspec.structs.replace(
            report,
            rows=totals["rows"],
            against=dict(totals["against"] or ()),
            compared=totals["compared"],
            different=totals["different"],
            share=totals["different"] / totals["compared"] if totals["compared"] else None,
            units=totals["units"],
            units_different=totals["units_different"],
            difference=_difference(totals),
            confusion=[Confused(**row) for row in asked.rows(_CONFUSION)],
            answered_errors=dict(totals["answered_errors"] or ()),
            shadow_errors=dict(totals["shadow_errors"] or ()),
            answered_latency=_latency(totals["answered_mean"], totals["answered_quantiles"]),
            shadow_latency=_latency(totals["shadow_mean"], totals["shadow_quantiles"]),
            most_different=[UnitDifference(**row) for row in asked.rows(_UNITS)],
            segments=segments_of(sample, slices),
        )


class _Asked:
    """Statements over the pairs of one shadow."""

    def __init__(self, queries: Queries, snapshot: Snapshot, parameters: list[Any]) -> None:
        self._queries = queries
        self._snapshot = snapshot
        self._parameters = parameters

    def table(self, select: str) -> pa.Table:
        return self._queries.trusted(f"{_PAIRS} {select}", self._parameters, ["predictions"], self._snapshot)

    def rows(self, select: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.table(select).to_pylist()
        return found


# --- the statements -----------------------------------------------------------------------------------------

_NEAR = "abs({0} - {1}) <= 1e-6 * greatest(abs({0}), abs({1}))"
_LABEL = """CASE WHEN json_type({0}) = 'DOUBLE' THEN NULL
    WHEN json_type({0}) = 'ARRAY' THEN json_extract_string({0}, '$[0].id')
    ELSE json_extract_string({0}, '$') END"""

_LATEST = """
SELECT arg_max(assigned_version, "at") AS version FROM predictions
WHERE model = $1 AND source = 'shadow' AND "at" >= $2 AND "at" < $3
"""

_PAIRS = f"""
WITH copies AS (
    SELECT * FROM predictions
    WHERE model = $1 AND source = 'shadow' AND assigned_version = $2 AND "at" >= $3 AND "at" < $4
), given AS (
    SELECT * FROM predictions
    WHERE model = $1 AND source = 'online' AND "at" >= $3::TIMESTAMPTZ - INTERVAL 1 HOUR AND "at" < $4
), joined AS (
    SELECT s."at", s.unit, s.features, s.status, s.error_code, s.latency_ms, s.prediction AS shadow,
        g.status AS given_status, g.error_code AS given_error, g.cached, g.latency_ms AS given_ms,
        g.prediction AS answered, coalesce(g.served_version, g.assigned_version) AS against,
        s.status = 'ok' AND g.status = 'ok' AND g.degraded IS NULL AS comparable,
        list_sort([json_type(s.prediction), json_type(g.prediction)]) IN (
            ['DOUBLE', 'DOUBLE'], ['BIGINT', 'DOUBLE'], ['DOUBLE', 'UBIGINT']) AS numeric,
        try_cast(s.prediction AS DOUBLE) AS x, try_cast(g.prediction AS DOUBLE) AS y
    FROM copies s ASOF JOIN given g
    ON s.request_id = g.request_id AND s.row = g.row AND s."at" >= g."at"
), pairs AS (
    SELECT *, comparable AND NOT coalesce(CASE
        WHEN numeric THEN {_NEAR.format("x", "y")}
        WHEN shadow = answered THEN true
        WHEN json_type(shadow, '$[0]') = 'OBJECT' THEN
            json_extract_string(shadow, '$[0].id') = json_extract_string(answered, '$[0].id')
        WHEN json_type(shadow) = 'ARRAY' THEN
            json_array_length(shadow) = json_array_length(answered) AND list_bool_and(list_transform(
                list_zip(try_cast(shadow AS DOUBLE[]), try_cast(answered AS DOUBLE[])),
                lambda pair: {_NEAR.format("pair[1]", "pair[2]")}))
        ELSE false
    END, false) AS differs
    FROM joined
)
"""

_TOTALS = """
SELECT count(*) AS rows, histogram(against) AS against,
    count(*) FILTER (comparable) AS compared, count(*) FILTER (differs) AS different,
    count(DISTINCT unit) FILTER (comparable) AS units,
    count(DISTINCT unit) FILTER (differs) AS units_different,
    histogram(given_error) FILTER (given_status <> 'ok') AS answered_errors,
    histogram(error_code) FILTER (status <> 'ok') AS shadow_errors,
    avg(x - y) FILTER (comparable AND numeric) AS mean,
    avg(abs(x - y)) FILTER (comparable AND numeric) AS mean_absolute,
    quantile_cont(abs(x - y), [0.5, 0.95, 0.99]) FILTER (comparable AND numeric) AS quantiles,
    max(abs(x - y)) FILTER (comparable AND numeric) AS max_absolute,
    avg(given_ms) FILTER (NOT cached) AS answered_mean,
    quantile_cont(given_ms, [0.5, 0.95, 0.99]) FILTER (NOT cached) AS answered_quantiles,
    avg(latency_ms) FILTER (status <> 'rejected') AS shadow_mean,
    quantile_cont(latency_ms, [0.5, 0.95, 0.99]) FILTER (status <> 'rejected') AS shadow_quantiles
FROM pairs
"""

_CONFUSION = f"""
SELECT {_LABEL.format("pairs.answered")} AS answered, {_LABEL.format("pairs.shadow")} AS shadow,
    count(*) AS rows
FROM pairs WHERE comparable GROUP BY ALL HAVING answered IS NOT NULL AND shadow IS NOT NULL
ORDER BY rows DESC, answered, shadow LIMIT {_MOST_CONFUSED}
"""

_UNITS = f"""
SELECT unit, count(*) AS rows, count(*) FILTER (differs) AS different
FROM pairs WHERE comparable AND unit IS NOT NULL GROUP BY unit HAVING count(*) FILTER (differs) > 0
ORDER BY different DESC, rows, unit LIMIT {_MOST_UNITS}
"""

_SAMPLED = f"""SELECT features, differs FROM pairs WHERE comparable ORDER BY "at" DESC LIMIT {_SAMPLE}"""


def _difference(totals: dict[str, Any]) -> Difference | None:
    if totals["mean"] is None:
        return None
    p50, p95, p99 = totals["quantiles"]
    return Difference(
        mean=totals["mean"],
        mean_absolute=totals["mean_absolute"],
        p50_absolute=p50,
        p95_absolute=p95,
        p99_absolute=p99,
        max_absolute=totals["max_absolute"],
    )


def _latency(mean: float | None, quantiles: list[float] | None) -> Latency | None:
    if quantiles is None:
        return None
    p50, p95, p99 = quantiles
    return Latency(mean_ms=mean, p50_ms=p50, p95_ms=p95, p99_ms=p99)


# --- on whom ------------------------------------------------------------------------------------------------


def segments_of(sample: pa.Table, slices: Collection[str] = ()) -> list[Segment]:
    """Where rows of `sample` (`features`, `differs`) differ: in every segment of the features in `slices`, or
    else in those of any feature where more do than chance explains."""
    features = sample.column("features")
    differs = np.asarray(sample.column("differs"), dtype=bool)
    if not pa.types.is_struct(features.type) or not differs.any():
        return []
    overall = float(differs.mean())
    scored = []
    for name, values in zip(
        [field.name for field in features.type], features.combine_chunks().flatten(), strict=True
    ):
        if slices and name not in slices:
            continue
        for value, chosen in _groups(values):
            rows, different = int(chosen.sum()), int(differs[chosen].sum())
            spread = math.sqrt(rows * overall * (1.0 - overall))
            score = (different - rows * overall) / spread if spread else 0.0
            if slices or (rows >= _LEAST_ROWS and score > _BEYOND_CHANCE):
                share = different / rows
                segment = Segment(feature=name, value=value, rows=rows, different=different, share=share)
                scored.append((score, segment))
    scored.sort(key=lambda pair: (-pair[0], pair[1].feature, pair[1].value))
    return [segment for _, segment in scored[: None if slices else _MOST_SEGMENTS]]


def _groups(values: pa.Array) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """The segments of a feature: its most frequent values, or the quarters of its numbers; none of lists."""
    if pa.types.is_list(values.type):
        return
    absent = np.asarray(values.is_null(nan_is_null=True))
    if absent.any() and not absent.all():
        yield "missing", absent
    present = values.filter(pa.array(~absent))
    counted = present.value_counts().to_pylist()
    is_number = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    if is_number and len(counted) > _FEW_VALUES:
        numbers = np.full(len(values), np.nan)
        numbers[~absent] = np.asarray(present, dtype=float)
        yield from _quarters(numbers)
        return
    everything = np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)
    for entry in sorted(counted, key=lambda entry: -entry["counts"])[:_MOST_VALUES]:
        yield _text(entry["values"]), np.asarray(everything == entry["values"], dtype=bool)


def _quarters(numbers: npt.NDArray[np.float64]) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    low = -math.inf
    for high in [*dict.fromkeys(np.nanquantile(numbers, [0.25, 0.5, 0.75]).tolist()), math.inf]:
        chosen = (numbers > low) & (numbers <= high)
        if chosen.any():
            above = "" if low == -math.inf else f"above {low:g}"
            to = "" if high == math.inf else f"up to {high:g}"
            yield " ".join(part for part in (above, to) if part), chosen
        low = high


def _text(value: Any) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
