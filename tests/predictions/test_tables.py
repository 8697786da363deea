"""A table's frame becomes the rows that would have been logged one by one: in memory, Parquet and queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.contracts.fingerprint import encode_row, feature_hash
from fairlead.predictions.columns import prediction_tables
from fairlead.predictions.ingest import Ingest
from fairlead.predictions.query import Queries
from fairlead.predictions.record import PredictionRecord, SchemaFrame
from fairlead.predictions.segments import SegmentWriter, frame
from fairlead.predictions.tables import (
    Cells,
    TableFlag,
    TableRecord,
    pack_cells,
    records_of,
    row_id,
    unpack_cells,
)
from tests.predictions.records import AT, SCHEMA, make_record, uuid7
from tests.predictions.test_ingest import stored

ROWS = [
    (31.5, 4, True, "DE", [9.5, 0.5]),
    (None, 0, False, None, [1.0, 2.0]),
    (0.1, -7, True, "FR", [0.0, 3.5]),
]


def columns_of(rows: list[Any]) -> list[np.ndarray]:
    age, visits, member, country, basket = zip(*rows, strict=True)
    return [
        np.array([np.nan if value is None else value for value in age]),
        np.array(visits, np.int32),
        np.array(member),
        np.array(country, object),
        np.array(basket, np.float32),
    ]


def make_table(rows: list[Any] = ROWS, serial: int = 1, **changes: Any) -> TableRecord:
    """A served table of model `shop`, like `make_record` for single rows."""
    one = make_record(rows[0])
    shared = {name: getattr(one, name) for name in PredictionRecord.__struct_fields__}
    fields = {name: value for name, value in shared.items() if name in TableRecord.__struct_fields__}
    fields |= {
        "prediction_id": uuid7(AT + serial * 1000, serial),
        "first": 0,
        "rows": len(rows),
        "matrix": False,
        "features": [pack_cells(column) for column in columns_of(rows)],
        "nulls": {},
        "values": pack_cells(np.arange(len(rows))),
        "probabilities": pack_cells(np.full((len(rows), 2), 0.5, np.float32)),
        "classes": ("0", "1"),
        "scores": None,
        "flags": [],
        "violations": {},
        "refused": {},
    }
    return TableRecord(**fields | changes)


def alone(table: TableRecord, rows: list[Any] = ROWS) -> list[PredictionRecord]:
    """The records of those rows, had each been logged alone."""
    names = [name for name in PredictionRecord.__struct_fields__ if name in TableRecord.__struct_fields__]
    shared = {name: getattr(table, name) for name in names if name != "features"}
    own = {"probabilities": '{"0":0.5,"1":0.5}', "flags": None, "violations": None, "refused": None}
    return [
        make_record(
            row,
            **{**shared, **own, "prediction_id": row_id(table.prediction_id, index)},
            row=index,
            feature_hash=feature_hash(SCHEMA.contract_id, encode_row(row)),
            prediction=str(index),
        )
        for index, row in enumerate(rows)
    ]


def decoded(table: TableRecord) -> TableRecord:
    """The table as a reader has it."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(table), type=TableRecord)


def test_a_table_is_the_rows_that_would_have_been_logged_alone() -> None:
    table = make_table()
    assert records_of(decoded(table), SCHEMA) == alone(table)


