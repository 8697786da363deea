"""Summaries say what the rows say, whether the rows are fresh, stored, or both."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import InvalidQuery
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.summaries import Summaries
from fairlead.predictions.windows import Window
from tests.predictions.records import AT, make_outcome, make_record

START = datetime.fromtimestamp(AT / 1e6, UTC)
MINUTE = 60_000_000


class Log:
    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.ingest = Ingest(folder)
        self.queries = Queries(self.ingest)
        self.summaries = Summaries(self.queries)

    def write(self, *records: Any) -> None:
        self.writer.append(*map(frame, records))

    def flush(self) -> None:
        self.ingest.catch_up()
        self.ingest.flush()

    def hour(self, step: int = 60) -> list[Window]:
        return self.summaries.windows("shop", START, START + timedelta(hours=1), step)

    def last_hour(self, version: str = "v1", **options: Any) -> Window:
        return self.summaries.version_metrics(
            "shop", version, 3_600, now=START + timedelta(hours=1), **options
        )


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.ingest.close()


def test_no_traffic_is_no_windows_and_no_rates(log: Log) -> None:
    assert log.hour() == []
    nothing = log.last_hour()
    assert (nothing.count, nothing.error_rate, nothing.cache_hit_rate, nothing.p99_ms) == (
        0,
        None,
        None,
        None,
    )


def test_windows_add_over_files_fresh_rows_and_minutes(log: Log) -> None:
    for number in range(6):
        log.write(make_record(at=AT + number * MINUTE), make_record(at=AT + number * MINUTE + 1, cached=True))
        if number < 4:
            log.flush()
    assert [(window.start.minute, window.count, window.cached) for window in log.hour()] == [
        (number, 2, 1) for number in range(6)
    ]
    (whole,) = log.hour(step=3_600)
    assert (whole.count, whole.cache_hit_rate, whole.start, whole.end) == (
        12,
        0.5,
        START,
        START + timedelta(hours=1),
    )
    assert whole.rate == pytest.approx(12 / 3_600)


def test_versions_arms_and_sources_are_kept_apart(log: Log) -> None:
    log.write(
        make_record(at=AT),
        make_record(at=AT, arm="canary", role="canary", assigned_version="v2", served_version="v2"),
        make_record(at=AT, arm="canary", role="canary", assigned_version="v2", degraded="fallback_version"),
        make_record(at=AT, source="shadow", arm="shadow", role="shadow", served_version="v3"),
        make_record(at=AT, model="other"),
    )
    found = [(window.version, window.arm, window.source, window.count) for window in log.hour()]
    assert found == [
        ("v1", "canary", "online", 1),
        ("v1", "stable", "online", 1),
        ("v2", "canary", "online", 1),
        ("v3", "shadow", "shadow", 1),
    ]
    assert log.last_hour("v1").count == 2
    assert log.last_hour("v3").count == 0
    assert log.last_hour("v3", source="shadow").count == 1


def test_rejected_requests_count_but_are_no_errors_and_have_no_latency(log: Log) -> None:
    log.write(
        make_record(at=AT, latency_ms=10.0),
        make_record(at=AT, latency_ms=10.0),
        make_record(at=AT, latency_ms=10.0),
        make_record(at=AT, status="failed", served_version=None, latency_ms=30.0),
        make_record(at=AT, status="rejected", served_version=None, latency_ms=9_000.0),
    )
    log.flush()
    (window,) = log.hour()
    exact = log.last_hour()
    for found in (window, exact):
        assert (found.count, found.ok, found.rejected, found.failed) == (5, 3, 1, 1)
        assert found.error_rate == 0.25
        assert found.max_ms == 30.0
        assert found.mean_ms == pytest.approx(15.0)
        assert found.p50_ms == pytest.approx(10.0, rel=0.011)
        assert found.p99_ms == pytest.approx(30.0, rel=0.011)
    assert (window.exact, exact.exact) == (False, True)


def test_a_window_too_large_for_its_rows_is_answered_from_minutes_within_one_percent(log: Log) -> None:
    chance = random.Random(3)
    records = [
        make_record(at=AT + number * 100_000, latency_ms=chance.lognormvariate(1.0, 1.0))
        for number in range(3_000)
    ]
    log.write(*records[:2_000])
    log.flush()
    log.write(*records[2_000:])
    exact = log.last_hour()
    rough = Summaries(log.queries, exact_rows=100).version_metrics(
        "shop", "v1", 3_600, now=START + timedelta(hours=1)
    )
    ordered = sorted(record.latency_ms for record in records)
    assert exact.p99_ms == pytest.approx(ordered[2_969], rel=0.01)
    assert (exact.exact, rough.exact) == (True, False)
    assert (rough.count, rough.max_ms) == (exact.count, exact.max_ms)
    for name in ("p50_ms", "p95_ms", "p99_ms", "mean_ms"):
        assert getattr(rough, name) == pytest.approx(getattr(exact, name), rel=0.02)


def test_a_version_is_measured_over_the_window_and_not_before_or_after(log: Log) -> None:
    log.write(make_record(at=AT - 1), make_record(at=AT), make_record(at=AT + 3_600_000_000))
    assert log.last_hour().count == 1


def test_times_within_a_minute_take_the_whole_minute(log: Log) -> None:
    log.write(make_record(at=AT), make_record(at=AT + MINUTE))
    half = timedelta(seconds=30)
    found = log.summaries.windows("shop", START + half, START + half, 60)
    assert [window.start for window in found] == [START]


@pytest.mark.parametrize("step", [0, -60, 59, 90])
def test_a_step_is_whole_minutes(log: Log, step: int) -> None:
    with pytest.raises(InvalidQuery, match="whole minutes"):
        log.hour(step)


def test_an_absurd_number_of_windows_is_refused(log: Log) -> None:
    with pytest.raises(InvalidQuery, match="longer step"):
        log.summaries.windows("shop", datetime(1970, 1, 1, tzinfo=UTC), START, 60)


def test_outcomes_are_summed_per_version_and_arm(log: Log) -> None:
    canary = {"arm": "canary", "role": "canary", "assigned_version": "v2", "served_version": "v2"}
    log.write(
        make_record(at=AT, request_id="a", unit="u1"),
        make_record(at=AT, request_id="b", unit="u2", prediction="0"),
        make_record(at=AT, request_id="c", unit="u2"),
        make_record(at=AT, request_id="d", unit="u3", **canary),
        make_record(at=AT, request_id="e", unit="u3", status="failed", **canary),
        make_outcome(request_id="a", metric="revenue", value=10.0, mode="add", outcome_id="1"),
        make_outcome(request_id="a", metric="revenue", value=5.0, mode="add", outcome_id="2"),
        make_outcome(request_id="a", metric="revenue", value=5.0, mode="add", outcome_id="2"),
        make_outcome(request_id="d", metric="revenue", value=40.0),
        make_outcome(request_id=None, row=None, unit="u2", metric="churned", value=1.0),
        make_outcome(request_id="a", metric="label", value=1.0),
        make_outcome(request_id="b", metric="label", value=1.0),
        make_outcome(request_id="elsewhere", metric="label", value=1.0),
    )
    log.flush()
    stable, other = log.summaries.outcomes("shop", START, START + timedelta(hours=1))
    assert (stable.version, stable.arm, stable.predictions, stable.units) == ("v1", "stable", 3, 2)
    assert (stable.metrics["revenue"].count, stable.metrics["revenue"].sum) == (1, 15.0)
    # two predictions were made for that unit, which churned once
    assert (stable.metrics["churned"].count, stable.metrics["churned"].sum) == (1, 1.0)
    assert (stable.labelled, stable.accuracy) == (2, 0.5)
    assert (other.version, other.arm, other.predictions) == ("v2", "canary", 1)
    assert other.metrics["revenue"].mean == 40.0
    assert (other.labelled, other.accuracy) == (0, None)


def test_no_predictions_have_no_outcomes(log: Log) -> None:
    log.write(make_outcome(request_id="nobody"))
    assert log.summaries.outcomes("shop", START, START + timedelta(hours=1)) == []
