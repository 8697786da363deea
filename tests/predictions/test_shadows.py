"""A shadow beside what was answered: pairs by request and row, whether they differ, and on whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.predictions.sameness import is_same
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.shadow_report import Confused, ShadowReport
from fairlead.predictions.shadows import shadow_report
from tests.predictions.records import AT, SCHEMA, make_record

START = datetime.fromtimestamp(AT / 1e6, UTC)
COUNTRIES = ("DE", "FR")


class Log:
    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.ingest = Ingest(folder)
        self.queries = Queries(self.ingest)

    def pair(self, number: int, answered: Any, shadow: Any, features: Any = None, **changes: Any) -> None:
        """A request's answer and, a moment later, its copy; `changes` of the copy begin with `shadow_`."""
        own = {name: value for name, value in changes.items() if not name.startswith("shadow_")}
        copied = {name[7:]: value for name, value in changes.items() if name.startswith("shadow_")}
        common: dict[str, Any] = {"request_id": f"r{number}", "unit": f"u{number % 10}"}
        values = features or (31.5, 4, True, "DE", [1.0])
        at = AT + number * 1_000
        given = {"prediction": json.dumps(answered), **common, **own}
        self.writer.append(frame(make_record(values, at=at, **given)))
        copy = {
            "source": "shadow", "arm": "shadow", "role": "shadow", "assigned_version": "v2",
            "served_version": "v2", "prediction": json.dumps(shadow), "latency_ms": 0.1, **common, **copied,
        }  # fmt: skip
        self.writer.append(frame(make_record(values, at=at + 500, **copy)))

    def report(self, **options: Any) -> ShadowReport:
        return shadow_report(self.queries, "shop", START, START + timedelta(hours=1), **options)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.ingest.close()


def test_without_copies_there_is_nothing_to_tell(log: Log) -> None:
    log.writer.append(frame(make_record()))
    report = log.report()
    assert (report.version, report.rows, report.share) == (None, 0, None)
    assert log.report(version="v9").rows == 0


def test_labels_are_compared_pair_by_pair_in_files_and_fresh_rows(log: Log) -> None:
    for number in range(8):
        log.pair(number, 1, 1 if number < 6 else 0)
        if number == 4:
            log.ingest.catch_up()
            log.ingest.flush()
    report = log.report()
    assert (report.version, report.against) == ("v2", {"v1": 8})
    assert (report.rows, report.compared, report.different, report.share) == (8, 8, 2, 0.25)
    assert (report.units, report.units_different) == (8, 2)
    assert report.confusion == [
        Confused(answered="1", shadow="1", rows=6),
        Confused(answered="1", shadow="0", rows=2),
    ]
    assert [(one.unit, one.different) for one in report.most_different] == [("u6", 1), ("u7", 1)]
    assert report.difference is None


def test_numbers_have_a_difference(log: Log) -> None:
    for number, off in enumerate((0.0, 1e-8, 1.0, -3.0)):
        log.pair(number, 10.0, 10.0 + off)
    report = log.report()
    assert (report.compared, report.different) == (4, 2)
    assert report.difference is not None
    assert report.difference.mean == pytest.approx(-0.5)
    assert report.difference.mean_absolute == pytest.approx(1.0)
    assert report.difference.max_absolute == pytest.approx(3.0)
    assert report.confusion == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1), (1, 2), (1_000_000, 1_000_001), ("a", "a"), ("a", "b"), (True, False), (0.5, 0.5000004),
        (0.5, 0.500001), (0.0, 0.0), (0.0, 1e-9), (2, 2.0), (-3, -3.0), (2, 2.1),
        ([{"id": 1, "score": 0.9}, {"id": 2, "score": 0.1}], [{"id": 1, "score": 0.4}]),
        ([{"id": 1, "score": 0.9}], [{"id": 2, "score": 0.9}]),
        ([0.5, 1.0], [0.5000001, 1.0]), ([0.5, 1.0], [0.6, 1.0]), ([0.5, 1.0], [0.5]), ([], []),
    ],
)  # fmt: skip
def test_the_report_and_the_gateway_agree_on_what_is_the_same(log: Log, one: Any, other: Any) -> None:
    log.pair(0, one, other)
    assert log.report().different == (0 if is_same(one, other) else 1)


def test_failures_and_answers_of_a_fallback_are_not_compared_and_errors_are_counted(log: Log) -> None:
    log.pair(0, 1, 0, status="failed", error_code="runtime_failed", prediction=None)
    log.pair(1, 1, 0, shadow_status="failed", shadow_error_code="deadline_exceeded", shadow_prediction=None)
    log.pair(2, 1, 0, degraded="fallback_version", error_code="not_ready")
    log.pair(3, 1, 1)
    report = log.report()
    assert (report.rows, report.compared, report.different) == (4, 1, 0)
    assert report.answered_errors == {"runtime_failed": 1}
    assert report.shadow_errors == {"deadline_exceeded": 1}


def test_latencies_stand_side_by_side_without_cache_hits(log: Log) -> None:
    for number in range(10):
        log.pair(number, 1, 1, latency_ms=2.0, shadow_latency_ms=0.5)
    log.pair(11, 1, 1, latency_ms=0.01, cached=True)
    report = log.report()
    assert report.answered_latency is not None
    assert report.shadow_latency is not None
    assert (report.answered_latency.p50_ms, report.answered_latency.mean_ms) == (2.0, 2.0)
    assert report.shadow_latency.p95_ms == pytest.approx(0.5)


def test_a_copy_belongs_to_the_answer_before_it_however_often_a_request_id_is_used(log: Log) -> None:
    log.pair(0, 1, 1)
    log.pair(1, 0, 0, request_id="r0", shadow_request_id="r0")
    assert (log.report().rows, log.report().different) == (2, 0)


def test_rows_of_a_batch_are_paired_by_their_number(log: Log) -> None:
    for row in range(3):
        log.pair(row, row, row, request_id="b", shadow_request_id="b", row=row, shadow_row=row)
    assert (log.report().rows, log.report().different) == (3, 0)


def test_it_says_in_which_segments_more_differ_than_chance_explains(log: Log) -> None:
    for number in range(400):
        country = COUNTRIES[number % 2]
        age = float(number % 80)
        differs = country == "FR" and age < 20
        log.pair(number, 1, 0 if differs else 1, (age, 4, True, country, [1.0]))
    found = {(one.feature, one.value): (one.different, one.rows) for one in log.report().segments}
    assert found == {("age", "up to 19.75"): (50, 100), ("country", "FR"): (50, 200)}


def test_of_declared_slices_every_segment_is_told_and_no_other(log: Log) -> None:
    for number in range(10):
        log.pair(number, 1, number % 5, (1.0, 4, number % 3 == 0, COUNTRIES[number % 2], [1.0]))
    report = log.report(slices=["country", "member"])
    assert {(one.feature, one.value) for one in report.segments} == {
        ("country", "DE"), ("country", "FR"), ("member", "true"), ("member", "false"),
    }  # fmt: skip
    assert sum(one.rows for one in report.segments if one.feature == "country") == report.compared
