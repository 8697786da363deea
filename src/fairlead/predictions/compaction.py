"""Compaction: small files of one model and day become larger ones, with the rows as they were.

Every flush leaves a file per model. Files of like size are merged when eight have gathered, so each row is
rewritten only a few times. Once a day is over, what is left of it is merged too, unless that would rewrite a
large file for the sake of a few rows. Profiles of a day become hours two days after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fairlead.predictions.columns import OUTCOMES, with_features
from fairlead.predictions.features import from_names, unify
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.parquet import read_table, sorted_by_id, write_predictions, write_table
from fairlead.predictions.profile_files import BinsOf, merge_profiles
from fairlead.predictions.windows import WINDOWS

__all__ = ["FULL_ROWS", "merge", "next_merge"]

FULL_ROWS = 1_000_000
"""A file with so many rows is left as it is, and no merge makes a larger one."""

_TOGETHER = 8
_MOST_TOGETHER = 64  # a merge holds one row group of each file in memory
_DAY = 86_400_000_000
_MINUTES_FOR = 2 * _DAY
_MINUTE, _HOUR = 60, 3_600
_SETTLED_AFTER = 3_600_000_000  # a day's stragglers are in an hour after it


def next_merge(files: Iterable[DataFile], now: int) -> list[DataFile]:
    """The files to merge next, all of one dataset, model and day; [] when nothing is worth it.

    `now` is Unix microseconds. Pure: the same files and time give the same answer.
    """
    groups: dict[tuple[str, str, int, int], list[DataFile]] = {}
    for file in files:
        if file.rows < FULL_ROWS:
            key = (file.dataset, file.model or "", file.seconds, file.last_at // _DAY)
            groups.setdefault(key, []).append(file)
    for (_, _, _, day), group in sorted(groups.items()):
        if _is_old(group[0], now):
            return _up_to_full(sorted(group, key=lambda file: (file.first_at, file.path)))
        settled = now > (day + 1) * _DAY + _SETTLED_AFTER
        for candidates in [group] if settled else _like_sized(group):
            chosen = _up_to_full(sorted(candidates, key=lambda file: (file.first_at, file.path)))
            if len(chosen) >= _TOGETHER or (settled and _worth_it(chosen)):
                return chosen
    return []


def merge(root: Path, files: list[DataFile], bins: BinsOf, now: int) -> DataFile:
    """One new file with the rows of all, which stay where they are. Raises OSError when the disk refuses."""
    kind, model = files[0].dataset, files[0].model
    if kind == "profiles":
        return merge_profiles(root, files, bins, _HOUR if _is_old(files[0], now) else files[0].seconds)
    if kind == "predictions" and model is not None:
        features = unify(from_names(file.features) for file in files)
        sources = [_conformed(root, file, features) for file in files]
        return write_predictions(root, model, _merge_sorted(sources), features)
    schema = OUTCOMES if kind == "outcomes" else WINDOWS
    return write_table(root, kind, (table for file in files for table in read_table(root, file)), schema)


def _is_old(file: DataFile, now: int) -> bool:
    """Whether the minutes of a file of profiles shall become hours."""
    return file.seconds == _MINUTE and now > (file.last_at // _DAY + 1) * _DAY + _MINUTES_FOR


def _like_sized(files: list[DataFile]) -> list[list[DataFile]]:
    """The files by size: each class holds those up to eight times as large as the one before."""
    classes: dict[int, list[DataFile]] = {}
    for file in files:
        classes.setdefault((file.rows.bit_length() - 1) // 3, []).append(file)
    return [classes[size] for size in sorted(classes)]


def _worth_it(files: list[DataFile]) -> bool:
    largest = max((file.rows for file in files), default=0)
    return len(files) > 1 and sum(file.rows for file in files) >= largest + largest / _TOGETHER


def _up_to_full(files: list[DataFile]) -> list[DataFile]:
    chosen: list[DataFile] = []
    rows = 0
    for file in files:
        if rows + file.rows <= FULL_ROWS and len(chosen) < _MOST_TOGETHER:
            chosen.append(file)
            rows += file.rows
    return chosen


def _conformed(root: Path, file: DataFile, features: pa.StructType) -> Iterator[pa.Table]:
    for table in read_table(root, file):
        yield with_features(table, features)


def _merge_sorted(sources: list[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    """Sorted tables whose rows are those of all sources, each of which is sorted; holds one table of each."""
    held = {number: next(source) for number, source in enumerate(sources)}
    while held:
        # whatever is not above the least last id cannot be preceded by a row that is still to come
        cut = min(table.column("prediction_id")[-1].as_py() for table in held.values())
        ready = []
        for number, table in list(held.items()):
            end = pc.sum(pc.less_equal(table.column("prediction_id"), cut)).as_py()
            ready.append(table.slice(0, end))
            rest = table.slice(end)
            following = rest if rest.num_rows else next(sources[number], None)
            if following is None:
                del held[number]
            else:
                held[number] = following
        yield sorted_by_id(pa.concat_tables(ready))
