"""Figures of the demo, all from the prediction log and the outcomes, by SQL and a few lines of arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["BY_ARM", "ArmFigures", "arm_figures", "wilson"]

BY_ARM = """
WITH judged AS (
  SELECT arm, served_version AS version, cached, flags IS NOT NULL AS flagged, label,
         latency_ms,
         prediction::INTEGER AS predicted, (probabilities->>'$."1"')::DOUBLE AS probability
  FROM labelled
  WHERE model = '{model}' AND generation = {generation} AND status = 'ok'
)
SELECT arm, version, count(*) AS n, count(label) AS labels, sum(cached::INTEGER) AS cached,
       sum(flagged::INTEGER) AS flagged, sum(predicted) AS positives,
       sum(CASE WHEN predicted = 1 AND label = 1 THEN 1 ELSE 0 END) AS hits,
       avg(power(probability - label, 2)) AS brier,
       stddev_samp(power(probability - label, 2)) AS brier_deviation,
       quantile_cont(latency_ms, 0.5) AS p50, quantile_cont(latency_ms, 0.99) AS p99
FROM judged GROUP BY arm, version ORDER BY arm
"""


class ArmFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm did at one generation.

    `brier` is the mean squared error of the probability (less is better), `brier_margin` half the width of
    its 95 % interval.
    """

    arm: str
    version: str
    rows: int
    labels: int
    cached: int
    flagged: int
    positives: int
    hits: int
    brier: float
    brier_margin: float
    p50_ms: float
    p99_ms: float

    @property
    def precision(self) -> float:
        """Share of those predicted to buy again who did."""
        return self.hits / self.positives if self.positives else math.nan


def arm_figures(rows: Sequence[dict[str, Any]]) -> dict[str, ArmFigures]:
    """The answer to `BY_ARM` by arm."""
    found = {}
    for row in rows:
        labels = int(row["labels"])
        deviation = float(row["brier_deviation"] or 0.0)
        found[str(row["arm"])] = ArmFigures(
            arm=str(row["arm"]),
            version=str(row["version"]),
            rows=int(row["n"]),
            labels=labels,
            cached=int(row["cached"]),
            flagged=int(row["flagged"]),
            positives=int(row["positives"] or 0),
            hits=int(row["hits"] or 0),
            brier=float(row["brier"]) if row["brier"] is not None else math.nan,
            brier_margin=1.96 * deviation / math.sqrt(labels) if labels else math.inf,
            p50_ms=float(row["p50"]),
            p99_ms=float(row["p99"]),
        )
    return found


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927); (0, 1) without observations."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)
