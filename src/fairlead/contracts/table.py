"""One neutral form of a table: named columns, read from whatever a person has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.columns import Column, bases_of, from_arrow, from_pandas, from_polars, from_values
from fairlead.errors import InvalidReference

__all__ = ["Column", "Table", "read_table", "read_table_file"]

Array = npt.NDArray[Any]


class Table(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Named columns of equal length."""

    columns: tuple[Column, ...]
    rows: int

    @property
    def names(self) -> tuple[str, ...]:
        """The column names in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name; `InvalidReference` when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise InvalidReference(
            f"The reference table has no column {name!r}.", remedy=f"It has {_listed(self.names)}."
        )

    def select(self, names: Sequence[str]) -> Table:
        """These columns in this order."""
        return Table(columns=tuple(self.column(name) for name in names), rows=self.rows)

    def without(self, name: str) -> Table:
        """All columns but that one, which must exist."""
        self.column(name)
        return Table(columns=tuple(c for c in self.columns if c.name != name), rows=self.rows)

    def records(self, start: int = 0, stop: int | None = None) -> list[tuple[Any, ...]]:
        """Rows as tuples of plain Python values in column order; None for null."""
        return list(zip(*(column.to_list(start, stop) for column in self.columns), strict=True))


def read_table(sample: Any, *, columns: Sequence[str] | None = None) -> Table:
    """The sample as a `Table`: a pandas or Polars frame, a pyarrow table, a mapping, or a numpy matrix.

    `columns` selects and orders the columns of a table and names those of a matrix, which are `f0`, `f1`, …
    otherwise. NaN is null. Raises `InvalidReference` naming the column that cannot be used, and why.
    """
    if isinstance(sample, Table):
        return sample if columns is None else sample.select(columns)
    named = list(_named_columns(sample, columns))
    _verify_names([name for name, _ in named])
    if columns is not None and not isinstance(sample, np.ndarray):
        held = dict(named)
        unknown = [name for name in columns if name not in held]
        if unknown:
            raise InvalidReference(
                f"The reference table has no column {unknown[0]!r}.", remedy=f"It has {_listed(list(held))}."
            )
        named = [(name, held[name]) for name in columns]
    read = tuple(make() for _, make in named)
    rows = len(read[0].values) if read else 0
    if any(len(column.values) != rows for column in read):
        raise InvalidReference("The columns differ in length.", remedy="Give each column one value per row.")
    if not read or rows == 0:
        raise InvalidReference(
            f"The reference table is empty: {rows} rows, {len(read)} columns.",
            remedy="Give rows that the model was trained on; a thousand are plenty.",
        )
    return Table(columns=read, rows=rows)


def read_table_file(
    path: Path | str, *, columns: Sequence[str] | None = None, texts: Iterable[str] = ()
) -> Table:
    """The `.parquet` or `.csv` file as a `Table`; `InvalidReference` when it cannot be read as one.

    Columns of a CSV file that are named in `texts` are text, even where they look like numbers.
    """
    path = Path(path)
    if path.suffix not in (".parquet", ".csv"):
        raise InvalidReference(
            f"Reference file {path.name!r} is neither .parquet nor .csv.", remedy="Save it as one of these."
        )
    if not path.is_file():
        raise InvalidReference(f"There is no reference file at {str(path)!r}.", remedy="Check the path.")
    from pyarrow import ArrowException

    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            return read_table(parquet.ParquetFile(path).read(), columns=columns)
        import pyarrow
        from pyarrow import csv

        options = csv.ConvertOptions(column_types=dict.fromkeys(texts, pyarrow.string()))
        return read_table(csv.read_csv(path, convert_options=options), columns=columns)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidReference(
            f"Reference file {path.name!r} cannot be read: {reason}.", remedy="Save it again."
        ) from error


_Named = Iterable[tuple[str, Callable[[], Column]]]


def _named_columns(sample: Any, columns: Sequence[str] | None) -> _Named:
    """Names with functions that read the column, so that a column nobody asked for is never looked at."""
    bases = bases_of(sample)
    if "pandas.DataFrame" in bases:
        return [
            (str(name), partial(from_pandas, str(name), sample.iloc[:, index]))
            for index, name in enumerate(sample.columns)
        ]
    if "polars.DataFrame" in bases:
        return [(series.name, partial(from_polars, series.name, series)) for series in sample.get_columns()]
    if not bases.isdisjoint({"pyarrow.Table", "pyarrow.RecordBatch"}):
        return [
            (name, partial(from_arrow, name, sample.column(index)))
            for index, name in enumerate(sample.schema.names)
        ]
    if isinstance(sample, Mapping):
        return [(str(name), partial(from_values, str(name), values)) for name, values in sample.items()]
    if isinstance(sample, np.ndarray):
        return _matrix_columns(sample, columns)
    raise InvalidReference(
        f"A {type(sample).__module__}.{type(sample).__qualname__} is no reference table.",
        remedy="Give a pandas or Polars DataFrame, a pyarrow Table or a numpy matrix.",
    )


def _matrix_columns(sample: Array, columns: Sequence[str] | None) -> _Named:
    if sample.ndim != 2:
        raise InvalidReference(
            f"The reference array has {sample.ndim} axes; a table has two.",
            remedy="Reshape it to [rows, features].",
        )
    names = list(columns) if columns is not None else [f"f{index}" for index in range(sample.shape[1])]
    if len(names) != sample.shape[1]:
        raise InvalidReference(
            f"{len(names)} column names were given for a matrix of {sample.shape[1]} columns.",
            remedy="Give one name per column.",
        )
    return [(name, partial(from_values, name, sample[:, index])) for index, name in enumerate(names)]


def _verify_names(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidReference(
                f"Two columns are called {name!r}.", remedy="Give each column its own name."
            )
        seen.add(name)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12} more"
