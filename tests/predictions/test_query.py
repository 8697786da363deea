"""Queries see the whole log, once, at once; and nothing but the log."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.errors import DeadlineExceeded, InvalidQuery
from fairlead.predictions.columns import PREDICTIONS
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.outcomes import effective
from fairlead.predictions.query import Queries
from fairlead.predictions.record import Outcome, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record


class Log:
    """A log with its writer, ingestion and queries."""

    def __init__(self, folder: Path) -> None:
        self.writer = SegmentWriter(folder / "log" / "g0")
        self.writer.register_schema(SCHEMA)
        self.ingest = Ingest(folder, clock=lambda: AT / 1e6)
        self.queries = Queries(self.ingest, seconds=10.0)

    def write(self, *records: Any) -> None:
        self.writer.append(*map(frame, records))

    def flush(self) -> None:
        self.ingest.catch_up()
        self.ingest.flush()

    def rows(self, sql: str, params: Any = (), **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.queries.sql(sql, params, **options).table.to_pylist()
        return found

    def value(self, sql: str, params: Any = ()) -> Any:
        ((value,),) = (row.values() for row in self.rows(sql, params))
        return value


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.ingest.close()


def test_a_fresh_answer_is_seen_without_waiting(log: Log) -> None:
    log.write(make_record())
    assert log.value("SELECT count(*) FROM predictions") == 1


def test_parquet_and_fresh_rows_are_one_table(log: Log) -> None:
    log.write(make_record(request_id="old"))
    log.flush()
    log.write(make_record(request_id="new"))
    assert log.rows("SELECT request_id, features.age FROM predictions ORDER BY at") == [
        {"request_id": "old", "age": 31.5},
        {"request_id": "new", "age": 31.5},
    ]


def test_an_empty_log_has_all_tables_and_no_rows(log: Log) -> None:
    for table in (
        "predictions",
        "outcomes",
        "outcome_events",
        "predictions_with_outcomes",
        "labelled",
        "windows",
    ):
        assert log.value(f"SELECT count(*) FROM {table}") == 0
    assert [row["column_name"] for row in log.rows("DESCRIBE predictions")] == PREDICTIONS.names


def test_columns_keep_their_order_and_types(log: Log) -> None:
    log.write(make_record())
    log.flush()
    types = {row["column_name"]: row["column_type"] for row in log.rows("DESCRIBE predictions")}
    assert list(types) == PREDICTIONS.names
    assert types["at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["latency_ms"] == "DOUBLE"
    assert types["cached"] == "BOOLEAN"
    assert types["features"] == (
        'STRUCT(age DOUBLE, visits BIGINT, "member" BOOLEAN, country VARCHAR, basket DOUBLE[])'
    ) or types["features"].replace('"', "") == (
        "STRUCT(age DOUBLE, visits BIGINT, member BOOLEAN, country VARCHAR, basket DOUBLE[])"
    )


def test_models_with_unlike_features_share_the_table(log: Log) -> None:
    shop2 = SchemaFrame("c2", ("age", "visits", "Country"), ("int", "string", "string"))
    churn = SchemaFrame("c3", ("age", "member"), ("string", "list<int>"))
    log.writer.register_schema(shop2)
    log.writer.register_schema(churn)
    for _ in range(2):
        log.write(
            make_record(request_id="a"),
            make_record((7, "many", "FR"), contract_id="c2", request_id="b"),
            make_record(("old", [1, 2]), contract_id="c3", model="churn", request_id="c"),
            make_record(None, contract_id=None, model="other", request_id="d"),
        )
        expected = [
            {"request_id": "a", "age": "31.5", "visits": "4", "member": "true", "country": "DE"},
            {"request_id": "b", "age": "7", "visits": "many", "member": None, "country": "FR"},
            {"request_id": "c", "age": "old", "visits": None, "member": "[1, 2]", "country": None},
            {"request_id": "d", "age": None, "visits": None, "member": None, "country": None},
        ]
        found = log.rows(
            "SELECT DISTINCT request_id, regexp_replace(features.age, '[.]0$', '') AS age, features.visits, "
            "features.member, features.country FROM predictions ORDER BY request_id"
        )
        assert found == expected
        log.flush()


def test_parameters_are_values_and_never_sql(log: Log) -> None:
    log.write(make_record(unit="x' OR 1=1 --"), make_record(unit="Zoë"))
    assert log.value("SELECT count(*) FROM predictions WHERE unit = ?", ["x' OR 1=1 --"]) == 1
    assert log.value("SELECT count(*) FROM predictions WHERE unit = $unit", {"unit": "Zoë"}) == 1
    with pytest.raises(InvalidQuery):
        log.rows("SELECT ?", [])


def test_an_answer_is_cut_at_the_limit_and_says_so(log: Log) -> None:
    log.write(*[make_record() for _ in range(7)])
    assert log.queries.sql("FROM predictions", limit=7).truncated is False
    cut = log.queries.sql("FROM predictions", limit=6)
    assert (cut.table.num_rows, cut.truncated) == (6, True)
    endless = log.queries.sql("FROM range(1000000000000)", limit=3)
    assert (endless.table.num_rows, endless.truncated) == (3, True)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nothing FROM predictions",
        "SELECT 1 + 'x'",
        "SELECT * FROM predictions p JOIN predictions q",
        "SELECT error('stop')",
        "COPY predictions TO '/tmp/x'",
        "SELECT repeat('x', 1000000) FROM range(100000) ORDER BY random()",
    ],
)
def test_a_query_that_cannot_be_answered_says_why(log: Log, sql: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        log.rows(sql, limit=10)
    assert refused.value.remedy
    assert log.value("SELECT 1") == 1


def test_a_query_beyond_the_time_limit_is_interrupted(log: Log) -> None:
    hasty = Queries(log.ingest, seconds=0.2)
    with pytest.raises(DeadlineExceeded, match=r"after 0\.2 s"):
        hasty.sql("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range + b.range = 7")
    with pytest.raises(DeadlineExceeded):
        hasty.sql("FROM range(1000000000000)")
    assert hasty.sql("SELECT 1").table.num_rows == 1


def test_explain_and_describe_are_answered(log: Log) -> None:
    log.write(make_record())
    assert log.rows("EXPLAIN SELECT max(at) FROM predictions")
    assert log.rows("SUMMARIZE predictions")
    shown = {row["name"] for row in log.rows("SHOW TABLES")}
    assert {"predictions", "outcomes", "labelled"} <= shown


def test_files_are_out_of_reach_even_behind_the_gate(log: Log, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with log.queries._cursor() as cursor:
        for attempt in (
            f"SELECT * FROM read_csv('{secret}')",
            f"SELECT * FROM '{secret}'",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            "SET enable_external_access = true",
            "SET lock_configuration = false",
            f"ATTACH '{tmp_path / 'x.db'}'",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(attempt).fetchall()


def test_a_record_is_found_by_request_id_wherever_it_lies(log: Log) -> None:
    log.write(
        make_record(request_id="r#1", row=1, prediction='[{"id":"b","score":0.5}]', flags=None),
        make_record(request_id="r#1", row=0, features=(None, 4, True, "DE", [])),
        make_record(),
    )
    for _ in range(2):
        first, second = log.queries.find("r#1")
        assert (first["row"], second["row"]) == (0, 1)
        assert second["prediction"] == [{"id": "b", "score": 0.5}]
        assert first["probabilities"] == {"0": 0.2, "1": 0.8}
        assert first["features"] == {
            "age": None,
            "visits": 4,
            "member": True,
            "country": "DE",
            "basket": [],
        }
        assert log.queries.find("r#2") == []
        log.flush()
    log.write(make_record(request_id="r#1", source="shadow", prediction=None))
    assert [record["source"] for record in log.queries.find("r#1")] == ["online", "shadow", "online"]


def test_a_found_record_has_the_features_of_its_own_contract(log: Log) -> None:
    log.writer.register_schema(SchemaFrame("c2", ("age", "score"), ("float", "float")))
    log.write(make_record((1.0, 2.0), contract_id="c2", request_id="two"), make_record(request_id="one"))
    log.flush()
    assert log.queries.find("two")[0]["features"] == {"age": 1.0, "score": 2.0}
    assert list(log.queries.find("one")[0]["features"]) == list(SCHEMA.names)


def test_queries_run_beside_each_other_and_beside_merges(log: Log) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(15):
                row = log.rows("SELECT count(*) n, count(DISTINCT request_id) d FROM predictions")[0]
                assert row["n"] == row["d"]
        except Exception as error:
            failures.append(error)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for _ in range(30):
        log.write(*[make_record() for _ in range(5)])
        log.flush()
        log.ingest.compact()
    for asker in askers:
        asker.join()
    assert failures == []
    assert log.value("SELECT count(*) FROM predictions") == 150


# --- outcomes -----------------------------------------------------------------------------------------------


def test_outcomes_are_effective_and_events_are_as_reported(log: Log) -> None:
    log.write(
        make_outcome(
            received_at=1, value=1.0, mode="add", outcome_id="a", request_id=None, row=None, unit="u"
        ),
        make_outcome(
            received_at=2, value=2.0, mode="add", outcome_id="b", request_id=None, row=None, unit="u"
        ),
    )
    log.flush()
    log.write(
        make_outcome(
            received_at=3, value=1.0, mode="add", outcome_id="a", request_id=None, row=None, unit="u"
        )
    )
    assert log.value("SELECT count(*) FROM outcome_events") == 3
    (row,) = log.rows("SELECT unit, metric, value, text, events FROM outcomes")
    assert row == {"unit": "u", "metric": "conversion", "value": 3.0, "text": None, "events": 2}


def test_outcomes_join_by_request_and_row_and_by_unit(log: Log) -> None:
    log.write(
        make_record(request_id="a", row=0, unit="u"),
        make_record(request_id="a", row=1, unit="u"),
        make_record(request_id="b", unit="u", model="churn"),
        make_outcome(request_id="a", row=1, value=5.0),
        make_outcome(request_id=None, row=None, unit="u", metric="revenue", value=9.5),
    )
    found = log.rows(
        "SELECT request_id, row, metric, value FROM predictions_with_outcomes ORDER BY metric, row"
    )
    assert found == [
        {"request_id": "a", "row": 1, "metric": "conversion", "value": 5.0},
        {"request_id": "a", "row": 0, "metric": "revenue", "value": 9.5},
        {"request_id": "a", "row": 1, "metric": "revenue", "value": 9.5},
    ]


@pytest.mark.parametrize(
    ("prediction", "label", "correct"),
    [
        ("1", 1.0, True),
        ("1", 0.0, False),
        ("1.0", 1.0, True),
        ('"yes"', "yes", True),
        ('"yes"', "no", False),
        ('"1"', 1.0, True),
        ("1", "1", True),
        ("true", 1.0, True),
        ("true", 0.0, False),
        ("false", "false", True),
        ('"yes"', 1.0, None),
        (None, 1.0, None),
        ("1", None, None),
    ],
)
def test_a_label_is_compared_with_what_was_answered(
    log: Log, prediction: str | None, label: Any, correct: bool | None
) -> None:
    log.write(make_record(request_id="r", prediction=prediction))
    if label is not None:
        log.write(make_outcome(request_id="r", metric="label", value=label))
    (row,) = log.rows("SELECT label, label_text, correct FROM labelled")
    assert row["correct"] is correct
    assert (row["label_text"] if isinstance(label, str) else row["label"]) == label


def test_a_label_of_the_request_goes_before_one_of_the_unit(log: Log) -> None:
    log.write(
        make_record(request_id="a", unit="u"),
        make_record(request_id="b", unit="u"),
        make_outcome(request_id="a", metric="label", value="lost"),
        make_outcome(request_id=None, row=None, unit="u", metric="label", value=1.0),
    )
    assert log.rows("SELECT request_id, label, label_text FROM labelled ORDER BY request_id") == [
        {"request_id": "a", "label": None, "label_text": "lost"},
        {"request_id": "b", "label": 1.0, "label_text": None},
    ]


examples = itertools.count()
ids = st.none() | st.sampled_from("xyz")
numbers = st.floats(-1e6, 1e6)
event_lists = st.lists(
    st.builds(
        lambda at, value, mode, name, subject: make_outcome(
            received_at=at,
            at=at,
            value=value if mode == "set" or not isinstance(value, str) else 1.0,
            mode=mode,
            outcome_id=name,
            **subject,
        ),
        st.integers(0, 15),
        numbers | st.sampled_from(["a", "b"]),
        st.sampled_from(["set", "add"]),
        ids,
        st.sampled_from(
            [
                {"request_id": "r", "row": 0},
                {"request_id": "r", "row": 1},
                {"request_id": None, "row": None, "unit": "r"},
            ]
        ),
    ),
    min_size=1,
    max_size=15,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event_lists, st.randoms(use_true_random=False))
def test_the_sql_of_effective_outcomes_agrees_with_their_definition(
    log: Log, events: list[Outcome], random: Any
) -> None:
    # each example is a model of its own within one log
    model = f"m{next(examples)}"
    events = [msgspec.structs.replace(event, model=model) for event in events]
    log.write(*random.sample(events, len(events)))
    found = {
        (row["request_id"], row["row"], row["unit"]): (
            row["value"] if row["text"] is None else row["text"],
            round(row["at"].timestamp() * 1e6),
            row["events"],
        )
        for row in log.rows("FROM outcomes WHERE model = ?", [model])
    }
    expected = {key[1:4]: value for key, value in effective(events).items()}
    assert found.keys() == expected.keys()
    for key, (value, at, count) in expected.items():
        assert found[key][1:] == (at, count)
        assert found[key][0] == (value if isinstance(value, str) else pytest.approx(value, abs=1e-9))


def test_json_columns_are_json(log: Log) -> None:
    log.write(make_record(flags=json.dumps([{"field": "age", "rule": "range", "value": 200}])))
    assert log.value("SELECT flags->0->>'field' FROM predictions") == "age"
    assert log.value("SELECT (probabilities->>'1')::DOUBLE FROM predictions") == 0.8


def test_a_log_from_before_a_column_was_added_is_read_with_nulls_there(log: Log, tmp_path: Path) -> None:
    log.write(make_record(request_id="old", conformal_quantile=2.0))
    log.flush()
    (file,) = (tmp_path / "predictions").rglob("predictions/**/*.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["conformal_quantile", "refused"]), file)
    asked = "SELECT request_id, conformal_quantile, refused FROM predictions ORDER BY request_id"
    nothing = {"conformal_quantile": None, "refused": None}
    assert log.rows(asked) == [{"request_id": "old", **nothing}]
    (found,) = log.queries.find("old")
    assert list(found) == PREDICTIONS.names
    assert found["conformal_quantile"] is None
    log.write(make_record(request_id="new", conformal_quantile=0.5))
    both = [{"request_id": "new", **nothing, "conformal_quantile": 0.5}, {"request_id": "old", **nothing}]
    assert log.rows(asked) == both
    log.flush()
    assert log.rows(asked) == both
