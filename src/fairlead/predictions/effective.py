"""Which records and events count: texts of SQL for the views and for whoever asks about an experiment."""

from __future__ import annotations

__all__ = ["SAME_REQUEST", "SAME_UNIT", "SPLIT_ONLY", "effective_sql", "labelled_sql"]

SPLIT_ONLY = "source = 'online' AND unit_kind <> 'request'"
"""Which records of an arm of the split count: no copies, and no requests without a unit of their own."""

SAME_REQUEST = "p.model = o.model AND p.request_id = o.request_id AND p.row = o.row"
SAME_UNIT = "p.model = o.model AND p.unit = o.unit AND o.request_id IS NULL"
"""Whether an outcome `o` belongs to a prediction `p`: by its request and row, or by its unit."""

_ORDER = "received_at, mode <> 'set', \"at\", coalesce(value, 0), coalesce(text, '')"


def effective_sql(events: str, key: str) -> str:
    """The SQL of `outcomes.effective` over a table of events, one row per `key`: the first of repeated ids
    counts, then everything since the last set."""
    return f"""
WITH numbered AS (
    SELECT *, row_number() OVER (PARTITION BY {key}, outcome_id ORDER BY {_ORDER}) AS delivery
    FROM {events}
), counted AS (
    SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {_ORDER}) AS position
    FROM numbered WHERE outcome_id IS NULL OR delivery = 1
), placed AS (
    SELECT *, coalesce(max(position) FILTER (mode = 'set') OVER (PARTITION BY {key}), 0) AS last_set
    FROM counted
), folded AS (
    SELECT {key},
        max(text) FILTER (position = last_set) AS text,
        coalesce(max(value) FILTER (position = last_set), 0) AS start,
        coalesce(fsum(value) FILTER (position > last_set), 0) AS added,
        arg_max("at", position) AS "at",
        max(received_at) AS received_at,
        count(*) AS events
    FROM placed GROUP BY ALL
)
SELECT {key}, CASE WHEN text IS NULL THEN start + added END AS value, text, "at", received_at, events
FROM folded
"""


def labelled_sql(predictions: str, outcomes: str) -> str:
    """The SQL of a table of predictions with `label`, `label_text`, `label_at`, `label_received_at` and
    `correct`: each with its label from a table of effective outcomes. What was said of a request comes before
    what was said of a unit."""
    return f"""
WITH labels AS (SELECT * FROM {outcomes} WHERE metric = 'label'), joined AS (
    SELECT p.*,
        coalesce(r.value, CASE WHEN r.text IS NULL THEN u.value END) AS label,
        coalesce(r.text, CASE WHEN r.value IS NULL THEN u.text END) AS label_text,
        coalesce(r."at", u."at") AS label_at,
        coalesce(r.received_at, u.received_at) AS label_received_at,
        json_extract_string(p.prediction, '$') AS answered
    FROM {predictions} p
    LEFT JOIN labels r ON {SAME_REQUEST.replace("o.", "r.")}
    LEFT JOIN labels u ON {SAME_UNIT.replace("o.", "u.")}
)
SELECT * EXCLUDE (answered), CASE
    WHEN label_text IS NOT NULL THEN answered = label_text
    WHEN answered IN ('true', 'false') THEN (answered = 'true')::INT = label
    ELSE try_cast(answered AS DOUBLE) = label
END AS correct FROM joined
"""
