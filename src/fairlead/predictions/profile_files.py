"""Merging files of profiles: rows of the same minute and group become one; old minutes become hours."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairlead.predictions.binning import Binning
from fairlead.predictions.blocks import KEYS, PROFILES, Block
from fairlead.predictions.grouping import grouped
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.parquet import write_profiles

__all__ = ["BinsOf", "add_up", "alike", "merge_profiles"]

BinsOf = Callable[[str, str], Binning | None]
"""The bins of a model by their id."""

_MICROSECONDS = 1_000_000
_MINUTE = pa.timestamp("us", tz="UTC")
_SPAN = 3_600 * _MICROSECONDS
"""So much time is read at once: a merge holds no more in memory."""


def merge_profiles(root: Path, files: Sequence[DataFile], bins: BinsOf, seconds: int) -> DataFile:
    """One file with the counts of all, a row for every `seconds`: 60 or 3600. Raises OSError when the disk
    refuses; the files stay where they are."""
    model = files[0].model or ""
    tables = _merged(root, files, lambda identifier: bins(model, identifier), seconds)
    return write_profiles(root, model, tables, PROFILES, seconds)


def add_up(
    rows: pa.Table,
    binning: Binning | None,
    seconds: int,
    *,
    starts: npt.NDArray[np.int64] | None = None,
    by: Sequence[str] = KEYS[2:],
) -> pa.Table:
    """Profile rows that all lie on the same bins, with those of the same `seconds` and group added up.

    `starts` gives each row another minute, in microseconds. What is not in `by` becomes null.
    """
    if starts is None:
        minute = rows.column("minute").cast(pa.int64()).to_numpy()
        starts = minute - minute % (seconds * _MICROSECONDS)
    codes: list[npt.NDArray[np.int64]] = [starts]
    held: list[list[str | None]] = []
    for name in by:
        encoded = rows.column(name).combine_chunks().dictionary_encode()
        values: list[str | None] = encoded.dictionary.to_pylist()
        codes.append(encoded.indices.cast(pa.int64()).fill_null(len(values)).to_numpy(zero_copy_only=False))
        held.append([*values, None])
    groups, to = grouped(codes)
    keys: dict[str, object] = {**dict.fromkeys(KEYS), "minute": groups[0], "seconds": seconds}
    for name, values, code in zip(by, held, groups[1:].tolist(), strict=True):
        keys[name] = [values[place] for place in code]
    summed = Block.from_table(rows, binning).summed(to, groups.shape[1], binning)
    return summed.to_table(keys)


def alike(rows: pa.Table) -> Iterator[tuple[str | None, pa.Table]]:
    """The rows by contract and bins; each time the id of the bins and the rows that lie on them."""
    names = ["contract_id", "bins"]
    for pair in rows.select(names).group_by(names).aggregate([]).to_pylist():
        chosen = rows
        for name, value in pair.items():
            column = chosen.column(name)
            chosen = chosen.filter(column.is_null() if value is None else pc.equal(column, value))
        yield pair["bins"], chosen


def _merged(
    root: Path, files: Sequence[DataFile], bins: Callable[[str], Binning | None], seconds: int
) -> Iterator[pa.Table]:
    paths = [root / file.path for file in files]
    starts: set[int] = set()
    for path in paths:
        minutes = pq.read_table(path, columns=["minute"]).column("minute").cast(pa.int64()).to_numpy()
        starts.update(np.unique(minutes - minutes % _SPAN).tolist())
    # All traffic first: who asks for that alone reads no slice.
    for whole, start in itertools.product((True, False), sorted(starts)):
        minute, part = pc.field("minute"), pc.field("slice")
        within = (minute >= pa.scalar(start, _MINUTE)) & (minute < pa.scalar(start + _SPAN, _MINUTE))
        within &= part == "" if whole else part != ""
        rows = pa.concat_tables(pq.read_table(path, schema=PROFILES, filters=within) for path in paths)
        for identifier, chosen in alike(rows):
            binning = None if identifier is None else bins(identifier)
            lost = identifier is not None and binning is None
            yield chosen if lost else add_up(chosen, binning, seconds)
