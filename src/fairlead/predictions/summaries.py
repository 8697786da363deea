"""Summaries: how each version did, minute by minute, over a window, and by its outcomes.

Rates: `error_rate` is failed / (ok + failed), because rejected requests are the caller's fault;
`cache_hit_rate` is cached / ok. Latencies are those of ok and failed predictions, in milliseconds. A rate or
latency of nothing is None. The version is the one that answered, or that should have when none did.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from fairlead.errors import InvalidQuery
from fairlead.predictions.ingest import Snapshot
from fairlead.predictions.query import Queries
from fairlead.predictions.record import Source
from fairlead.predictions.windows import SHARES, Window, window_of, window_of_buckets

__all__ = ["MetricSummary", "OutcomeSummary", "Summaries", "Window"]

_MINUTE = timedelta(minutes=1)
_MOST_WINDOWS = 100_000


class MetricSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The effective outcomes of one metric: how many, and of their numbers the sum and mean."""

    count: int
    sum: float | None
    mean: float | None


class OutcomeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one version's predictions in one arm.

    `predictions` were answered, for `units` different units. In `metrics`, an outcome of a request counts for
    that prediction, one of a unit once for the unit. `labelled` predictions have a label that can be compared
    with the answer, and `accuracy` is the share of those that it equals.
    """

    version: str | None
    arm: str | None
    predictions: int
    units: int
    metrics: dict[str, MetricSummary]
    labelled: int
    accuracy: float | None


class Summaries:
    """Summaries over the log that `queries` reads; quantiles come from up to `exact_rows` rows."""

    def __init__(self, queries: Queries, *, exact_rows: int = 5_000_000) -> None:
        self._queries = queries
        self._exact_rows = exact_rows

    def windows(self, model: str, since: datetime, until: datetime, step: int = 60) -> list[Window]:
        """One window per version, arm, role and source for every `step` seconds in which there was traffic.

        `step` is a multiple of 60; windows begin at multiples of it since 1970. `since` is rounded down and
        `until` up to the minute. In order of time, then version.
        """
        if step <= 0 or step % 60:
            raise InvalidQuery(f"A step of {step} s is not whole minutes.", remedy="Use 60, 300, 3600, …")
        first, last = _whole_minutes(since, until)
        if (last - first).total_seconds() / step > _MOST_WINDOWS:
            raise InvalidQuery(
                f"More than {_MOST_WINDOWS} windows were asked for.", remedy="Use a longer step."
            )
        with self._caught_up() as snapshot:
            rows = self._counts(snapshot, model, first, last, step)
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in rows:
            key = tuple(row[name] for name in ("slot", "version", "arm", "role", "source"))
            groups.setdefault(key, []).append(row)
        found = []
        for (slot, version, arm, role, source), members in groups.items():
            start = datetime.fromtimestamp(slot * step, UTC)
            window = window_of_buckets(members, start, start + timedelta(seconds=step), version)
            found.append(msgspec.structs.replace(window, arm=arm, role=role, source=source))
        found.sort(key=lambda window: (window.start, window.version or "", window.arm or ""))
        return found

    def version_metrics(
        self, model: str, version: str, window_seconds: float, *, now: datetime, source: Source = "online"
    ) -> Window:
        """How one version did over the last `window_seconds`, over all its arms.

        Quantiles are exact unless the window may hold more than `exact_rows` rows; then they come from
        minute windows, `start` is rounded down to the minute, and `exact` is false.
        """
        start = now - timedelta(seconds=window_seconds)
        with self._caught_up() as snapshot:
            if _rows_between(snapshot, model, start, now) <= self._exact_rows:
                (row,) = self._queries.trusted(
                    _EXACT, [model, version, source, start, now], ["predictions"], snapshot
                ).to_pylist()
                return _from_rows(row, start, now, version, source)
            first, last = _whole_minutes(start, now)
            rows = [
                row
                for row in self._counts(snapshot, model, first, last, 60)
                if row["version"] == version and row["source"] == source
            ]
        return msgspec.structs.replace(window_of_buckets(rows, first, last, version), source=source)

    def outcomes(
        self, model: str, since: datetime, until: datetime, *, source: Source = "online"
    ) -> list[OutcomeSummary]:
        """What became of the predictions made between the two times, per version and arm.

        Outcomes count whenever they arrived.
        """
        parameters = [model, source, since, until]
        with self._caught_up() as snapshot:
            totals = self._queries.trusted(_TOTALS, parameters, ["labelled"], snapshot).to_pylist()
            metrics = self._queries.trusted(
                _METRICS, parameters, ["predictions", "outcomes"], snapshot
            ).to_pylist()
        return [
            OutcomeSummary(
                **total,
                metrics={
                    row["metric"]: MetricSummary(count=row["count"], sum=row["sum"], mean=row["mean"])
                    for row in metrics
                    if (row["version"], row["arm"]) == (total["version"], total["arm"])
                },
            )
            for total in totals
        ]

    def _caught_up(self) -> Any:
        self._queries.ingest.catch_up()
        return self._queries.ingest.snapshot()

    def _counts(
        self, snapshot: Snapshot, model: str, first: datetime, last: datetime, step: int
    ) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._queries.trusted(
            _COUNTS, [step, model, first, last], ["windows"], snapshot
        ).to_pylist()
        return rows


_COUNTS = """
SELECT floor(epoch(minute) / $1)::BIGINT AS slot, version, arm, role, source, bucket,
    sum(count)::BIGINT AS count, sum(ok)::BIGINT AS ok, sum(rejected)::BIGINT AS rejected,
    sum(failed)::BIGINT AS failed, sum(cached)::BIGINT AS cached,
    sum(latency_sum) AS latency_sum, max(latency_max) AS latency_max
