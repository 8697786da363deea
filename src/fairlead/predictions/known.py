"""Answers with the labels that are known of them, as SQL, and the part of the log that it has to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from fairlead.predictions.effective import effective_sql, labelled_sql
from fairlead.predictions.fresh import FreshRows
from fairlead.predictions.ingest import Snapshot
from fairlead.predictions.query import Queries

__all__ = ["ANSWERED", "KNOWN", "LABELS", "counted_by", "narrowed"]

ANSWERED = """
SELECT * FROM predictions
WHERE model = $1 AND source IN ('online', 'batch') AND "at" >= $2 AND "at" < $3
    AND status = 'ok' AND degraded IS NULL
    AND ($4::VARCHAR IS NULL OR coalesce(served_version, assigned_version) = $4)
"""
LABELS = """
SELECT * FROM outcome_events WHERE model = $1 AND metric = 'label' AND (
    request_id IN (SELECT request_id FROM asked)
    OR request_id IS NULL AND unit IN (SELECT unit FROM asked))
"""
"""Only of what was asked for: all labels that ever came are far more."""
_EFFECTIVE = effective_sql(f"({LABELS})", "model, request_id, row, unit, metric")
KNOWN = f"""
WITH asked AS ({ANSWERED}), effective AS ({_EFFECTIVE}),
known AS (SELECT *, coalesce(served_version, assigned_version) AS version
    FROM ({labelled_sql("asked", "effective")}))
"""


def counted_by(queries: Queries, held: Snapshot, sql: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
    table: pa.Table = queries.trusted(sql, parameters, ["predictions", "outcome_events"], held)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def narrowed(snapshot: Snapshot, model: str, since: datetime, until: datetime) -> Snapshot:
    """What the snapshot has of the model in that time, and all outcomes."""
    fresh = FreshRows()
    fresh.predictions = {name: held for name, held in snapshot.fresh.predictions.items() if name == model}
    fresh.outcomes = snapshot.fresh.outcomes
    first, last = since.timestamp() * 1e6, until.timestamp() * 1e6
    files = tuple(
        file
        for file in snapshot.files
        if file.dataset == "outcomes"
        or (
            file.dataset == "predictions"
            and file.model == model
            and file.last_at >= first
            and file.first_at < last
        )
    )
    return snapshot._replace(files=files, fresh=fresh)
