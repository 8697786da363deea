"""Operations take plain JSON and answer plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fairlead.errors import FairleadError, InvalidQuery, MalformedRequest
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.operations import Operations
from fairlead.predictions.query import Queries
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record


class Asked:
    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.ingest = Ingest(folder)
        self.operations = Operations(Queries(self.ingest))

    def __call__(self, operation: str, **arguments: Any) -> Any:
        return json.loads(self.operations.answer(operation, arguments))


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)
    asked.writer.append(frame(make_record(request_id="r", at=AT)), frame(make_outcome(request_id="r")))
    yield asked
    asked.ingest.close()


def test_sql_answers_columns_and_rows(ask: Asked) -> None:
    answer = ask(
        "sql", sql="SELECT request_id, at, latency_ms FROM predictions WHERE model = ?", params=["shop"]
    )
    assert answer["rows"] == [{"request_id": "r", "at": "2025-11-21T00:00:00Z", "latency_ms": 0.4}]
    assert [column["name"] for column in answer["columns"]] == ["request_id", "at", "latency_ms"]
    assert (answer["truncated"], answer["seconds"] > 0) == (False, True)


def test_every_kind_of_value_is_json(ask: Asked) -> None:
    ((row,),) = (
        ask(
            "sql",
            sql="""SELECT sum(x) AS whole, sum(x::HUGEINT) * 1000000000000000000 AS huge, 1.25 AS decimal,
            'NaN'::DOUBLE AS nan, 'inf'::DOUBLE AS inf, NULL AS nothing, 'a'::BLOB AS blob,
            DATE '2025-11-21' AS day, INTERVAL 1 HOUR AS hour, TIME '12:30:00' AS time,
            {'a': [1, 2]} AS struct, MAP {'k': 1} AS map, uuid() AS id,
            TIMESTAMP_NS '2025-11-21 00:00:00.000000001' AS fine, 18446744073709551615::UBIGINT AS most
            FROM range(101) t(x)""",
        )["rows"],
    )
    assert (row["whole"], row["decimal"], row["nan"], row["inf"], row["nothing"]) == (
        5050,
        1.25,
        None,
        None,
        None,
    )
    assert row["huge"] == pytest.approx(5.05e21)
    assert row["struct"] == {"a": [1, 2]}
    assert row["day"] == "2025-11-21"
    assert row["most"] == 18446744073709551615
    assert row["fine"].startswith("2025-11-21")


def test_columns_of_the_same_name_are_all_there(ask: Asked) -> None:
    answer = ask("sql", sql="SELECT 1 AS a, 2 AS a, 3 AS a_2")
    assert sorted(answer["rows"][0].values()) == [1, 2, 3]
    assert len({column["name"] for column in answer["columns"]}) == 3


def test_rows_beyond_the_limit_are_cut(ask: Asked) -> None:
    answer = ask("sql", sql="FROM range(20000)")
    assert (len(answer["rows"]), answer["truncated"]) == (10_000, True)
    assert len(ask("sql", sql="FROM range(20)", limit=3)["rows"]) == 3


def test_find_windows_metrics_outcomes_and_status(ask: Asked) -> None:
    (record,) = ask("find", request_id="r")
    assert (record["features"]["country"], record["prediction"]) == ("DE", 1)
    assert ask("find", request_id="unknown") == []
    (window,) = ask("windows", model="shop", since="2025-11-21T00:00:00Z", until=AT / 1e6 + 60)
    assert (window["start"], window["count"], window["version"]) == ("2025-11-21T00:00:00Z", 1, "v1")
    metrics = ask("version_metrics", model="shop", version="v1", window_seconds=3_600)
    assert (metrics["count"], metrics["p50_ms"]) == (0, None)  # it happened in 2025
    (summary,) = ask("outcomes", model="shop", since=AT / 1e6, until=AT / 1e6 + 1)
    assert summary["metrics"]["conversion"] == {"count": 1, "sum": 1.0, "mean": 1.0}
    assert ask("status")["fresh_rows"] == 2
    assert ask("flush") == {"flushed": True}
    assert ask("status")["rows"] == 1


@pytest.mark.parametrize(
    ("operation", "arguments", "kind"),
    [
        ("drop", {}, MalformedRequest),
        ("sql", {}, MalformedRequest),
        ("sql", {"sql": 7}, MalformedRequest),
        ("sql", {"sql": "SELECT 1", "limit": 0}, MalformedRequest),
        ("sql", {"sql": "SELECT 1", "limit": 10_001}, MalformedRequest),
        ("sql", {"sql": "SELECT 1", "fast": True}, MalformedRequest),
        ("sql", {"sql": "DROP VIEW predictions"}, InvalidQuery),
        ("find", {"request": "r"}, MalformedRequest),
        ("windows", {"model": "shop", "since": "today", "until": 0}, MalformedRequest),
        ("windows", {"model": "shop", "since": "2025-11-21T00:00:00", "until": 0}, MalformedRequest),
        ("windows", {"model": "shop", "since": 0, "until": 60, "step": 7}, InvalidQuery),
        ("version_metrics", {"model": "shop", "version": "v1", "window_seconds": 0}, MalformedRequest),
        ("outcomes", {"model": "shop", "since": 0, "until": 1, "source": "dreams"}, MalformedRequest),
    ],
)
def test_a_wrong_question_is_refused_by_name(
    ask: Asked, operation: str, arguments: dict[str, Any], kind: type[FairleadError]
) -> None:
    with pytest.raises(kind) as refused:
        ask(operation, **arguments)
    assert refused.value.remedy
