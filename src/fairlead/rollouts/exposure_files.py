"""Exposures as a file: CSV or Parquet, portion by portion, so that no size is too large."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import IO, Any, Literal

__all__ = ["Format", "write_exposures"]

Format = Literal["csv", "parquet"]

_COLUMNS = {
    "unit": "string", "model": "string", "experiment": "string", "arm": "string", "version": "string",
    "first_exposure_at": "time", "generation": "int64", "last_exposure_at": "time", "requests": "int64",
    "arms": "int64",
}  # fmt: skip


def write_exposures(portions: Iterable[Iterable[Mapping[str, Any]]], file: IO[bytes], format: Format) -> None:
    """Writes the rows of the portions into the file, which has its columns also without any row."""
    if format == "csv":
        _write_csv(portions, file)
    else:
        _write_parquet(portions, file)


def _write_csv(portions: Iterable[Iterable[Mapping[str, Any]]], file: IO[bytes]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for rows in portions:
        writer.writerows([row[name] for name in _COLUMNS] for row in rows)
    text.flush()
    text.detach()


def _write_parquet(portions: Iterable[Iterable[Mapping[str, Any]]], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.string(), "int64": pa.int64(), "time": pa.timestamp("us", tz="UTC")}
    schema = pa.schema([(name, types[kind]) for name, kind in _COLUMNS.items()])
    times = [name for name, kind in _COLUMNS.items() if kind == "time"]
    with pq.ParquetWriter(file, schema) as writer:
        for rows in portions:
            plain = [{**row, **{name: datetime.fromisoformat(row[name]) for name in times}} for row in rows]
            writer.write_table(pa.Table.from_pylist(plain, schema))
