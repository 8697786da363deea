"""An experiment's records in portions: for the audit of its assignments, and for the export of its exposures.

A portion holds the units whose hash falls into it, so that each answer is of bounded size and all of them
together are whole.
"""

from __future__ import annotations

from typing import Any

from fairlead.predictions.query import Queries

__all__ = ["assignments", "exposures"]

_ASSIGNMENTS = """
SELECT generation, source, unit, arm, role, assigned_version AS version, count(*) AS records,
    min(request_id) AS request_id
FROM predictions WHERE model = $1 AND experiment = $2 AND hash(coalesce(unit, '')) % $4 = $3
GROUP BY ALL
"""
_EXPOSURES = """
SELECT unit, model, experiment, arm, version, first_exposure_at, generation, last_exposure_at, requests, arms
FROM exposures WHERE model = $1 AND experiment = $2 AND hash(unit) % $4 = $3
ORDER BY first_exposure_at, unit
"""


def assignments(queries: Queries, model: str, experiment: str, part: int, parts: int) -> list[dict[str, Any]]:
    """What the gateways wrote down as assigned: `generation`, `source`, `unit`, `arm`, `role` and `version`,
    how many `records` say so, and the `request_id` of one."""
    return _rows(queries, _ASSIGNMENTS, "predictions", model, experiment, part, parts)


def exposures(queries: Queries, model: str, experiment: str, part: int, parts: int) -> list[dict[str, Any]]:
    """The rows of the table `exposures`, those of a portion in order of time."""
    return _rows(queries, _EXPOSURES, "exposures", model, experiment, part, parts)


def _rows(queries: Queries, sql: str, table: str, *parameters: Any) -> list[dict[str, Any]]:
    queries.ingest.catch_up()
    with queries.ingest.snapshot() as snapshot:
        found: list[dict[str, Any]] = queries.trusted(sql, list(parameters), [table], snapshot).to_pylist()
    return found
