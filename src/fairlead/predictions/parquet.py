"""Parquet files of the log: written whole and synchronised, or not there at all.

Predictions lie sorted by `prediction_id`, which is their order in time, in row groups of 10,000 rows, so that
DuckDB skips what a time range does not touch. Each has a request index beside it (see `index.py`).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from fairlead.predictions.columns import PREDICTIONS, predictions_schema, with_features
from fairlead.predictions.features import NO_FEATURES, names_of
from fairlead.predictions.index import hash_requests, write_index
from fairlead.predictions.manifest import DataFile, Dataset, sync_folder

__all__ = [
    "ROWS_PER_GROUP",
    "folder_of",
    "read_rows",
    "read_table",
    "remove_files",
    "sorted_by_id",
    "write_predictions",
    "write_profiles",
    "write_table",
]

ROWS_PER_GROUP = 10_000

_TIME_OF: dict[Dataset, str] = {
    "predictions": "at",
    "outcomes": "received_at",
    "windows": "minute",
    "profiles": "minute",
}
_PROFILES_PER_GROUP = 500
"""A row of counts is some kilobytes."""
_MOSTLY_UNIQUE = {"prediction_id", "request_id", "feature_hash", "probabilities", "trace_id", "outcome_id"}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def sorted_by_id(table: pa.Table) -> pa.Table:
    """The predictions in the order of their ids, which is their order in time."""
    return table.take(pc.sort_indices(table.column("prediction_id")))


def write_predictions(
    root: Path, model: str, tables: Iterable[pa.Table], features: pa.StructType
) -> DataFile:
    """One file of a model's predictions; `tables` together are sorted by id and fit `features`.

    Raises OSError when the disk is full or fails; then nothing is left behind.
    """
    schema = predictions_schema(features)
    named = (with_features(table, features) for table in tables)
    if features == NO_FEATURES:  # Parquet has no struct without fields
        schema = schema.remove(schema.get_field_index("features"))
        named = (table.drop_columns("features") for table in named)
    return _write(root, "predictions", named, schema, model, features)


def write_table(root: Path, dataset: Dataset, tables: Iterable[pa.Table], schema: pa.Schema) -> DataFile:
    """One file of another dataset. Raises OSError like `write_predictions`."""
    return _write(root, dataset, tables, schema, None, NO_FEATURES)


def write_profiles(
    root: Path, model: str, tables: Iterable[pa.Table], schema: pa.Schema, seconds: int
) -> DataFile:
    """One file of a model's profiles, each of `seconds`. Raises OSError like `write_predictions`."""
    written = _write(root, "profiles", tables, schema, model, NO_FEATURES)
    return msgspec.structs.replace(written, seconds=seconds)


def read_table(root: Path, file: DataFile) -> Iterator[pa.Table]:
    """The file's rows as tables of one row group each; predictions always have their `features` column."""
    with pq.ParquetFile(root / file.path) as opened:
        for group in range(opened.num_row_groups):
            yield _as_stored(opened.read_row_group(group), file)


def read_rows(root: Path, file: DataFile, rows: Iterable[int]) -> pa.Table:
    """The rows with those numbers; reads only the row groups that hold them."""
    found = []
    with pq.ParquetFile(root / file.path) as opened:
        sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
        ends = np.cumsum(sizes)
        within: dict[int, list[int]] = {}
        for row in rows:
            group = int(np.searchsorted(ends, row, "right"))
            within.setdefault(group, []).append(row - int(ends[group] - sizes[group]))
        for group, wanted in within.items():
            found.append(_as_stored(opened.read_row_group(group).take(wanted), file))
    return pa.concat_tables(found)


def _as_stored(table: pa.Table, file: DataFile) -> pa.Table:
    """A table read from `file` with the columns of its kind: those that it was written without, because it
    had no features or they came later, are null."""
    if file.dataset != "predictions" or len(table.schema.names) == len(PREDICTIONS):
        return table
    for position, field in enumerate(PREDICTIONS):
        if field.name not in table.schema.names:
            table = table.add_column(position, field, pa.nulls(len(table), field.type))
    return table


def remove_files(root: Path, paths: Iterable[str]) -> None:
    """Deletes the files that are there."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            (root / path).unlink()


def _write(
    root: Path,
    dataset: Dataset,
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    model: str | None,
    features: pa.StructType,
) -> DataFile:
    size = _PROFILES_PER_GROUP if dataset == "profiles" else ROWS_PER_GROUP
    groups = _regroup(tables, size)
    first = next(groups)
    folder = root / dataset if model is None else root / dataset / folder_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    started = datetime.fromtimestamp(_times(first, dataset)[0] / 1e6, UTC)
    path = folder / f"{started:%Y%m%dT%H%M%S}-{secrets.token_hex(6)}.parquet"
    index = path.with_suffix(".index.npy") if dataset == "predictions" else None
    rows, spans, hashes = 0, [], []
    try:
        with pq.ParquetWriter(
            path, schema, compression="zstd", use_dictionary=_repetitive(schema), write_page_index=True
        ) as writer:
            for group in chain([first], groups):
                writer.write_table(group, row_group_size=size)
                rows += group.num_rows
                spans.append(_times(group, dataset))
                if index is not None:
                    hashes.append(hash_requests(group.column("request_id").to_pylist()))
        _synchronise(path)
        if index is not None:
            with index.open("wb") as file:
                write_index(file, np.concatenate(hashes))
            _synchronise(index)
        sync_folder(folder)
        sync_folder(folder.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        if index is not None:
            index.unlink(missing_ok=True)
        raise
    return DataFile(
        dataset=dataset,
        path=str(path.relative_to(root)),
        rows=rows,
        size=path.stat().st_size,
        first_at=min(low for low, _ in spans),
        last_at=max(high for _, high in spans),
        model=model,
        index=None if index is None else str(index.relative_to(root)),
        features=names_of(features),
    )


def _repetitive(schema: pa.Schema) -> list[str]:
    """The columns worth a dictionary: texts that recur. Building one for all the others halves the speed."""
    found = [
        field.name for field in schema if pa.types.is_string(field.type) and field.name not in _MOSTLY_UNIQUE
    ]
    if "features" in schema.names:
        features = schema.field("features").type
        found += [f"features.{field.name}" for field in features if pa.types.is_string(field.type)]
    return found


def _regroup(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of one row group each, so that small tables do not make small groups."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        while count >= size:
            joined = pa.concat_tables(held)
            yield joined.slice(0, size)
            held, count = [joined.slice(size)], count - size
    if count:
        yield pa.concat_tables(held)


def _times(table: pa.Table, dataset: Dataset) -> tuple[int, int]:
    span = pc.min_max(table.column(_TIME_OF[dataset]))
    return span["min"].value, span["max"].value


def folder_of(model: str) -> str:
    """A folder name for the model; a name that no registry would give out is replaced by its hash."""
    return model if _PLAIN_NAME.fullmatch(model) else f"_{xxhash.xxh3_64_hexdigest(model.encode())}"


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
