"""On whom answers differ: the segments of features in which more rows do than elsewhere. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.predictions.shadow_report import Segment

__all__ = ["segments_of"]

_MOST_SEGMENTS = 10
_MOST_VALUES = 20
_FEW_VALUES = 10
_LEAST_ROWS = 20
_BEYOND_CHANCE = 3.0
"""So many standard deviations more rows differ in a segment that is named without having been declared."""

Chosen = npt.NDArray[np.bool_]


def segments_of(
    features: Mapping[str, Sequence[Any]], differs: Sequence[bool], slices: Collection[str] = ()
) -> list[Segment]:
    """Where rows differ: in every segment of the features in `slices`, or else in those of any feature where
    more do than chance explains. `features` holds each feature's values, a row each, None where missing."""
    marked = np.asarray(differs, dtype=bool)
    if not marked.any():
        return []
    overall = float(marked.mean())
    scored = []
    for name, values in features.items():
        if slices and name not in slices:
            continue
        for value, chosen in _groups(values):
            rows, different = int(chosen.sum()), int(marked[chosen].sum())
            spread = math.sqrt(rows * overall * (1.0 - overall))
            score = (different - rows * overall) / spread if spread else 0.0
            if slices or (rows >= _LEAST_ROWS and score > _BEYOND_CHANCE):
                share = different / rows
                segment = Segment(feature=name, value=value, rows=rows, different=different, share=share)
                scored.append((score, segment))
    scored.sort(key=lambda pair: (-pair[0], pair[1].feature, pair[1].value))
    return [segment for _, segment in scored[: None if slices else _MOST_SEGMENTS]]


def _groups(values: Sequence[Any]) -> Iterator[tuple[str, Chosen]]:
    """The segments of a feature: its most frequent values, or the quarters of its numbers; none of lists."""
    if any(isinstance(value, list) for value in values):
        return
    absent = np.fromiter((_is_missing(value) for value in values), dtype=bool, count=len(values))
    if absent.any() and not absent.all():
        yield "missing", absent
    counted = Counter(value for value in values if not _is_missing(value))
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in counted)
    if is_number and len(counted) > _FEW_VALUES:
        yield from _quarters(np.array([math.nan if _is_missing(value) else value for value in values], float))
        return
    everything = np.fromiter(values, dtype=object, count=len(values))
    for value, _ in sorted(counted.items(), key=lambda pair: -pair[1])[:_MOST_VALUES]:
        yield _text(value), np.asarray(everything == value, dtype=bool)


def _is_missing(value: Any) -> bool:
    return value is None or value != value


def _quarters(numbers: npt.NDArray[np.float64]) -> Iterator[tuple[str, Chosen]]:
    low = -math.inf
    for high in [*dict.fromkeys(np.nanquantile(numbers, [0.25, 0.5, 0.75]).tolist()), math.inf]:
        chosen = (numbers > low) & (numbers <= high)
        if chosen.any():
            above = "" if low == -math.inf else f"above {low:g}"
            to = "" if high == math.inf else f"up to {high:g}"
            yield " ".join(part for part in (above, to) if part), chosen
        low = high


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
