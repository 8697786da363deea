"""Merging changes how many files there are, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.predictions import compaction, parquet
from fairlead.predictions.columns import OUTCOMES, combine, outcome_table, prediction_tables
from fairlead.predictions.compaction import FULL_ROWS, merge, next_merge
from fairlead.predictions.index import candidate_rows
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.record import SchemaFrame
from tests.predictions.records import AT, SCHEMA, make_outcome, make_record

DAY = 86_400_000_000
NOON = AT + DAY // 2


def no_bins(model: str, identifier: str) -> None:
    """Nothing here is a profile."""


def file(name: str, rows: int, *, day: int = 0, model: str = "shop") -> DataFile:
    return DataFile(
        dataset="predictions",
        path=name,
        rows=rows,
        size=rows,
        first_at=AT + day * DAY,
        last_at=AT + day * DAY + rows,
        model=model,
    )


def test_eight_files_of_like_size_are_merged_and_seven_wait() -> None:
    files = [file(f"f{number}", 900 + number) for number in range(8)]
    assert next_merge(files[:7], NOON) == []
    assert next_merge(files, NOON) == files


def test_a_large_file_is_not_rewritten_for_small_ones() -> None:
    files = [file("large", 100_000), *(file(f"f{number}", 900) for number in range(8))]
    assert "large" not in {chosen.path for chosen in next_merge(files, NOON)}


def test_models_datasets_and_days_are_not_mixed() -> None:
    files = [file(f"f{number}", 900, model=f"m{number % 2}", day=number % 4 // 2) for number in range(28)]
    assert next_merge(files, NOON) == []


def test_what_is_left_of_a_day_is_merged_when_it_is_over() -> None:
    files = [file("a", 5_000), file("b", 900)]
    assert next_merge(files, NOON) == []
    assert next_merge(files, NOON + DAY) == files


def test_a_finished_day_is_not_rewritten_for_a_few_rows() -> None:
    assert next_merge([file("a", 500_000), file("b", 9)], NOON + DAY) == []


def test_full_files_are_left_alone() -> None:
    assert next_merge([file(f"f{number}", FULL_ROWS) for number in range(9)], NOON + DAY) == []


sizes = st.lists(st.integers(1, FULL_ROWS + 10), min_size=1, max_size=60)


@given(sizes, st.integers(0, 3))
def test_merging_ends_with_few_files_no_file_too_large_and_every_row(rows: list[int], days: int) -> None:
    files = [file(f"f{number}", count) for number, count in enumerate(rows)]
    now, merges = AT + days * DAY, 0
    while chosen := next_merge(files, now):
        assert 1 < len(chosen) <= 64
        total = sum(item.rows for item in chosen)
        assert total <= FULL_ROWS
        merges += 1
        files = [item for item in files if item not in chosen] + [
            msgspec.structs.replace(
                chosen[0], path=f"m{merges}", rows=total, last_at=max(item.last_at for item in chosen)
            )
        ]
    assert sum(item.rows for item in files) == sum(rows)
    assert sum(item.rows < FULL_ROWS for item in files) <= 7 * 7 + 2 * sum(rows) // FULL_ROWS


def test_merged_predictions_are_sorted_typed_and_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 7)
    later = SchemaFrame("c2", ("age", "score"), ("string", "float"))
    contracts = {SCHEMA.contract_id: SCHEMA, "c2": later}
    records = [make_record(at=AT + serial * 1000) for serial in range(60)]
    records += [make_record(("old", 0.5), contract_id="c2", at=AT + serial * 1500) for serial in range(20)]
    records += [make_record(None, contract_id=None)]
    random.Random(7).shuffle(records)
    files = []
    for part in (records[:31], records[31:33], records[33:]):
        table = parquet.sorted_by_id(combine([table for _, table in prediction_tables(part, contracts)]))
        features = table.schema.field("features").type
        files.append(parquet.write_predictions(tmp_path, "shop", [table], features))
    everything = combine([table for _, table in prediction_tables(records, contracts)])

    merged = merge(tmp_path, files, no_bins, NOON)

    found = pa.concat_tables(parquet.read_table(tmp_path, merged))
    ids = found.column("prediction_id").to_pylist()
    assert ids == sorted(everything.column("prediction_id").to_pylist())
    assert merged.features == {
        "age": "string",
        "visits": "int64",
        "member": "bool",
        "country": "string",
        "basket": "list<item: double>",
        "score": "double",
    }
    wanted = {
        row["prediction_id"]: None
        if row["features"] is None
        else {**row["features"], "score": row["features"].get("score")}
        for row in everything.to_pylist()
    }
    assert {row["prediction_id"]: row["features"] for row in found.to_pylist()} == wanted
    assert merged.index is not None
    for row, request_id in enumerate(found.column("request_id").to_pylist()):
        assert candidate_rows(tmp_path / merged.index, request_id) == [row]
    assert (merged.rows, merged.first_at) == (81, min(record.at for record in records))


def test_merged_outcomes_are_all_there(tmp_path: Path) -> None:
    tables = [outcome_table([make_outcome(value=float(number))] * 2) for number in range(3)]
    files = [parquet.write_table(tmp_path, "outcomes", [table], OUTCOMES) for table in tables]
    merged = merge(tmp_path, files, no_bins, NOON)
    found = pa.concat_tables(parquet.read_table(tmp_path, merged))
    assert sorted(found.column("value").to_pylist()) == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=20), min_size=1, max_size=5), st.data())
def test_sorted_sources_merge_into_one_sorted_sequence(sources: list[list[int]], data: st.DataObject) -> None:
    step = data.draw(st.integers(1, 7))

    def tables(values: list[int]) -> list[pa.Table]:
        ids = [f"{value:04d}" for value in sorted(values)]
        return [pa.table({"prediction_id": ids[at : at + step]}) for at in range(0, len(ids), step)]

    merged = compaction._merge_sorted([iter(tables(values)) for values in sources])
    found = [item for table in merged for item in table.column("prediction_id").to_pylist()]
    assert found == sorted(f"{value:04d}" for values in sources for value in values)


def test_files_from_before_a_column_was_added_merge_with_those_that_have_it(tmp_path: Path) -> None:
    held = []
    for offset in range(2):
        (pair,) = prediction_tables([make_record(at=NOON + offset)], {SCHEMA.contract_id: SCHEMA})
        features = pair[1].schema.field("features").type
        held.append(parquet.write_predictions(tmp_path, "shop", [pair[1]], features))
    old = tmp_path / held[0].path
    pq.write_table(pq.read_table(old).drop_columns(["conformal_quantile", "refused"]), old)
    merged = merge(tmp_path, held, no_bins, NOON)
    (table,) = parquet.read_table(tmp_path, merged)
    assert table.num_rows == 2
    assert table.column("conformal_quantile").null_count == 2
