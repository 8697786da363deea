"""What tells hours of the log from the same hours when their labels were others: two counts for each."""

from __future__ import annotations

from datetime import UTC, datetime

from fairlead.predictions.effective import SAME_REQUEST, SAME_UNIT
from fairlead.predictions.known import ANSWERED, LABELS, counted_by, narrowed
from fairlead.predictions.labelled_counts import LabelMark
from fairlead.predictions.query import Queries

__all__ = ["label_marks"]


_SQL = f"""
WITH asked AS ({ANSWERED}), events AS ({LABELS}),
by_request AS (
    SELECT model, request_id, row, count(*) AS n FROM events WHERE request_id IS NOT NULL GROUP BY ALL
), by_unit AS (
    SELECT model, request_id, unit, count(*) AS n FROM events WHERE request_id IS NULL GROUP BY ALL
)
SELECT floor(epoch(p."at") / 3600)::BIGINT AS hour, count(*) AS answers,
    coalesce(sum(r.n), 0)::BIGINT + coalesce(sum(u.n), 0)::BIGINT AS events
FROM asked p
    LEFT JOIN by_request r ON {SAME_REQUEST.replace("o.", "r.")}
    LEFT JOIN by_unit u ON {SAME_UNIT.replace("o.", "u.")}
GROUP BY hour ORDER BY hour
"""


def label_marks(
    queries: Queries, model: str, version: str, since: datetime, until: datetime
) -> list[LabelMark]:
    """The hours from `since` to `until` with answers that are counted as `labelled` counts them."""
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        held = narrowed(snapshot, model, since, until)
        rows = counted_by(queries, held, _SQL, [model, since, until, version])
    return [
        LabelMark(datetime.fromtimestamp(3600 * row["hour"], UTC), row["answers"], row["events"])
        for row in rows
    ]
