"""Windows add, and their quantiles are within 1 % of the exact ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.predictions.columns import prediction_tables
from fairlead.predictions.record import PredictionRecord
from fairlead.predictions.windows import WINDOWS, buckets_of, quantile, window_table
from tests.predictions.records import AT, SCHEMA, make_record

latencies = st.lists(st.floats(0.001, 100_000), min_size=1, max_size=200)


def windows_of(records: Sequence[PredictionRecord]) -> pa.Table:
    tables = [table for _, table in prediction_tables(records, {SCHEMA.contract_id: SCHEMA})]
    return pa.concat_tables(window_table(table) for table in tables)


@given(latencies, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_one_percent_of_the_exact_nearest_rank(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = quantile(Counter(buckets_of(np.array(values)).tolist()), share)
    assert found == pytest.approx(exact, rel=0.0101)


@given(latencies, latencies)
def test_the_quantiles_of_added_windows_are_those_of_all_values(one: list[float], two: list[float]) -> None:
    apart = Counter(buckets_of(np.array(one)).tolist()) + Counter(buckets_of(np.array(two)).tolist())
    together = Counter(buckets_of(np.array(one + two)).tolist())
    assert quantile(apart, 0.95) == quantile(together, 0.95)


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile({}, 0.5) is None


def test_odd_latencies_fall_into_the_outer_buckets() -> None:
    odd = np.array([0.0, -1.0, math.nan, 1e-9, math.inf, 1e300])
    low, high = buckets_of(odd)[[0, 5]]
    assert buckets_of(odd).tolist() == [low, low, low, low, high, high]
    assert low == 0


def test_a_window_counts_what_happened_in_its_minute() -> None:
    minute = AT + 60_000_000
    records = [
        make_record(at=minute),
        make_record(at=minute + 59_999_999, cached=True),
        make_record(at=minute + 60_000_000),
        make_record(at=minute + 1, status="rejected", latency_ms=0.1),
        make_record(at=minute + 2, status="failed", served_version=None, latency_ms=900.0),
        make_record(at=minute + 3, served_version=None, assigned_version=None, arm=None, role=None),
    ]
    rows = windows_of(records)
    assert rows.schema == WINDOWS
    first = [row for row in rows.to_pylist() if row["minute"].minute == 1]
    of_v1 = [row for row in first if row["version"] == "v1"]
    assert {
        name: sum(row[name] for row in of_v1) for name in ("count", "ok", "rejected", "failed", "cached")
    } == {
        "count": 4,
        "ok": 2,
        "rejected": 1,
        "failed": 1,
        "cached": 1,
    }
    assert [row["count"] for row in first if row["version"] is None] == [1]
    assert [row["latency_max"] for row in of_v1 if row["rejected"]] == [None]
    assert max(row["latency_max"] or 0.0 for row in of_v1) == 900.0
    assert sum(rows.column("count").to_pylist()) == len(records)


def test_arms_roles_and_sources_have_windows_of_their_own() -> None:
    records = [
        make_record(at=AT),
        make_record(at=AT, source="shadow", arm="shadow", role="shadow"),
        make_record(at=AT, arm="control", role="control"),
        make_record(at=AT, assigned_version="v2", arm="canary", role="canary"),
    ]
    rows = windows_of(records).select(["source", "version", "arm", "role", "count"]).to_pylist()
    assert len(rows) == 4
    # stable answered in the canary's place: the version is the one that answered, the arm the assigned one
    assert {"source": "online", "version": "v1", "arm": "canary", "role": "canary", "count": 1} in rows


def test_before_1970_minutes_still_start_on_the_minute() -> None:
    (row,) = windows_of([make_record(at=-1)]).to_pylist()
    assert (row["minute"].year, row["minute"].minute, row["minute"].second) == (1969, 59, 0)
