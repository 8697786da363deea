"""Records become tables with the documented columns, and lose nothing on the way."""

from __future__ import annotations

import datetime
import uuid

import msgspec
import pyarrow as pa
import pytest

from fairlead.predictions.columns import OUTCOMES, PREDICTIONS, combine, outcome_table, prediction_tables
from fairlead.predictions.features import NO_FEATURES
from fairlead.predictions.record import PredictionRecord, SchemaFrame
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record

CONTRACTS = {SCHEMA.contract_id: SCHEMA}
PROMISED = [
    "prediction_id",
    "request_id",
    "row",
    "source",
    "at",
    "model",
    "arm",
    "role",
    "assigned_version",
    "served_version",
    "generation",
    "contract_id",
    "unit",
    "use_case",
    "status",
    "error_code",
    "degraded",
    "cached",
    "latency_ms",
    "feature_hash",
    "feature_snapshot",
    "features",
    "prediction",
    "probabilities",
    "trace_id",
    "runtime",
]


def only(records: list[PredictionRecord]) -> pa.Table:
    ((_, table),) = prediction_tables(records, CONTRACTS)
    return table


def test_the_promised_columns_are_there_in_the_promised_order() -> None:
    assert [name for name in PREDICTIONS.names if name in PROMISED] == PROMISED


def test_every_column_of_a_record_comes_back() -> None:
    record = make_record()
    table = only([record])
    (row,) = table.to_pylist()
    assert uuid.UUID(row["prediction_id"]).bytes == record.prediction_id
    assert row["at"] == datetime.datetime.fromtimestamp(record.at / 1e6, datetime.UTC)
    assert row["features"] == {
        "age": 31.5,
        "visits": 4,
        "member": True,
        "country": "DE",
        "basket": [9.5, 0.5],
    }
    for name in PREDICTIONS.names:
        if name not in ("prediction_id", "at", "features"):
            assert row[name] == getattr(record, name)


def test_column_types_are_exact() -> None:
    schema = only([make_record(None, contract_id=None)]).schema
    assert schema.field("at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("latency_ms").type == pa.float64()
    assert schema.field("cached").type == pa.bool_()
    assert schema.field("row").type == pa.int32()
    assert schema.field("generation").type == pa.int64()
    assert schema.field("unit").type == pa.string()


def test_identifiers_sort_as_text_like_they_do_in_time() -> None:
    table = only([make_record(at=AT + offset) for offset in (5_000_000, 0, 90_000_000_000, 1_000)])
    order = table.column("prediction_id").to_pylist()
    assert [order.index(item) for item in sorted(order)] == [1, 3, 0, 2]


def test_models_and_contracts_get_tables_of_their_own() -> None:
    other = SchemaFrame("c2", ("age", "score"), ("int", "float"))
    records = [
        make_record(),
        make_record((7, 0.5), contract_id="c2"),
        make_record(model="churn"),
        make_record(),
    ]
    tables = prediction_tables(records, {**CONTRACTS, "c2": other})
    assert [(model, table.num_rows) for model, table in tables] == [("shop", 2), ("shop", 1), ("churn", 1)]
    together = combine([table for model, table in tables if model == "shop"])
    assert together.num_rows == 3
    assert together.column("features").to_pylist()[2] == {
        "age": 7.0,
        "visits": None,
        "member": None,
        "country": None,
        "basket": None,
        "score": 0.5,
    }


def test_features_of_an_unknown_contract_are_left_out_and_the_record_stays() -> None:
    table = only([make_record(contract_id="unknown"), make_record(contract_id="unknown")])
    assert table.num_rows == 2
    assert table.schema.field("features").type == NO_FEATURES
    assert table.column("features").to_pylist() == [None, None]


def test_a_record_without_features_is_a_row_without_features() -> None:
    table = only([make_record(), make_record(None, status="rejected", error_code="data_contract_violation")])
    assert [row is None for row in table.column("features").to_pylist()] == [False, True]


def test_a_time_beyond_64_bits_is_refused() -> None:
    with pytest.raises((pa.ArrowException, OverflowError)):
        only([msgspec.structs.replace(make_record(), at=2**63)])


def test_outcomes_hold_numbers_and_texts_apart() -> None:
    table = outcome_table([make_outcome(value=2.5), make_outcome(value="churned", unit="u", request_id=None)])
    assert table.schema == OUTCOMES
    first, second = table.to_pylist()
    assert (first["value"], first["text"]) == (2.5, None)
    assert (second["value"], second["text"], second["unit"]) == (None, "churned", "u")


def test_no_outcomes_are_an_empty_table() -> None:
    assert outcome_table([]).schema == OUTCOMES
    assert outcome_table([]).num_rows == 0
