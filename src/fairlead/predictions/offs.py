"""How far labels lay from what was answered, answer by answer: the scores of conformal prediction, from which
intervals and sets learn how far to reach (`contracts/adaptive.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from fairlead.predictions.known import KNOWN, counted_by, narrowed
from fairlead.predictions.labelled import PROBABILITIES, class_of_label
from fairlead.predictions.query import Queries

__all__ = ["MOST_OFFS", "offs"]

MOST_OFFS = 20_000

_NEWEST = """ORDER BY "at" DESC, prediction_id DESC LIMIT $5"""
_NUMBERS = f"""{KNOWN}
SELECT abs(try_cast(prediction AS DOUBLE) - label) AS off FROM known
WHERE label IS NOT NULL AND isfinite(try_cast(prediction AS DOUBLE)) {_NEWEST}
"""
_CLASSES = f"""{KNOWN}, told AS (
    SELECT "at", prediction_id, {{label}} AS label, {PROBABILITIES} AS shares FROM known
    WHERE probabilities IS NOT NULL
)
SELECT 1.0 - shares[label] AS off FROM told WHERE label IS NOT NULL {_NEWEST}
"""


def offs(
    queries: Queries,
    model: str,
    version: str,
    since: datetime,
    until: datetime,
    *,
    kind: Literal["class", "number"],
    classes: Sequence[str] = (),
    limit: int = MOST_OFFS,
) -> list[float | None]:
    """Of the version's labelled answers of that time, the newest `limit` of them in the order of time: by how
    much the number was off, or one minus the probability that the label's class was given. None for a label
    that is none of the classes: nothing that could be said would hold it."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        held = narrowed(snapshot, model, since, until)
        sql = _NUMBERS if kind == "number" else _CLASSES.format(label=class_of_label(classes))
        rows = counted_by(queries, held, sql, [model, since, until, version, limit])
    return [row["off"] for row in reversed(rows)]
