"""What the prediction log says of a rollout's arms since its step began: the units that they met, and what
became of them (`outcome_sums.py`). The log lags a little behind the counters; nothing that has to be quick
rests on it.
"""

from __future__ import annotations

from datetime import datetime

from fairlead.predictions.outcomes import LABEL
from fairlead.rollouts.moves import CANARY, CONTROL
from fairlead.rollouts.observation import Outcome
from fairlead.rollouts.outcome_sums import QUALITY, Ask, Whom, arm_of, names_told, quoted, sums_of
from fairlead.rollouts.spec import Metric
from fairlead.rollouts.states import Rollout

__all__ = ["known_outcomes", "outcome_of", "seen_of", "units_of"]

_SEEN = """
    model = {model} AND generation = {generation} AND source = 'online' AND "at" >= TIMESTAMPTZ '{since}'
    AND arm IN ('{canary}', '{control}')
"""
_UNITS = """
SELECT arm, count(DISTINCT unit) AS units FROM predictions
WHERE {seen} AND unit_kind <> 'request' GROUP BY arm
"""
_MET = """
exposed AS (
  SELECT unit, arg_min(arm, ("at", prediction_id)) AS arm, min("at") AS first FROM predictions
  WHERE {seen} GROUP BY unit
)
"""


def units_of(ask: Ask, rollout: Rollout) -> dict[str, int]:
    """The different units that canary and control have met since the step began; requests without a unit of
    their own do not count."""
    rows = ask(_UNITS.format(seen=seen_of(rollout)))
    return {str(row["arm"]): int(row["units"]) for row in rows}


def outcome_of(ask: Ask, rollout: Rollout, metric: Metric, now: datetime) -> Outcome | None:
    """What became of both arms by one metric; None while one of them has nothing.

    A unit is exposed by its first request since the step began. One without a unit of its own is drawn by its
    request id, and so counts as a unit: who sends no units is judged, too.
    """
    seen = seen_of(rollout)
    whom = Whom(
        model=rollout.model,
        exposed=_MET.format(seen=seen),
        by=("arm",),
        asked="source = 'online'",
        records=seen,
    )
    rows = sums_of(ask, whom, metric.name, metric.name, metric.window, now)
    sums = {str(row["arm"]): row for row in rows if row["n"]}
    if set(sums) != {CANARY, CONTROL}:
        return None
    ratio = metric.name in QUALITY
    alike = all(row["yes_or_no"] for row in sums.values())
    control, canary = (arm_of(sums[arm], ratio=ratio, yes_or_no=alike) for arm in (CONTROL, CANARY))
    return Outcome(control=control, canary=canary)


def known_outcomes(ask: Ask, model: str) -> set[str]:
    """The names by which something can be measured of the model: quality, and outcomes that have come."""
    return {*QUALITY, *(names_told(ask, model) - {LABEL})}


def seen_of(rollout: Rollout) -> str:
    """SQL for the records of both arms since the rollout's step began."""
    return _SEEN.format(
        model=quoted(rollout.model),
        generation=int(rollout.generation or 0),
        since=rollout.entered_at.isoformat(),
        canary=CANARY,
        control=CONTROL,
    )
