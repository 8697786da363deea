"""Figures of the demo, all from the prediction log and the outcomes, by SQL and a few lines of arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

__all__ = ["BY_ARM", "Z95", "ArmFigures", "arm_figures", "brier_difference"]

Z95 = 1.959964
"""The 97.5 % quantile of the normal distribution: half the width of a 95 % interval in deviations."""

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
       sum(power(probability - label, 2)) AS errors, sum(power(probability - label, 4)) AS squares,
       quantile_cont(latency_ms, 0.5) AS p50, quantile_cont(latency_ms, 0.99) AS p99
FROM judged GROUP BY arm, version ORDER BY arm
"""


class ArmFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm, or several together, did at one generation: counts and sums, so that arms add.

    `errors` sums the squared error of the probability over the rows with a label, `squares` its square.
    """

    arm: str
    version: str
    rows: int
    labels: int
    cached: int
    flagged: int
    positives: int
    hits: int
    errors: float
    squares: float
    p50_ms: float = math.nan
    p99_ms: float = math.nan

    @property
    def precision(self) -> float:
        """Share of those predicted to buy again who did."""
        return self.hits / self.positives if self.positives else math.nan

    @property
    def brier(self) -> float:
        """The Brier score: the mean squared error of the probability. Less is better."""
        return self.errors / self.labels if self.labels else math.nan

    @property
    def variance(self) -> float:
        """The variance of the Brier score as an estimate: that of one row over the number of rows."""
        if self.labels < 2:
            return math.inf
        spread = (self.squares - self.errors**2 / self.labels) / (self.labels - 1)
        return spread / self.labels

    def __add__(self, other: ArmFigures) -> ArmFigures:
        """Both arms together, under this one's name; latencies do not add."""
        return ArmFigures(
            arm=self.arm,
            version=self.version,
            rows=self.rows + other.rows,
            labels=self.labels + other.labels,
            cached=self.cached + other.cached,
            flagged=self.flagged + other.flagged,
            positives=self.positives + other.positives,
            hits=self.hits + other.hits,
            errors=self.errors + other.errors,
            squares=self.squares + other.squares,
        )


def brier_difference(one: ArmFigures, other: ArmFigures) -> tuple[float, float]:
    """The difference of the Brier scores, and half the width of its 95 % interval (normal approximation)."""
    return one.brier - other.brier, Z95 * math.sqrt(one.variance + other.variance)


def arm_figures(rows: Sequence[dict[str, Any]]) -> dict[str, ArmFigures]:
    """The answer to `BY_ARM` by arm."""
    return {
        str(row["arm"]): ArmFigures(
            arm=str(row["arm"]),
            version=str(row["version"]),
            rows=int(row["n"]),
            labels=int(row["labels"]),
            cached=int(row["cached"]),
            flagged=int(row["flagged"]),
            positives=int(row["positives"] or 0),
            hits=int(row["hits"] or 0),
            errors=float(row["errors"] or 0.0),
            squares=float(row["squares"] or 0.0),
            p50_ms=float(row["p50"]),
            p99_ms=float(row["p99"]),
        )
        for row in rows
    }
