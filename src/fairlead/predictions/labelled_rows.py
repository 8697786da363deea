"""Labelled rows of a model as a Parquet file, for those who train on them: one consistent look at the log.

The file has a column per stored feature under its contract's name, then `_unit`, `_at`, `_label` and
`_label_text`. Features of sensitivity `sensitive` are never in the log, and so never here.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.errors import MalformedRequest
from fairlead.predictions.exports import EXPORTS, LabelledRows
from fairlead.predictions.features import names_of
from fairlead.predictions.query import Queries

__all__ = ["export_labelled"]

_ROWS = """
SELECT features, coalesce(unit, request_id) AS _unit, "at" AS _at, label AS _label, label_text AS _label_text
FROM labelled
WHERE model = $1 AND source IN ('online', 'batch') AND status = 'ok' AND features IS NOT NULL
    AND "at" >= $2 AND "at" < $3 AND (label IS NOT NULL OR label_text IS NOT NULL)
ORDER BY "at" DESC, prediction_id DESC LIMIT $4
"""
_ANSWERED = """
SELECT count(*) AS n FROM predictions
WHERE model = $1 AND source IN ('online', 'batch') AND status = 'ok' AND features IS NOT NULL
    AND "at" >= $2 AND "at" < $3
"""


def export_labelled(
    queries: Queries, model: str, since: datetime, until: datetime, path: Path, limit: int
) -> LabelledRows:
    """Writes the labelled rows of [since, until), at most the newest `limit`, oldest first. `path` lies below
    `EXPORTS` of the log's data folder, else `MalformedRequest`."""
    folder = queries.ingest.root.parent / EXPORTS
    if folder.resolve() not in path.resolve().parents:
        raise MalformedRequest(
            f"{path.name!r} would be written outside of {EXPORTS}.", remedy="Name a file in that folder."
        )
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as whole:
        snapshot = whole.of_model(model)
        span = [model, since, until]
        count = queries.trusted(_ANSWERED, span, ["predictions"], snapshot)
        found = queries.trusted(_ROWS, [*span, limit], ["labelled"], snapshot)
    table = _flat(found).take(pa.array(range(found.num_rows - 1, -1, -1), pa.int64()))
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.part")
    pq.write_table(table, half)
    os.replace(half, path)
    return LabelledRows(rows=found.num_rows, answered=int(count.column("n")[0].as_py()))


def _flat(found: pa.Table) -> pa.Table:
    """The features as columns of their own, before the others."""
    column = found.column("features").combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    names = names_of(column.type) if pa.types.is_struct(column.type) else {}
    children = column.flatten() if names else []
    rest = found.drop_columns("features")
    return pa.Table.from_arrays([*children, *rest.columns], names=[*names, *rest.column_names])
