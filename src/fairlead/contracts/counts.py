"""What came in one field: counts on the bins of a reference profile, and moments. Two of the same bins add.

Live traffic is counted this way minute by minute, so that any window is a sum of shorter ones and those of
two machines merge exactly. Missing values, values of another type, and categories that nobody knew are
counted in places of their own: a surge of any of them is a shift of the field's distribution.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fairlead.contracts.field_counts import FieldCounts, FieldKey
from fairlead.contracts.profile import (
    CategoryProfile,
    FieldProfile,
    ListProfile,
    NumberProfile,
    PredictionProfile,
    ReferenceProfile,
    count,
)

__all__ = [
    "MOST_NEW",
    "Bins",
    "FieldCounts",
    "FieldKey",
    "bins_of",
    "merge",
    "reference_counts",
    "tally",
]

Bins = NumberProfile | CategoryProfile
"""What values are counted on: the edges or categories of a profile."""

MOST_NEW = 20
"""How many new categories are kept by name."""


def bins_of(profile: ReferenceProfile, classes: Iterable[object] = ()) -> dict[FieldKey, Bins]:
    """The bins of every field of a profile and of the answers in it. `classes` names the scores in order."""
    found: dict[FieldKey, Bins] = {}
    for name, held in profile.fields.items():
        found |= _parts("feature", name, held)
    if profile.prediction is not None:
        found |= _answers(profile.prediction, tuple(str(name) for name in classes))
    return found


def reference_counts(bins: Bins) -> FieldCounts:
    """The counts of the profile's own sample. Of categories beyond its list the names are not known."""
    if isinstance(bins, CategoryProfile):
        return FieldCounts(counts=bins.counts, nulls=bins.nulls)
    spread = (bins.std or 0.0) ** 2 * bins.n
    return FieldCounts(
        counts=bins.counts,
        nulls=bins.nulls,
        mean=bins.mean or 0.0,
        m2=spread if math.isfinite(spread) else 0.0,
        low=bins.min,
        high=bins.max,
    )


def tally(bins: Bins, values: Any, *, nulls: int = 0, misfits: int = 0) -> FieldCounts:
    """The counts of present values: numbers as an array (those that are not finite are misfits), or
    categories in any iterable."""
    if isinstance(bins, CategoryProfile):
        listed = list(values)
        found = count(bins, listed)
        known = set(bins.categories)
        unknown = Counter(str(value) for value in listed if value not in known) if found[-1] else Counter()
        return FieldCounts(
            counts=tuple(found.tolist()),
            nulls=nulls,
            misfits=misfits,
            new=dict(unknown.most_common(MOST_NEW)),
        )
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    misfits += numbers.size - finite.size
    counts = tuple(count(bins, finite).tolist())
    if not finite.size:
        return FieldCounts(counts=counts, nulls=nulls, misfits=misfits)
    mean, m2 = _moments(finite)
    return FieldCounts(
        counts=counts,
        nulls=nulls,
        misfits=misfits,
        mean=mean,
        m2=m2,
        low=float(finite.min()),
        high=float(finite.max()),
    )


def merge(parts: Iterable[FieldCounts]) -> FieldCounts:
    """The counts of all parts together. The moments are merged as Chan, Golub and LeVeque (1983) do. The
    names of new categories are exact while there are at most `MOST_NEW` of them.

    Raises ValueError without parts, or when they lie on different bins.
    """
    listed = list(parts)
    if len({len(part.counts) for part in listed}) != 1:
        raise ValueError("counts on different bins do not add")
    mean = m2 = 0.0
    n = 0
    new: Counter[str] = Counter()
    for part in listed:
        new.update(part.new)
        if part.n:
            step = part.mean - mean
            both = n + part.n
            mean += step * part.n / both
            m2 += part.m2 + step * step * n * part.n / both
            n = both
    table = np.array([part.counts for part in listed], np.int64)
    lows = [part.low for part in listed if part.low is not None]
    highs = [part.high for part in listed if part.high is not None]
    return FieldCounts(
        counts=tuple(table.sum(axis=0).tolist()),
        nulls=sum(part.nulls for part in listed),
        misfits=sum(part.misfits for part in listed),
        mean=mean if math.isfinite(mean) else 0.0,
        m2=m2 if math.isfinite(m2) else 0.0,
        low=min(lows, default=None),
        high=max(highs, default=None),
        new=dict(new.most_common(MOST_NEW)),
    )


def _parts(part: Literal["feature", "prediction"], name: str, held: FieldProfile) -> Mapping[FieldKey, Bins]:
    if isinstance(held, ListProfile):
        return {FieldKey(part, name): held.lengths, FieldKey("elements", name): held.elements}
    return {FieldKey(part, name): held}


def _answers(held: PredictionProfile, classes: tuple[str, ...]) -> dict[FieldKey, Bins]:
    found = dict(_parts("prediction", "", held.values))
    named = classes if len(classes) == len(held.scores) else tuple(map(str, range(len(held.scores))))
    if len(held.scores) == 1 and not classes:
        named = ("",)
    return found | {FieldKey("score", name): scores for name, scores in zip(named, held.scores, strict=True)}


def _moments(finite: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and sum of squared deviations; 0 where they are beyond what a float holds."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(finite.mean())
        m2 = float(np.square(finite - mean).sum())
    if not math.isfinite(mean) or not math.isfinite(m2):
        return 0.0, 0.0
    return mean, m2