FROM windows WHERE model = $2 AND minute >= $3 AND minute < $4 GROUP BY ALL
"""

_EXACT = """
SELECT count(*) AS count, count(*) FILTER (status = 'ok') AS ok,
    count(*) FILTER (status = 'rejected') AS rejected, count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (cached) AS cached,
    quantile_disc(latency_ms, [0.5, 0.95, 0.99]) FILTER (status <> 'rejected') AS quantiles,
    avg(latency_ms) FILTER (status <> 'rejected') AS mean_ms,
    max(latency_ms) FILTER (status <> 'rejected') AS max_ms
FROM predictions
WHERE model = $1 AND coalesce(served_version, assigned_version) = $2 AND source = $3
    AND "at" >= $4 AND "at" < $5
"""

_ASKED = """model = $1 AND source = $2 AND "at" >= $3 AND "at" < $4"""

_TOTALS = f"""
SELECT coalesce(served_version, assigned_version) AS version, arm,
    count(*) FILTER (status = 'ok') AS predictions, count(DISTINCT unit) FILTER (status = 'ok') AS units,
    count(correct) AS labelled, avg(correct::INT) AS accuracy
FROM labelled WHERE {_ASKED} GROUP BY version, arm ORDER BY version, arm
"""

_METRICS = f"""
WITH asked AS (
    SELECT coalesce(served_version, assigned_version) AS version, arm, request_id, row, unit
    FROM predictions WHERE {_ASKED} AND status = 'ok'
), subjects AS (
    SELECT version, arm, metric, value FROM asked JOIN outcomes o USING (request_id, row) WHERE model = $1
    UNION ALL
    SELECT version, arm, metric, any_value(value) FROM asked JOIN outcomes o USING (unit)
    WHERE model = $1 AND o.request_id IS NULL GROUP BY version, arm, metric, unit
)
SELECT version, arm, metric, count(*) AS count, sum(value) AS sum, avg(value) AS mean
FROM subjects GROUP BY ALL ORDER BY ALL
"""


def _from_rows(row: dict[str, Any], start: datetime, end: datetime, version: str, source: Source) -> Window:
    quantiles = row["quantiles"] or [None] * len(SHARES)
    window = window_of(row, start, end, version, quantiles, row["mean_ms"], row["max_ms"], exact=True)
    return msgspec.structs.replace(window, source=source)


def _whole_minutes(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return since - (since - epoch) % _MINUTE, until + (epoch - until) % _MINUTE


def _rows_between(snapshot: Snapshot, model: str, start: datetime, end: datetime) -> int:
    first, last = start.timestamp() * 1e6, end.timestamp() * 1e6
    stored = sum(
        file.rows
        for file in snapshot.files
        if file.dataset == "predictions"
        and file.model == model
        and file.last_at >= first
        and file.first_at < last
    )
    fresh: int = sum(table.num_rows for table in snapshot.fresh.predictions.get(model, ()))
    return stored + fresh
