"""What a shadow would have answered instead: its predictions beside those given to the same requests.

A copy belongs to the latest answer before it with its request id and row. The two are *compared* when both
are `ok` and no fallback stood in for the answer. They *differ* when labels do, the first items of rankings,
or numbers by more than a millionth of the larger one: what the gateway counts, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
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
from fairlead.predictions.slices import segments_of

__all__ = ["shadow_report"]

_SAMPLE = 50_000
_MOST_CONFUSED, _MOST_UNITS = 50, 20


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
            segments=_segments(sample, slices),
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


def _segments(sample: pa.Table, slices: Sequence[str]) -> list[Segment]:
    features = sample.column("features")
    if not pa.types.is_struct(features.type):
        return []
    names = [field.name for field in features.type]
    columns = features.combine_chunks().flatten() if sample.num_rows else []
    wanted = {
        name: column.to_pylist()
        for name, column in zip(names, columns, strict=False)
        if (not slices or name in slices) and not pa.types.is_list(column.type)
    }
    return segments_of(wanted, sample.column("differs").to_pylist(), slices)