def test_memory_and_parquet_hold_what_single_records_would_make(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.register_schema(SCHEMA)
    table = make_table()
    writer.append(frame(table))
    ingest = Ingest(tmp_path)
    assert ingest.poll()
    expected = prediction_tables(alone(table), {SCHEMA.contract_id: SCHEMA})[0][1]
    with ingest.snapshot() as snapshot:
        assert pa.concat_tables(snapshot.fresh.predictions["shop"]).equals(expected)
    ingest.flush()
    assert stored(ingest).sort_by("row").to_pylist() == expected.to_pylist()
    ingest.close()


def test_a_query_sees_a_table_at_once_and_after_parquet(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.register_schema(SCHEMA)
    ingest = Ingest(tmp_path)
    queries = Queries(ingest)
    writer.append(frame(make_table(request_id="t-1")), frame(make_record(request_id="r-1")))
    sql = "SELECT row, features.country, prediction FROM predictions WHERE request_id = 't-1' ORDER BY row"
    seen = [(0, "DE", "0"), (1, None, "1"), (2, "FR", "2")]

    def rows() -> list[tuple[object, ...]]:
        return [tuple(row.values()) for row in queries.sql(sql).table.to_pylist()]

    assert rows() == seen
    ingest.flush()
    assert rows() == seen
    assert [row["row"] for row in queries.find("t-1")] == [0, 1, 2]
    ingest.close()


def test_a_killed_writers_torn_table_is_no_row_and_disturbs_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "log" / "g0"
    writer = SegmentWriter(folder)
    writer.register_schema(SCHEMA)
    whole, torn = frame(make_table(request_id="whole")), frame(make_table(request_id="torn", serial=2))
    writer.append(whole)
    writer.close()
    (segment,) = folder.glob("*.seg")
    with segment.open("ab") as file:
        file.write(torn[: len(torn) // 2])
    ingest = Ingest(tmp_path)
    ingest.poll()
    ingest.flush()
    assert stored(ingest).column("request_id").to_pylist() == ["whole"] * 3
    assert ingest.status().torn == 1
    ingest.close()


def test_old_kinds_of_frames_stay_readable_beside_the_new(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.register_schema(SCHEMA)
    for _ in range(3):
        writer.append(frame(make_record()), frame(make_table()))
    ingest = Ingest(tmp_path)
    ingest.poll()
    assert ingest.status().fresh_rows == 3 + 9
    assert ingest.status().unreadable == 0
    ingest.close()


def test_sensitive_features_of_a_table_are_not_stored(tmp_path: Path) -> None:
    secret = SchemaFrame(SCHEMA.contract_id, SCHEMA.names, SCHEMA.types, ("sensitive", *("none",) * 4))
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.register_schema(secret)
    writer.append(frame(make_table()))
    ingest = Ingest(tmp_path)
    ingest.poll()
    ingest.flush()
    rows = stored(ingest).column("features").to_pylist()
    assert [row["age"] for row in rows] == [None, None, None]
    assert [row["visits"] for row in rows] == [4, 0, -7]
    ingest.close()


def test_a_table_of_an_unknown_contract_keeps_all_but_its_features(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.append(frame(make_table()))
    ingest = Ingest(tmp_path)
    ingest.poll()
    status = ingest.status()
    assert (status.fresh_rows, status.unknown_contracts, status.unreadable) == (3, 3, 0)
    ingest.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"features": [pack_cells(np.zeros(3))]},
        {"features": [pack_cells(np.zeros((2, 5)))], "matrix": True},
        {"values": Cells("<i8", (3,), b"1234")},
        {"values": Cells("|O", (3,), b"")},
        {"values": pack_cells(np.arange(2))},
        {"flags": [TableFlag("age", "range", pack_cells(np.arange(2)), [1])]},
    ],
)
def test_a_table_whose_arrays_do_not_agree_is_counted_and_no_row(tmp_path: Path, changes: Any) -> None:
    writer = SegmentWriter(tmp_path / "log" / "g0")
    writer.register_schema(SCHEMA)
    writer.append(frame(make_table(**changes)), frame(make_record()))
    ingest = Ingest(tmp_path)
    ingest.poll()
    assert (ingest.status().fresh_rows, ingest.status().unreadable) == (1, 1)
    ingest.close()


def test_numbers_vectors_and_rankings_read_as_their_kinds_do() -> None:
    vector = make_table(values=pack_cells(np.array([[1.5, 2.0]] * 3)), probabilities=None)
    assert records_of(vector, SCHEMA)[0].prediction == "[1.5,2.0]"
    ids = np.array([["b", "a"]] * 3, object)
    ranking = make_table(
        values=pack_cells(ids), scores=pack_cells(np.array([[2.0, 1.0]] * 3)), probabilities=None
    )
    found = json.loads(records_of(decoded(ranking), SCHEMA)[2].prediction or "")
    assert found == [{"id": "b", "score": 2.0}, {"id": "a", "score": 1.0}]


def test_flags_violations_and_nulls_lie_with_their_rows() -> None:
    table = make_table(
        first=10,
        nulls={1: pack_cells(np.array([False, True, False]))},
        flags=[
            TableFlag("age", "range", pack_cells(np.array([0, 2])), [500.0, "…"]),
            TableFlag("visits", "missing", pack_cells(np.array([2])), [None]),
        ],
        violations={11: "[1]"},
        refused={11: "{}"},
    )
    first, second, third = records_of(decoded(table), SCHEMA)
    assert json.loads(first.flags or "") == [{"field": "age", "rule": "range", "value": 500.0}]
    assert [flag["field"] for flag in json.loads(third.flags or "")] == ["age", "visits"]
    assert (first.violations, second.violations, second.refused) == (None, "[1]", "{}")
    assert msgspec.msgpack.decode(second.features)[1] is None
    assert [record.row for record in (first, second, third)] == [10, 11, 12]


@given(st.binary(min_size=16, max_size=16), st.integers(0, 10**6), st.integers(0, 10**6))
def test_row_ids_differ_and_keep_time_and_version(base: bytes, one: int, other: int) -> None:
    first, second = row_id(base, one), row_id(base, other)
    assert (first == second) == (one == other)
    assert first[:8] == base[:8]
    assert row_id(base, 0) == base
    assert row_id(row_id(base, one), other) == row_id(base, one + other)


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i8"]
)
def test_arrays_of_every_type_come_back(dtype: str) -> None:
    array = np.arange(6).reshape(3, 2).astype(dtype)
    cells = msgspec.msgpack.decode(msgspec.msgpack.encode(pack_cells(array)), type=Cells)
    assert unpack_cells(cells).tolist() == array.tolist()
    strided = np.arange(24).reshape(6, 4).astype(dtype)[::2, 1]
    assert unpack_cells(pack_cells(strided)).tolist() == strided.tolist()
