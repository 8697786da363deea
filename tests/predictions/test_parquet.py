"""Parquet files hold what was given to them, sorted, indexed, or are not there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.predictions import parquet
from fairlead.predictions.columns import OUTCOMES, combine, outcome_table, prediction_tables
from fairlead.predictions.features import NO_FEATURES
from fairlead.predictions.index import candidate_rows
from fairlead.predictions.record import PredictionRecord
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record


def table_of(records: list[PredictionRecord]) -> pa.Table:
    contracts = {SCHEMA.contract_id: SCHEMA}
    return parquet.sorted_by_id(combine([table for _, table in prediction_tables(records, contracts)]))


def write(root: Path, table: pa.Table, model: str = "shop") -> parquet.DataFile:
    return parquet.write_predictions(root, model, [table], table.schema.field("features").type)


def test_predictions_come_back_sorted_with_their_types(tmp_path: Path) -> None:
    records = [make_record(at=AT + offset) for offset in (3_000_000, 1_000_000, 2_000_000)]
    file = write(tmp_path, table_of(records))
    (found,) = parquet.read_table(tmp_path, file)
    assert found == table_of(records)
    assert found.column("prediction_id").to_pylist() == sorted(found.column("prediction_id").to_pylist())
    assert (file.rows, file.first_at, file.last_at) == (3, AT + 1_000_000, AT + 3_000_000)
    assert (file.model, file.dataset) == ("shop", "predictions")
    assert file.features["age"] == "double"
    assert file.size == (tmp_path / file.path).stat().st_size


def test_rows_are_found_by_number_across_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 4)
    table = table_of([make_record() for _ in range(11)])
    file = write(tmp_path, table)
    assert pq.ParquetFile(tmp_path / file.path).num_row_groups == 3
    found = parquet.read_rows(tmp_path, file, [0, 3, 4, 10])
    assert (
        found.column("request_id").to_pylist() == table.column("request_id").take([0, 3, 4, 10]).to_pylist()
    )
    assert file.index is not None
    wanted = table.column("request_id")[7].as_py()
    assert candidate_rows(tmp_path / file.index, wanted) == [7]


def test_many_small_tables_make_full_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 5)
    table = table_of([make_record() for _ in range(12)])
    parts = [table.slice(start, 2) for start in range(0, 12, 2)]
    file = parquet.write_predictions(tmp_path, "shop", parts, table.schema.field("features").type)
    metadata = pq.ParquetFile(tmp_path / file.path).metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [5, 5, 2]
    assert pa.concat_tables(parquet.read_table(tmp_path, file)) == table


def test_a_model_without_a_known_contract_has_a_file_without_features(tmp_path: Path) -> None:
    table = table_of([make_record(None, contract_id=None)])
    file = write(tmp_path, table)
    assert "features" not in pq.read_schema(tmp_path / file.path).names
    (found,) = parquet.read_table(tmp_path, file)
    assert found.schema.field("features").type == NO_FEATURES
    assert parquet.read_rows(tmp_path, file, [0]).column_names == table.column_names


@pytest.mark.parametrize("model", ["../../etc", "a/b", "", ".hidden", "Zoë", "x" * 300])
def test_a_model_name_never_leads_out_of_the_folder(tmp_path: Path, model: str) -> None:
    file = write(tmp_path / "log", table_of([make_record(model=model)]), model)
    inside = (tmp_path / "log" / "predictions").resolve()
    assert (tmp_path / "log" / file.path).resolve().is_relative_to(inside)
    assert file.model == model


def test_outcomes_have_no_index(tmp_path: Path) -> None:
    file = parquet.write_table(tmp_path, "outcomes", [outcome_table([make_outcome()])], OUTCOMES)
    assert file.index is None
    (found,) = parquet.read_table(tmp_path, file)
    assert found.schema == OUTCOMES


def test_a_file_that_could_not_be_written_is_not_there(tmp_path: Path) -> None:
    table = table_of([make_record()])

    def fails() -> object:
        yield table
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        parquet.write_predictions(tmp_path, "shop", fails(), table.schema.field("features").type)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
