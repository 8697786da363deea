"""Background rows: what a row is explained against, drawn from the reference profile of a version. Pure.

Only the profile's counts are kept of training data, so each field is drawn on its own. That is what the
explained game supposes anyway: it puts values together that were never seen together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Contract, Field
from fairlead.contracts.profile import (
    BINS,
    CategoryProfile,
    FieldProfile,
    ListProfile,
    NumberProfile,
    ReferenceProfile,
)

__all__ = ["BACKGROUND_ROWS", "background_rows"]

BACKGROUND_ROWS = 100

Array = npt.NDArray[np.float64]


def background_rows(
    contract: Contract, profile: ReferenceProfile, generator: np.random.Generator, rows: int = BACKGROUND_ROWS
) -> list[list[Any]]:
    """So many rows in contract order, with the values and the share of nulls that each field had.

    Draws are spread evenly over each field's distribution, which makes a mean over the rows surer than one
    over independent draws. A field of which the profile has no value is null, and null is all it can be
    compared with. Raises KeyError for a field that the profile lacks.
    """
    columns = [_column(field, profile.fields[field.name], generator, rows) for field in contract.inputs]
    return [list(values) for values in zip(*columns, strict=True)]


def _column(field: Field, held: FieldProfile, generator: np.random.Generator, rows: int) -> Sequence[Any]:
    places = (generator.permutation(rows) + generator.random(rows)) / rows
    missing = held.nulls / (held.n + held.nulls) if held.n + held.nulls else 1.0
    empty = places < missing
    inner = (
        np.clip((places - missing) / (1 - missing), 0.0, math.nextafter(1.0, 0.0)) if missing < 1 else places
    )
    if not held.n:
        return [None] * rows
    if isinstance(held, ListProfile):
        values: Sequence[Any] = _lists(field, held, inner, generator)
    elif isinstance(held, CategoryProfile):
        values = _categories(held, inner)
    else:
        values = _numbers(held, inner, whole=field.type == "int")
    return [None if null else value for value, null in zip(values, empty.tolist(), strict=True)]


def _categories(held: CategoryProfile, places: Array) -> list[Any]:
    """The last count is of categories whose names nobody kept: those that have names stand in for them."""
    counts = np.asarray(held.counts[:-1], np.float64)
    if not counts.sum():
        return [None] * places.size
    chosen = np.searchsorted(np.cumsum(counts) / counts.sum(), places, side="right")
    return [held.categories[index] for index in np.minimum(chosen, counts.size - 1).tolist()]


def _numbers(held: NumberProfile, places: Array, *, whole: bool) -> list[Any]:
    """Few distinct values have a bin each, which begins at the value; in other bins all places are alike."""
    low = held.min if held.min is not None else held.edges[0]
    high = held.max if held.max is not None else held.edges[-1]
    bounds = np.clip(np.array([low, *held.edges, high]), low, high)
    counts = np.asarray(held.counts, np.float64)
    ends = np.cumsum(counts) / counts.sum()
    bins = np.minimum(np.searchsorted(ends, places, side="right"), counts.size - 1)
    starts = ends[bins] - counts[bins] / counts.sum()
    within = (places - starts) / np.maximum(ends[bins] - starts, 1e-300)
    if len(held.edges) - 1 < BINS:
        within = np.where((bins > 0) & (bins < counts.size - 1), 0.0, within)
    within = np.clip(within, 0.0, 1.0)
    # Both ends are weighed apart: their difference may be beyond what a float holds.
    values = bounds[bins] * (1 - within) + bounds[bins + 1] * within
    values = np.clip(values, low, high)
    if not whole:
        return list(values.tolist())
    return [int(max(math.floor(value), math.ceil(low))) for value in values.tolist()]


def _lists(field: Field, held: ListProfile, places: Array, generator: np.random.Generator) -> list[list[Any]]:
    size = field.shape[0]
    lengths = [size] * places.size if size > 0 else _numbers(held.lengths, places, whole=True)
    total = sum(lengths)
    if not held.elements.n:
        return [[] for _ in lengths]
    elements = iter(_numbers(held.elements, generator.random(total), whole=field.type == "int"))
    return [[next(elements) for _ in range(length)] for length in lengths]
