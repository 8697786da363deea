"""What the prediction log says of a rollout's arms: the units that they met, and what became of them.

Texts of SQL over `predictions/views.py`, and how their answers are read. The log lags a little behind the
counters; nothing that has to be quick rests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from fairlead.experiments.aggregates import Mean, Proportion
from fairlead.rollouts.moves import CANARY, CONTROL
from fairlead.rollouts.observation import Outcome
from fairlead.rollouts.spec import Metric
from fairlead.rollouts.states import Rollout

__all__ = ["QUALITY", "Ask", "known_outcomes", "outcome_of", "quoted", "seen_of", "units_of"]

Ask = Callable[[str], Sequence[Mapping[str, Any]]]
"""Answers a query with its rows."""

QUALITY = {
    "accuracy": "CASE WHEN correct THEN 1 ELSE 0 END",
    "brier": """power(1 - coalesce((probabilities->>('$."' || coalesce(label_text,
        CAST(CAST(label AS BIGINT) AS VARCHAR)) || '"'))::DOUBLE, 0), 2)""",
    "absolute_error": "abs(try_cast(prediction::VARCHAR AS DOUBLE) - label)",
}
"""How well a prediction met its label: a number for each row that has one. `brier` is the squared miss of the
probability that was given to what came true."""

_SEEN = """
    model = {model} AND generation = {generation} AND source = 'online' AND "at" >= TIMESTAMPTZ '{since}'
    AND arm IN ('{canary}', '{control}')
"""
_UNITS = """
SELECT arm, count(DISTINCT unit) AS units FROM predictions
WHERE {seen} AND unit_kind <> 'request' GROUP BY arm
"""
_QUALITY = """
WITH judged AS (SELECT arm, {value} AS value FROM labelled WHERE {seen} AND status = 'ok'
                AND (label IS NOT NULL OR label_text IS NOT NULL))
SELECT arm, count(value) AS n, sum(value) AS total, sum(value * value) AS squares,
       coalesce(bool_and(value IN (0, 1)), false) AS yes_or_no
FROM judged GROUP BY arm
"""
_OUTCOME = """
WITH exposed AS (
  SELECT arm, unit, min("at") AS first FROM predictions
  WHERE {seen} GROUP BY arm, unit HAVING min("at") <= TIMESTAMPTZ '{mature}'
), told AS (
  SELECT e.arm, e.unit, o.value FROM exposed e
  JOIN predictions p ON p.arm = e.arm AND p.unit = e.unit
  JOIN outcomes o ON o.model = p.model AND o.request_id = p.request_id AND o.row = p.row
  WHERE {seen_p} AND o.metric = {metric} AND ({window} = 0 OR o."at" <= e.first + INTERVAL {window} SECOND)
  UNION ALL
  SELECT e.arm, e.unit, o.value FROM exposed e
  JOIN outcomes o ON o.model = {model} AND o.unit = e.unit AND o.request_id IS NULL
  WHERE o.metric = {metric} AND o."at" >= e.first
    AND ({window} = 0 OR o."at" <= e.first + INTERVAL {window} SECOND)
), summed AS (
  SELECT e.arm, e.unit, coalesce(sum(t.value), 0) AS value FROM exposed e LEFT JOIN told t USING (arm, unit)
  GROUP BY ALL
)
SELECT arm, count(*) AS n, sum(value) AS total, sum(value * value) AS squares,
       bool_and(value IN (0, 1)) AS yes_or_no
FROM summed GROUP BY arm
"""
_METRICS = "SELECT DISTINCT metric FROM outcomes WHERE model = {model} AND metric <> 'label'"


def units_of(ask: Ask, rollout: Rollout) -> dict[str, int]:
    """The different units that canary and control have met since the step began; requests without a unit of
    their own do not count."""
    rows = ask(_UNITS.format(seen=seen_of(rollout)))
    return {str(row["arm"]): int(row["units"]) for row in rows}


def outcome_of(ask: Ask, rollout: Rollout, metric: Metric, now: datetime) -> Outcome | None:
    """What became of both arms by one metric; None while one of them has nothing.

    An outcome is summed over each unit from its first exposure on, and counts once the unit's window is over.
    """
    if metric.name in QUALITY:
        rows = ask(_QUALITY.format(seen=seen_of(rollout), value=QUALITY[metric.name]))
    else:
        rows = ask(
            _OUTCOME.format(
                seen=seen_of(rollout),
                seen_p=seen_of(rollout, "p."),
                model=quoted(rollout.model),
                metric=quoted(metric.name),
                window=f"{metric.window:.3f}",
                mature=(now - timedelta(seconds=metric.window)).isoformat(),
            )
        )
    sums = {str(row["arm"]): row for row in rows if row["n"]}
    if set(sums) != {CANARY, CONTROL}:
        return None
    alike = all(row["yes_or_no"] for row in sums.values())
    control, canary = (_aggregate(sums[arm], yes_or_no=alike) for arm in (CONTROL, CANARY))
    return Outcome(control=control, canary=canary)


def known_outcomes(ask: Ask, model: str) -> set[str]:
    """The names by which something can be measured of the model: quality, and outcomes that have come."""
    return {*QUALITY, *(str(row["metric"]) for row in ask(_METRICS.format(model=quoted(model))))}


def _aggregate(row: Mapping[str, Any], *, yes_or_no: bool) -> Proportion | Mean:
    if yes_or_no:
        return Proportion(int(row["n"]), int(row["total"]))
    return Mean(int(row["n"]), float(row["total"]), float(row["squares"]))


def seen_of(rollout: Rollout, of: str = "") -> str:
    """SQL for the records of both arms since the rollout's step began; `of` goes before each column."""
    text = _SEEN.format(
        model=quoted(rollout.model),
        generation=int(rollout.generation or 0),
        since=rollout.entered_at.isoformat(),
        canary=CANARY,
        control=CONTROL,
    )
    if not of:
        return text
    for column in ("model", "generation", "source", '"at"', "arm"):
        text = text.replace(f"{column} ", f"{of}{column} ")
    return text


def quoted(value: str) -> str:
    """A text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
