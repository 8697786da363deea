"""The tables that SQL sees, as views over Parquet files and fresh rows.

| table | one row is |
|---|---|
| `predictions` | one record of the log (see `record.py`), features as a struct over all models' contracts |
| `outcome_events` | one outcome as it was reported |
| `outcomes` | one effective outcome: a key's `value` or `text` (see `outcomes.py`) from how many `events` |
| `predictions_with_outcomes` | a prediction and one effective outcome of it |
| `labelled` | a prediction, with its label where one has come: `label` or `label_text`, `correct` |
| `exposures` | a unit's first meeting with an arm of an experiment (see below) |
| `windows` | one minute, version, arm, role, source and latency bucket (see `windows.py`) |

An outcome belongs to the prediction with its model, request id and row; one reported for a unit belongs to
every prediction of that model for that unit. Shadow predictions share the request id of the answer that they
shadow, and so its outcomes; `source` tells them apart.

`exposures` has `model`, `experiment` (the rollout), `unit`, `arm`, `version`, `generation` and
`first_exposure_at` of the first answer that the split gave the unit, whoever answered for the arm; `requests`
is how many there were and `arms` how many arms the unit met in all, `last_exposure_at` the latest. Requests
without a unit of their own are none, nor is what a pin, a rule or a holdout decided. A unit that never met
control or candidate is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.predictions.columns import OUTCOMES, PREDICTIONS, combine, with_features
from fairlead.predictions.effective import (
    SAME_REQUEST,
    SAME_UNIT,
    SPLIT_ONLY,
    effective_sql,
    labelled_sql,
)
from fairlead.predictions.features import NO_FEATURES, from_names, unify
from fairlead.predictions.ingest import Snapshot
from fairlead.predictions.manifest import DataFile
from fairlead.predictions.windows import WINDOWS, window_table

__all__ = ["TABLES", "View", "views_for"]

_NEEDS: dict[str, tuple[str, ...]] = {
    "predictions": (),
    "outcome_events": (),
    "windows": (),
    "outcomes": ("outcome_events",),
    "predictions_with_outcomes": ("predictions", "outcome_events", "outcomes"),
    "labelled": ("predictions", "outcome_events", "outcomes"),
    "exposures": ("predictions",),
}

TABLES = tuple(_NEEDS)

_SQL_TYPES = {
    "double": "DOUBLE",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "string": "VARCHAR",
    "list<item: double>": "DOUBLE[]",
    "list<item: int64>": "BIGINT[]",
}

_OUTCOMES = effective_sql("outcome_events", "model, request_id, row, unit, metric")

_FIRST = '("at", prediction_id)'
_EXPOSURES = f"""
SELECT model, experiment, unit, arg_min(arm, {_FIRST}) AS arm,
    arg_min(assigned_version, {_FIRST}) AS version, arg_min(generation, {_FIRST}) AS generation,
    min("at") AS first_exposure_at, max("at") AS last_exposure_at,
    count(*) AS requests, count(DISTINCT arm) AS arms
