"""Tables: what can be read as one, and what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.contracts.table import read_table, read_table_file
from fairlead.errors import InvalidReference

FRAME = pd.DataFrame({"größe": [1.5, 2.5], "land": ["DE", None], "n": [3, 4]})


@pytest.mark.parametrize(
    "sample",
    [
        FRAME,
        pl.from_pandas(FRAME),
        pa.Table.from_pandas(FRAME),
        pa.RecordBatch.from_pandas(FRAME),
        {"größe": [1.5, 2.5], "land": ["DE", None], "n": np.array([3, 4])},
    ],
)
def test_the_same_table_is_read_from_every_library(sample: Any) -> None:
    table = read_table(sample)
    assert table.names == ("größe", "land", "n")
    assert table.rows == 2
    assert table.records() == [(1.5, "DE", 3), (2.5, None, 4)]
    assert [type(value) for value in table.records()[0]] == [float, str, int]
    assert table.records(1) == [(2.5, None, 4)]
    assert table.records(0, 1) == [(1.5, "DE", 3)]


def test_a_matrix_is_named_by_the_caller_or_by_position() -> None:
    matrix = np.arange(6.0).reshape(3, 2)
    assert read_table(matrix).names == ("f0", "f1")
    assert read_table(matrix, columns=["a", "b"]).names == ("a", "b")
    with pytest.raises(InvalidReference, match="3 column names were given for a matrix of 2 columns"):
        read_table(matrix, columns=["a", "b", "c"])


def test_columns_select_and_order_and_leave_the_rest_unread() -> None:
    frame = FRAME.assign(day=pd.to_datetime(["2024-01-01", "2024-01-02"]))
    assert read_table(frame, columns=["n", "größe"]).records() == [(3, 1.5), (4, 2.5)]
    with pytest.raises(InvalidReference, match="'day'"):
        read_table(frame)
    with pytest.raises(InvalidReference, match="no column 'm'") as caught:
        read_table(frame, columns=["m"])
    assert "'größe'" in caught.value.remedy


def test_a_table_reads_as_itself_and_gives_its_parts() -> None:
    table = read_table(FRAME)
    assert read_table(table) is table
    assert table.without("land").names == ("größe", "n")
    assert table.select(["n"]).records() == [(3,), (4,)]
    with pytest.raises(InvalidReference, match="no column 'x'"):
        table.without("x")


def test_integer_column_names_of_pandas_become_text() -> None:
    assert read_table(pd.DataFrame([[1, 2]])).names == ("0", "1")


def test_two_columns_of_one_name_are_refused() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(InvalidReference, match="Two columns are called 'a'"):
        read_table(twice)
    with pytest.raises(InvalidReference, match="Two columns are called 'a'"):
        read_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]))


@pytest.mark.parametrize("empty", [pd.DataFrame(), pd.DataFrame({"a": [1.0]})[:0], np.empty((0, 3)), {}])
def test_an_empty_table_is_refused(empty: Any) -> None:
    with pytest.raises(InvalidReference, match="empty"):
        read_table(empty)


@pytest.mark.parametrize("sample", ["text", 3, [[1, 2]], pd.Series([1.0]), pl.LazyFrame({"a": [1]})])
def test_what_is_no_table_is_refused_by_its_type(sample: Any) -> None:
    with pytest.raises(InvalidReference, match=type(sample).__name__):
        read_table(sample)


def test_columns_of_different_length_and_arrays_of_other_rank_are_refused() -> None:
    with pytest.raises(InvalidReference, match="differ in length"):
        read_table({"a": [1], "b": [1, 2]})
    with pytest.raises(InvalidReference, match="3 axes"):
        read_table(np.ones((2, 2, 2)))


def test_parquet_and_csv_files_give_the_table_they_hold(tmp_path: Path) -> None:
    FRAME.to_parquet(tmp_path / "rows.parquet")
    FRAME.assign(land=["DE", "FR"]).to_csv(tmp_path / "rows.csv", index=False)
    assert read_table_file(tmp_path / "rows.parquet").records() == [(1.5, "DE", 3), (2.5, None, 4)]
    assert read_table_file(tmp_path / "rows.csv").records() == [(1.5, "DE", 3), (2.5, "FR", 4)]
    assert read_table_file(str(tmp_path / "rows.csv"), columns=["n"]).names == ("n",)


def test_a_file_that_is_no_table_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and then nothing")
    (tmp_path / "torn.csv").write_text("a,b\n1\n2,3,4\n")
    (tmp_path / "rows.xlsx").write_bytes(b"")
    for name in ("torn.parquet", "torn.csv", "rows.xlsx", "absent.csv"):
        with pytest.raises(InvalidReference, match=name):
            read_table_file(tmp_path / name)


def test_a_file_with_dates_names_the_column_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "days.csv").write_text("a,day\n1,2024-01-01\n")
    with pytest.raises(InvalidReference, match="'day' is date32"):
        read_table_file(tmp_path / "days.csv")


def test_a_parquet_file_in_many_pieces_is_one_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": list(range(1000))}), tmp_path / "rows.parquet", row_group_size=7)
    assert [row[0] for row in read_table_file(tmp_path / "rows.parquet").records()] == list(range(1000))
