"""Answers beside their labels, counted in the log: late, corrected, repeated, of units, in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fairlead.predictions.ingest import Ingest
from fairlead.predictions.labelled import Cut, Question, coverage, delays, labelled
from fairlead.predictions.labelled_counts import Labelled
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record

START = datetime.fromtimestamp(AT / 1e6, UTC)
HOUR = timedelta(hours=1)
SECOND = 1_000_000


class Log:
    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.ingest = Ingest(folder)
        self.queries = Queries(self.ingest)

    def answer(self, request: str, value: Any, second: float = 0.0, **changes: Any) -> None:
        changes.setdefault("unit", f"unit of {request}")
        features = changes.pop("features", (31.5, 4, True, "DE", [1.0]))
        at = AT + int(second * SECOND)
        record = make_record(features, at=at, request_id=request, prediction=json.dumps(value), **changes)
        self.writer.append(frame(record))

    def label(self, request: str | None, value: float | str, second: float = 0.0, **changes: Any) -> None:
        at = AT + int(second * SECOND)
        event = {"request_id": request, "row": 0 if request else None, "received_at": at, "at": at, **changes}
        self.writer.append(frame(make_outcome(metric="label", value=value, **event)))

    def counts(self, kind: Any = "class", **options: Any) -> list[Labelled]:
        if kind == "class":
            options.setdefault("classes", ["0", "1"])
        asked = Question(
            model="shop", since=START, until=options.pop("until", START + HOUR), kind=kind, **options
        )
        return labelled(self.queries, asked)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.ingest.close()


def cells(group: Labelled) -> dict[tuple[str, str | None, int | None], int]:
    return {(cell.answered, cell.label, cell.bin): cell.n for cell in group.classes}


def test_a_log_without_answers_counts_nothing(log: Log) -> None:
    assert log.counts() == []


def test_answers_are_counted_by_class_label_and_bin_of_the_positive_classs_score(log: Log) -> None:
    log.answer("a", 1, probabilities='{"0":0.2,"1":0.8}')
    log.answer("b", 1, probabilities='{"0":0.2,"1":0.8}')
    log.answer("c", 0, probabilities='{"0":0.99,"1":0.01}')
    log.label("a", 1)
    log.label("c", 1)
    (group,) = log.counts()
    assert (group.version, group.arm, group.answers, group.labelled) == ("v1", "stable", 3, 2)
    assert cells(group) == {("1", "1", 160): 1, ("1", None, 160): 1, ("0", "1", 2): 1}
    assert sum(cell.score for cell in group.classes) == pytest.approx(1.61)


def test_a_label_that_was_corrected_counts_once_and_as_the_correction(log: Log) -> None:
    log.answer("a", 1)
    log.label("a", 0, second=1, outcome_id="first")
    log.label("a", 0, second=2, outcome_id="first")
    log.label("a", 1, second=3)
    (group,) = log.counts()
    assert (group.answers, group.labelled) == (1, 1)
    assert {cell.label for cell in group.classes} == {"1"}


def test_a_label_of_a_unit_counts_for_its_answers_and_one_of_a_request_comes_before_it(log: Log) -> None:
    log.answer("a", 1, unit="ann")
    log.answer("b", 1, unit="ann")
    log.label(None, 1, unit="ann")
    log.label("b", 0)
    (group,) = log.counts()
    assert group.labelled == 2
    assert {cell.label: cell.n for cell in group.classes} == {"1": 1, "0": 1}


def test_a_label_that_came_before_its_answer_counts(log: Log) -> None:
    log.label("a", 1, second=0)
    log.answer("a", 1, second=5)
    assert log.counts()[0].labelled == 1
    assert delays(log.queries, "shop", START, START + HOUR).p50 == 0.0


def test_only_what_a_version_answered_itself_counts(log: Log) -> None:
    log.answer("a", 1)
    log.answer("b", 1, status="failed")
    log.answer("c", 1, degraded="fallback_version")
    log.answer("d", 1, source="shadow")
    log.answer("e", 1, source="replay")
    log.answer("f", 1, model="another")
    log.answer("g", 1, source="batch")
    assert sum(group.answers for group in log.counts()) == 2


def test_steps_begin_at_multiples_and_what_lies_outside_of_the_period_is_left_out(log: Log) -> None:
    for second in (-1, 0, 59, 60, 3599, 3600):
        log.answer(f"at {second}", 1, second)
    groups = log.counts(step=60)
    assert [(group.start - START).total_seconds() for group in groups] == [0.0, 60.0, 3540.0]
    assert [group.answers for group in groups] == [2, 1, 1]


def test_versions_and_arms_are_told_apart_and_one_version_can_be_asked_for(log: Log) -> None:
    log.answer("a", 1)
    log.answer("b", 1, served_version="v2", assigned_version="v2", arm="canary")
    assert [(group.version, group.arm) for group in log.counts()] == [("v1", "stable"), ("v2", "canary")]
    assert [group.version for group in log.counts(version="v2")] == ["v2"]


def test_parts_of_a_cut_are_named_by_value_or_by_range_and_by_nothing(log: Log) -> None:
    ages = (17.0, 18.0, 64.5, None)
    for number, age in enumerate(ages):
        country = None if age is None else "D'E ☃"
        log.answer(f"r{number}", 1, features=(age, 4, True, country, [1.0]))
    cuts = [Cut(feature="country"), Cut(feature="age", edges=[18, 30.5]), Cut(feature="unknown")]
    groups = log.counts(cuts=cuts, step=60)
    parts = {(group.feature, group.part): group.answers for group in groups if group.feature}
    assert parts == {
        ("country", "D'E ☃"): 3,
        ("country", "(missing)"): 1,
        ("age", "below 18"): 1,
        ("age", "18 to below 30.5"): 1,
        ("age", "from 30.5"): 1,
        ("age", "(missing)"): 1,
    }


def test_more_than_fifty_parts_are_the_most_frequent_and_the_others_together(log: Log) -> None:
    for number in range(60):
        for copy in range(2 if number < 50 else 1):
            log.answer(f"{number}-{copy}", 1, features=(1.0, 4, True, f"land {number:02}", [1.0]))
    parts = {
        group.part: group.answers for group in log.counts(cuts=[Cut(feature="country")]) if group.feature
    }
    assert len(parts) == 51
    assert parts["(other)"] == 10


def test_classes_are_truths_or_texts_however_the_label_was_written(log: Log) -> None:
    for request, value in (("a", 1.0), ("b", "True"), ("c", 0)):
        log.answer(request, True, probabilities=None)
        log.label(request, value)
    (group,) = log.counts(classes=["false", "true"])
    assert cells(group) == {("true", "true", None): 2, ("true", "false", None): 1}


def test_of_many_classes_the_score_is_that_of_the_one_that_was_answered(log: Log) -> None:
    log.answer("a", "b\"'☃", probabilities=json.dumps({"a": 0.1, "b\"'☃": 0.6, "c": 0.3}))
    log.answer("b", "c", probabilities=json.dumps({"a": 0.1, "b": 0.2, "c": 0.7}))
    log.label("b", "a")
    (group,) = log.counts(classes=["a", "b", "c"])
    assert {(cell.answered, cell.label): cell.bin for cell in group.classes}["c", "a"] in (139, 140)


def test_errors_of_numbers_are_summed_in_buckets_and_what_is_no_number_has_no_label(log: Log) -> None:
    for request, value, label in (("a", 10.0, 7.0), ("b", 5.0, 5.0), ("c", 1.0, None), ("d", 2.0, "many")):
        log.answer(request, value, probabilities=None)
        if label is not None:
            log.label(request, label)
    (group,) = log.counts("number")
    assert (group.answers, group.labelled) == (4, 2)
    known = [cell for cell in group.errors if cell.bucket is not None]
    assert sum(cell.size for cell in known) == 3.0
    assert sum(cell.square for cell in known) == 9.0
    assert [cell.n for cell in known if cell.bucket == 0] == [1]


def test_rankings_are_counted_by_the_place_of_what_was_chosen(log: Log) -> None:
    shown = [{"id": "x", "score": 3.0}, {"id": "7", "score": 2.0}]
    for request, label in (("a", "x"), ("b", 7), ("c", "absent"), ("d", None)):
        log.answer(request, shown, probabilities=None)
        if label is not None:
            log.label(request, label)
    (group,) = log.counts("ranking")
    assert {cell.place: cell.n for cell in group.places} == {1: 1, 2: 1, 0: 1, None: 1}
    assert coverage(log.queries, "shop", START, START + HOUR) == 2


def test_the_delay_of_labels_is_from_the_answer_to_when_the_label_was_received(log: Log) -> None:
    for number in range(100):
        log.answer(f"r{number}", 1)
        if number < 80:
            log.label(f"r{number}", 1, second=60.0, at=AT)
    found = delays(log.queries, "shop", START, START + HOUR)
    assert (found.answers, found.labelled) == (100, 80)
    assert (found.p50, found.p95, found.p99) == (60.0, 60.0, 60.0)
    assert delays(log.queries, "nobody", START, START + HOUR).p95 is None


def test_counts_are_the_same_from_parquet_as_from_rows_that_are_not_yet_there(log: Log) -> None:
    for number in range(40):
        log.answer(f"r{number}", number % 2, second=number)
        if number % 3:
            log.label(f"r{number}", number % 2, second=number + 1)
    asked: dict[str, Any] = {"step": 60, "cuts": [Cut(feature="country")]}
    before = log.counts(**asked)
    log.ingest.flush()
    assert log.counts(**asked) == before


def sure(group: Labelled) -> tuple[int, float, int, int]:
    return (group.sure.n, group.sure.size, group.sure.labelled, group.sure.covered)


def test_labels_within_a_set_are_told_by_the_quantile_that_the_answer_was_given_with(log: Log) -> None:
    for request, quantile in (("a", 0.2), ("b", 0.8), ("c", 0.79), ("d", None), ("e", 0.1)):
        log.answer(request, 1, probabilities='{"0":0.2,"1":0.8}', conformal_quantile=quantile)
        log.label(request, 0)
    log.answer("f", 1, probabilities='{"0":0.2,"1":0.8}', conformal_quantile=0.2)
    log.answer("g", 1, probabilities=None, conformal_quantile=0.2)
    log.label("g", 1)
    (group,) = log.counts()
    # Both classes in b's set (1 - 0.2 is 0.8), one in those of a, c and f, none in e's.
    assert sure(group) == (5, 5.0, 4, 1)


def test_of_many_classes_the_set_is_that_of_the_logged_probabilities_and_an_unknown_label_lies_outside(
    log: Log,
) -> None:
    classes = ["red", "it's", 'blå "1"']
    shares = json.dumps(dict(zip(classes, (0.5, 0.375, 0.125), strict=True)))
    for request, label in (("a", "red"), ("b", "it's"), ("c", classes[2]), ("d", "green")):
        log.answer(request, "red", probabilities=shares, conformal_quantile=0.625)
        log.label(request, label)
    (group,) = log.counts(classes=classes)
    assert sure(group) == (4, 8.0, 4, 2)


def test_classes_that_are_true_and_false_or_have_odd_names_are_found_in_their_sets(log: Log) -> None:
    log.answer("a", True, probabilities='{"false":0.25,"true":0.75}', conformal_quantile=0.25)
    log.label("a", 1)
    (group,) = log.counts(classes=["false", "true"])
    assert sure(group) == (1, 1.0, 1, 1)
    odd = ['a "b"', "c.d"]
    log.answer(
        "b", odd[0], 2.0, probabilities=json.dumps({odd[0]: 0.75, odd[1]: 0.25}), conformal_quantile=0.25
    )
    log.label("b", odd[0], 2.0)
    _, group = log.counts(classes=odd, step=1)
    assert sure(group) == (1, 1.0, 1, 1)


def test_labels_within_an_interval_include_its_ends_and_widths_are_those_of_all_answers(log: Log) -> None:
    for request, label in (("a", 12.0), ("b", 8.0), ("c", 12.000001), ("d", None)):
        log.answer(request, 10.0, conformal_quantile=2.0)
        if label is not None:
            log.label(request, label)
    log.answer("e", "no number", conformal_quantile=2.0)
    (group,) = log.counts("number")
    assert sure(group) == (4, 16.0, 3, 2)


def test_what_is_told_is_counted_in_parts_of_a_slice_too(log: Log) -> None:
    for request, country in (("a", "DE"), ("b", "FR")):
        log.answer(request, 10.0, features=(31.5, 4, True, country, [1.0]), conformal_quantile=2.0)
        log.label(request, 11.0 if country == "DE" else 13.0)
    _, germany, france = log.counts("number", cuts=[Cut(feature="country")])
    assert (sure(germany), sure(france)) == ((1, 4.0, 1, 1), (1, 4.0, 1, 0))