FROM predictions
WHERE experiment IS NOT NULL AND role IN ('control', 'canary', 'variant') AND {SPLIT_ONLY}
GROUP BY model, experiment, unit
"""

_OUTCOME_COLUMNS = 'o.metric, o.value, o.text, o."at" AS outcome_at'
_JOINED = f"""
SELECT p.*, {_OUTCOME_COLUMNS} FROM predictions p JOIN outcomes o ON {SAME_REQUEST}
UNION ALL
SELECT p.*, {_OUTCOME_COLUMNS} FROM predictions p JOIN outcomes o ON {SAME_UNIT}
"""

_LABELLED = labelled_sql("predictions", "outcomes")


class View:
    """The Arrow tables to register by name, and the views to create in order, as (name, SQL)."""

    def __init__(self) -> None:
        self.registered: dict[str, pa.Table] = {}
        self.statements: list[tuple[str, str]] = []

    def add_union(self, name: str, scans: list[str], fresh: pa.Table, columns: Iterable[str]) -> None:
        """A view of the given columns over scans of files and fresh rows.

        Without fresh rows it is a scan alone, of which DuckDB reads only the features that are asked for.
        """
        if fresh.num_rows or not scans:
            held = f"_fresh_{name}"
            self.registered[held] = fresh
            scans = [f"SELECT * FROM {held}", *scans]
        union = " UNION ALL BY NAME ".join(scans)
        listed = ", ".join(columns)
        self.statements.append((name, f"SELECT {listed} FROM ({union})"))


def views_for(snapshot: Snapshot, used: Iterable[str]) -> View:
    """What must be registered and created so that the tables `used` can be read."""
    needed = set(used)
    for name in list(needed):
        needed.update(_NEEDS[name])
    view = View()
    if "predictions" in needed:
        _add_predictions(view, snapshot)
    if "outcome_events" in needed:
        fresh = snapshot.fresh.outcome_events()
        view.add_union("outcome_events", _scans(snapshot, "outcomes"), fresh, _quoted(OUTCOMES))
    if "windows" in needed:
        tables = [window_table(table) for held in snapshot.fresh.predictions.values() for table in held]
        fresh = pa.concat_tables([WINDOWS.empty_table(), *tables])
        view.add_union("windows", _scans(snapshot, "windows"), fresh, _quoted(WINDOWS))
    for name, sql in (
        ("outcomes", _OUTCOMES),
        ("predictions_with_outcomes", _JOINED),
        ("labelled", _LABELLED),
        ("exposures", _EXPOSURES),
    ):
        if name in needed:
            view.statements.append((name, sql))
    return view


def _add_predictions(view: View, snapshot: Snapshot) -> None:
    files = [file for file in snapshot.files if file.dataset == "predictions"]
    tables = [table for held in snapshot.fresh.predictions.values() for table in held]
    target = unify(
        [
            *(from_names(file.features) for file in files),
            *(table.schema.field("features").type for table in tables),
        ]
    )
    # DuckDB has no struct without fields, and files of an older Fairlead lack what was added since.
    lacking = set() if any(table.num_rows for table in tables) else _columns_without(snapshot.root, files)
    columns = [
        f"NULL::{_SQL_TYPES.get(str(field.type), 'VARCHAR')} AS {_quote(field.name)}"
        if field.name in lacking
        else _quote(field.name)
        for field in PREDICTIONS
    ]
    if target == NO_FEATURES:
        columns = [column if column != '"features"' else "NULL AS features" for column in columns]
        fresh = combine([_empty(NO_FEATURES), *tables]).drop_columns("features")
    else:
        fresh = with_features(combine([_empty(target), *tables]), target)
    view.add_union("predictions", _prediction_scans(snapshot, files, target), fresh, columns)


def _prediction_scans(snapshot: Snapshot, files: list[DataFile], target: pa.StructType) -> list[str]:
    """One scan of all files that only lack features, and one for each type of those that differ."""
    wanted = {field.name: str(field.type) for field in target}
    plain: list[DataFile] = []
    conflicting: dict[tuple[tuple[str, str], ...], list[DataFile]] = {}
    for file in files:
        if all(wanted.get(name) == kind for name, kind in file.features.items()):
            plain.append(file)
        else:
            conflicting.setdefault(tuple(file.features.items()), []).append(file)
    struct = ", ".join(f"{_quote(field.name)} {_SQL_TYPES[str(field.type)]}" for field in target)
    scans = [f"SELECT * FROM {_read(snapshot, plain)}"] if plain else []
    cast = f"SELECT * REPLACE (features::STRUCT({struct}) AS features)"
    return [*scans, *(f"{cast} FROM {_read(snapshot, group)}" for group in conflicting.values())]


def _scans(snapshot: Snapshot, dataset: str) -> list[str]:
    files = [file for file in snapshot.files if file.dataset == dataset]
    return [f"SELECT * FROM {_read(snapshot, files)}"] if files else []


def _read(snapshot: Snapshot, files: list[DataFile]) -> str:
    paths = ", ".join("'" + str(snapshot.root / file.path).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{paths}], union_by_name = true)"


def _columns_without(root: Path, files: list[DataFile]) -> set[str]:
    """The columns of predictions that none of the files has, but for `features`; empty without files."""
    lacking = set(PREDICTIONS.names) - {"features"} if files else set()
    for file in sorted(files, key=lambda file: -file.last_at):
        if not lacking:
            break
        lacking -= _columns_in(root / file.path)
    return lacking


@lru_cache(maxsize=4_096)
def _columns_in(path: Path) -> frozenset[str]:
    """The columns of a file, which never changes."""
    return frozenset(pq.read_schema(path).names)


def _empty(features: pa.StructType) -> pa.Table:
    return PREDICTIONS.set(
        PREDICTIONS.get_field_index("features"), pa.field("features", features)
    ).empty_table()


def _quoted(schema: pa.Schema) -> list[str]:
    return [_quote(name) for name in schema.names]


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
