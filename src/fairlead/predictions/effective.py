"""Which records and events count: texts of SQL for the views and for whoever asks about an experiment."""

from __future__ import annotations

__all__ = ["SPLIT_ONLY", "effective_sql"]

SPLIT_ONLY = "source = 'online' AND unit_kind <> 'request'"
"""Which records of an arm of the split count: no copies, and no requests without a unit of their own."""

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
