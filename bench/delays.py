"""How long it took until something was found, over several runs."""

from __future__ import annotations

import math
import statistics

__all__ = ["told"]


def told(delays: list[float]) -> dict[str, float | None]:
    """Median and worst, None where that is one that never was found, and how many those are."""
    middle, worst = statistics.median(delays), max(delays)
    return {
        "median": middle if math.isfinite(middle) else None,
        "worst": worst if math.isfinite(worst) else None,
        "missed": sum(not math.isfinite(delay) for delay in delays),
    }
