"""The drifts that are put into streams of flights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairlead.contracts.counts import FieldKey

__all__ = ["ANSWER", "GROSS", "SEEDED", "Seeded", "Values"]

Values = NDArray[Any]

ANSWER = FieldKey("prediction", "")
_HALF = 8.9
"""Half a standard deviation of the temperature, in °F."""


class Seeded(NamedTuple):
    """A drift that is put into the rows of a stream, and within how many rows it has to be found."""

    name: str
    key: FieldKey
    within: int
    drift: Callable[[Values, np.random.Generator], Values]


def _nulls(values: Values, generator: np.random.Generator) -> Values:
    return np.where(generator.random(len(values)) < 0.05, np.nan, values)


def _new_category(values: Values, generator: np.random.Generator) -> Values:
    return np.where(generator.random(len(values)) < 0.02, "ZZ", values)


def _ten_points(values: Values, generator: np.random.Generator) -> Values:
    share = float(np.mean(values == "late"))
    return np.where(generator.random(len(values)) < 0.1 / (1.0 - share), "late", values)


def _half_null(values: Values, generator: np.random.Generator) -> Values:
    return np.where(generator.random(len(values)) < 0.5, np.nan, values)


SEEDED = (
    Seeded(
        "shift of 0.5 σ (temperature)", FieldKey("feature", "temp"), 5_000, lambda values, _: values + _HALF
    ),
    Seeded("nulls surge to 5 % (departure)", FieldKey("feature", "sched_dep_time"), 1_000, _nulls),
    Seeded("new category of 2 % (carrier)", FieldKey("feature", "carrier"), 1_000, _new_category),
    Seeded("unit × 100 (distance)", FieldKey("feature", "distance"), 500, lambda values, _: 100.0 * values),
    Seeded("prior + 10 points (late)", ANSWER, 3_000, _ten_points),
)

GROSS = (
    Seeded("unit × 100 (distance)", FieldKey("feature", "distance"), 0, lambda values, _: 100.0 * values),
    Seeded("nulls surge to 50 % (departure)", FieldKey("feature", "sched_dep_time"), 0, _half_null),
)
