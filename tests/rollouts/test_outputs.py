"""How outputs are spread, from a real log: each unit once, in classes that production settled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.rollouts.observation import Outputs
from fairlead.rollouts.outputs import classes_of, outputs_of
from tests.predictions.records import AT, make_record
from tests.rollouts.seen import serving

BEGAN = datetime.fromtimestamp(AT / 1e6, UTC)
EARLIER = AT - 3_600_000_000


class Log:
    """A log of answers of `shop`, v1 in production and v2 its canary since `BEGAN`, by generation 2."""

    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.ingest = Ingest(folder)
        self.queries = Queries(self.ingest)
        self.rollout = msgspec.structs.replace(serving(), started_at=BEGAN, entered_at=BEGAN)

    def ask(self, sql: str) -> Sequence[Mapping[str, Any]]:
        return self.queries.sql(sql).table.to_pylist()

    def past(self, *predictions: object) -> None:
        self.write("stable", "v1", *predictions, at=EARLIER, generation=1)

    def write(
        self, arm: str, version: str, *predictions: object, at: int = AT, unit: str = "", **more: Any
    ) -> None:
        for number, prediction in enumerate(predictions):
            said = None if prediction is None else msgspec.json.encode(prediction).decode()
            fields = {
                "at": at + 1_000 * number, "arm": arm, "role": arm, "assigned_version": version,
                "served_version": version, "generation": 2, "prediction": said,
                "unit": unit or f"{arm}-{at}-{number}",
            }  # fmt: skip
            self.writer.append(frame(make_record(**(fields | more))))
        while self.ingest.poll():  # a query waits for a second at most
            pass

    def outputs(self) -> Outputs | None:
        classes = classes_of(self.ask, self.rollout)
        return None if classes is None else outputs_of(self.ask, self.rollout, classes)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.ingest.close()


def test_labels_are_their_own_classes_and_new_ones_are_others(log: Log) -> None:
    log.past(*["yes", "no", 'it\'s "odd" \\ ☃', "yes"] * 20)
    log.write("control", "v1", "yes", "no")
    log.write("canary", "v2", "no", "no", 'it\'s "odd" \\ ☃', "never seen", 7, None)
    found = log.outputs()
    assert found is not None
    said = {name: (a, b) for name, a, b in zip(found.classes, found.control, found.canary, strict=True)}
    assert said['"yes"'] == (1, 0)
    assert said['"no"'] == (1, 2)
    assert said["others"] == (0, 2)
    assert sum(found.canary) == 5
    assert found.answers == 2


def test_a_whole_number_and_the_same_with_a_point_are_one_class(log: Log) -> None:
    log.past(*[0, 1] * 40)
    log.write("control", "v1", 0, 1, 1)
    log.write("canary", "v2", 0.0, 1.0, 1.0)
    found = log.outputs()
    assert found is not None
    assert found.control == found.canary


def test_numbers_are_cut_where_production_answered_equally_often(log: Log) -> None:
    log.past(*[number / 10 for number in range(160)])
    log.write("control", "v1", *[number / 10 for number in range(0, 160, 20)])
    log.write("canary", "v2", *[number * 100.0 for number in range(8)], "no number")
    found = log.outputs()
    assert found is not None
    assert found.control == (1,) * 8 + (0,)
    assert found.canary == (1, 0, 0, 0, 0, 0, 0, 7, 1)
    assert found.classes[0] == "below 2"
    assert found.classes[-2:] == ("14 and more", "others")


def test_a_unit_counts_once_by_its_first_answer(log: Log) -> None:
    log.past(*[0, 1] * 40)
    log.write("control", "v1", 0)
    log.write("canary", "v2", 1, *[0] * 50, unit="ann")
    found = log.outputs()
    assert found is not None
    assert (sum(found.canary), found.answers) == (1, 1)
    assert found.canary[found.classes.index("1.0")] == 1


def test_only_answers_of_the_version_itself_since_the_step_began_are_counted(log: Log) -> None:
    log.past(*[0, 1] * 40)
    log.write("control", "v1", 0)
    log.write("canary", "v2", 1, at=AT - 60_000_000)
    log.write("canary", "v2", 1, generation=1)
    log.write("canary", "v2", 1, source="shadow")
    log.write("canary", "v2", 1, model="other")
    log.write("canary", "v2", 1, degraded="fallback_version")
    log.write("canary", "v2", 1, status="error", error_code="runtime_failed")
    found = log.outputs()
    assert found is not None
    assert sum(found.canary) == 0


def test_a_young_log_settles_nothing_and_rankings_have_no_classes(log: Log) -> None:
    assert classes_of(log.ask, log.rollout) is None
    log.past(*[number % 2 for number in range(63)])
    assert classes_of(log.ask, log.rollout) is None
    ranked = [[{"id": f"item-{number}", "score": 0.5}] for number in range(200)]
    log.write("stable", "v1", *ranked, at=AT - 86_000_000_000, generation=1)
    settled = classes_of(log.ask, log.rollout)
    assert settled is not None
    assert (settled.names, settled.cuts) == ((), ())


def test_the_whole_day_before_settles_the_classes_and_not_its_first_hour(log: Log) -> None:
    log.past(*range(20_000))
    settled = classes_of(log.ask, log.rollout)
    assert settled is not None
    wanted = [20_000 * number / 8 for number in range(1, 8)]
    assert settled.cuts == pytest.approx(wanted, abs=1_000)


def test_what_is_compared_does_not_settle_the_classes(log: Log) -> None:
    log.past(*[number / 10 for number in range(300)])
    before = classes_of(log.ask, log.rollout)
    later = int((BEGAN + timedelta(minutes=1)).timestamp() * 1e6)
    log.write("control", "v1", *[9e9] * 100, at=later)
    log.write("canary", "v2", *[-9e9] * 100, at=later)
    assert classes_of(log.ask, log.rollout) == before
