"""The reference profile: what the training data looked like, small enough to travel with a version.

Its bins are what live traffic is later counted on. Counts are plain sums: those of two halves of the rows add
up to those of the whole, so windows of any length can be made from shorter ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Contract, Field, Output, Scalar
from fairlead.contracts.field_counts import FieldCounts, FieldKey
from fairlead.contracts.table import Column, Table
from fairlead.errors import InvalidReference

__all__ = [
    "REFERENCE_FILE",
    "CategoryProfile",
    "FieldProfile",
    "ListProfile",
    "NumberProfile",
    "PredictionProfile",
    "ReferenceProfile",
    "SliceCounts",
    "answers_profile",
    "count",
    "field_profile",
    "profile",
]

Array = npt.NDArray[Any]

REFERENCE_FILE = "reference.json"
"""The profile's name among the files of a version."""

BINS = 20
TOP_CATEGORIES = 100
QUANTILES = (1, 5, 25, 50, 75, 95, 99)


class NumberProfile(msgspec.Struct, frozen=True, kw_only=True, tag="number"):
    """Numbers, counted in bins.

    A value x falls into bin i where `edges[i-1] <= x < edges[i]`: bin 0 lies below all edges and the last one
    above, so there is one count more than edges. The last edge is the float after the sample's maximum, so
    both outer bins are empty for the sample itself. Moments and quantiles are None where there is no value or
    the result is no finite number; quantiles are values of the sample (Hyndman and Fan's first definition).
    """

    n: int
    nulls: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    quantiles: dict[str, float]


class CategoryProfile(msgspec.Struct, frozen=True, kw_only=True, tag="category"):
    """Text, booleans or classes: one count per category, and last the count of all others."""

    n: int
    nulls: int
    categories: tuple[Scalar, ...]
    counts: tuple[int, ...]


class ListProfile(msgspec.Struct, frozen=True, kw_only=True, tag="list"):
    """Lists of numbers: how long they are, and all their numbers together."""

    n: int
    nulls: int
    lengths: NumberProfile
    elements: NumberProfile


FieldProfile = NumberProfile | CategoryProfile | ListProfile


class PredictionProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The model's own answers to the reference rows.

    `scores` holds the probabilities of each class in class order, or the best score of each ranking, whose
    `values` are the ids in first place.
    """

    values: FieldProfile
    scores: tuple[NumberProfile, ...] = ()


class SliceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one slice, counted on the bins of all: each field and answer under its key."""

    rows: int
    fields: tuple[tuple[FieldKey, FieldCounts], ...]


class ReferenceProfile(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of a reference table under one contract, fields in contract order.

    `slices` has each slice that the contract declares and that has rows, by its name ("country=DE"); unset
    where none is declared, or the profile was made before slices were counted.
    """

    contract_id: str
    rows: int
    fields: dict[str, FieldProfile]
    prediction: PredictionProfile | None = None
    slices: dict[str, SliceCounts] | msgspec.UnsetType = msgspec.UNSET


def profile(
    table: Table,
    contract: Contract,
    *,
    predictions: Sequence[Any] | None = None,
    probabilities: Sequence[Sequence[float]] | Array | None = None,
    like: ReferenceProfile | None = None,
) -> ReferenceProfile:
    """The reference profile of the table's columns that the contract names.

    `predictions` are the model's answers to the rows as the contract's output describes them, and
    `probabilities` has shape [rows, classes]. `like` lends its bins, so that two profiles can be compared.
    Raises `InvalidReference` when the table does not fit the contract.
    """
    lent = like.fields if like is not None else {}
    fields = {
        field.name: field_profile(field, table.column(field.name), lent.get(field.name))
        for field in contract.inputs
    }
    answers = None
    if predictions is not None:
        if len(predictions) != table.rows:
            raise InvalidReference(f"{len(predictions)} predictions were given for {table.rows} rows.")
        lent_answers = like.prediction if like is not None else None
        answers = answers_profile(contract.output, predictions, probabilities, lent_answers)
    return ReferenceProfile(contract_id=contract.id, rows=table.rows, fields=fields, prediction=answers)


def count(held: FieldProfile, values: Any, null: Array | None = None) -> npt.NDArray[np.int64]:
    """How many of the values fall into each bin or category of the profile; nulls and NaN are not counted.

    For lists it is their lengths that are counted. As long as `counts`; adds up over any split of the rows.
    """
    if isinstance(held, CategoryProfile):
        return _count_categories(held.categories, _present(values, null))
    if isinstance(held, ListProfile):
        return count(held.lengths, np.array([len(value) for value in _present(values, null)], np.float64))
    numbers = np.asarray(values, dtype=np.float64)
    return _count_numbers(held.edges, numbers if null is None else numbers[~null])


# --- fields -------------------------------------------------------------------------------------------------


def field_profile(field: Field, column: Column, like: FieldProfile | None = None) -> FieldProfile:
    """The profile of one column, on the bins of `like` where given. Raises `InvalidReference` when the column
    does not fit the field."""
    number = column.type in ("float", "int")
    if number != (field.type in ("float", "int")) or bool(field.shape) != bool(column.shape):
        held = f"a list of {column.type}" if column.shape else column.type
        stated = f"a list of {field.type}" if field.shape else field.type
        raise InvalidReference(
            f"Column {field.name!r} is {held} and the contract says {stated}.",
            remedy="Correct the contract, or the column.",
        )
    nulls = int(column.null.sum())
    if column.shape:
        return _list_profile(list(column.present), nulls, like if isinstance(like, ListProfile) else None)
    if number and field.categories is None:
        return _number_profile(column.present, nulls, like if isinstance(like, NumberProfile) else None)
    fixed = field.categories if field.on_category == "reject" else None
    values = column.present.tolist()
    return _category_profile(values, nulls, fixed, like if isinstance(like, CategoryProfile) else None)


def _number_profile(values: Array, nulls: int, like: NumberProfile | None = None) -> NumberProfile:
    numbers = np.asarray(values, dtype=np.float64)
    edges = like.edges if like is not None else _edges(numbers)
    if not numbers.size:
        return NumberProfile(
            n=0,
            nulls=nulls,
            edges=edges,
            counts=(0,) * (len(edges) + 1),
            mean=None,
            std=None,
            min=None,
            max=None,
            quantiles={},
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(numbers.mean()), float(numbers.std())
    found = np.quantile(numbers, [share / 100 for share in QUANTILES], method="inverted_cdf").tolist()
    return NumberProfile(
        n=numbers.size,
        nulls=nulls,
        edges=edges,
        counts=tuple(_count_numbers(edges, numbers).tolist()),
        mean=mean if math.isfinite(mean) else None,
        std=std if math.isfinite(std) else None,
        min=float(numbers.min()),
        max=float(numbers.max()),
        quantiles={f"p{share}": value for share, value in zip(QUANTILES, found, strict=True)},
    )


def _edges(numbers: Array) -> tuple[float, ...]:
    """At most 21 edges of at most 20 bins: the distinct values when they are few, else quantiles."""
    if not numbers.size:
        return ()
    lower = np.unique(numbers)
    if lower.size > BINS:
        steps = np.arange(BINS) / BINS
        lower = np.unique(np.quantile(numbers, steps, method="higher"))
    beyond = math.nextafter(float(numbers.max()), math.inf)
    return (*lower.tolist(), beyond) if math.isfinite(beyond) else tuple(lower.tolist())


def _count_numbers(edges: tuple[float, ...], numbers: Array) -> npt.NDArray[np.int64]:
    numbers = numbers[~np.isnan(numbers)]
    bins = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="right")
    return np.bincount(bins, minlength=len(edges) + 1).astype(np.int64)


def _category_profile(
    values: list[Any],
    nulls: int,
    stated: tuple[Scalar, ...] | None = None,
    like: CategoryProfile | None = None,
) -> CategoryProfile:
    """`stated` categories come first, in their order; then the sample's, the most frequent first."""
    if like is not None:
        categories = like.categories
    else:
        frequent = sorted(Counter(values).items(), key=lambda item: (-item[1], str(item[0])))
        known = dict.fromkeys([*(stated or ()), *(value for value, _ in frequent)])
        categories = tuple(known)[: max(TOP_CATEGORIES, len(stated or ()))]
    counts = tuple(_count_categories(categories, values).tolist())
    return CategoryProfile(n=len(values), nulls=nulls, categories=categories, counts=counts)


def _count_categories(categories: tuple[Scalar, ...], values: list[Any]) -> npt.NDArray[np.int64]:
    seen = Counter(values)
    known = [seen.get(category, 0) for category in categories]
    return np.array([*known, len(values) - sum(known)], dtype=np.int64)


def _list_profile(lists: list[Any], nulls: int, like: ListProfile | None = None) -> ListProfile:
    lengths = np.array([len(value) for value in lists], dtype=np.float64)
    elements = np.concatenate([np.asarray(value, np.float64) for value in lists]) if lists else lengths
    return ListProfile(
        n=len(lists),
        nulls=nulls,
        lengths=_number_profile(lengths, 0, like.lengths if like is not None else None),
        elements=_number_profile(elements, 0, like.elements if like is not None else None),
    )


def _present(values: Any, null: Array | None) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if null is not None:
        listed = [value for value, missing in zip(listed, null.tolist(), strict=True) if not missing]
    return [value for value in listed if value is not None]


# --- the model's answers ------------------------------------------------------------------------------------


def answers_profile(
    output: Output,
    predictions: Sequence[Any],
    probabilities: Sequence[Sequence[float]] | Array | None = None,
    like: PredictionProfile | None = None,
) -> PredictionProfile:
    """The profile of answers as `output` describes them, with their probabilities, of shape [rows, classes];
    on the bins of `like` where given."""
    lent: Any = like.values if like is not None else None
    lent_scores = like.scores if like is not None else ()
    match output.kind:
        case "class":
            values = _category_profile(list(predictions), 0, output.classes, lent)
            table = np.empty((0, 0)) if probabilities is None else np.asarray(probabilities, np.float64)
            return PredictionProfile(values=values, scores=_score_profiles(table.T, lent_scores))
        case "number":
            return PredictionProfile(values=_number_profile(np.asarray(predictions), 0, lent))
        case "vector":
            return PredictionProfile(values=_list_profile(list(predictions), 0, lent))
        case "ranking":
            first = [ranking[0] for ranking in predictions if ranking]
            ids = _category_profile(
                [entry["id"] for entry in first], len(predictions) - len(first), like=lent
            )
            scores = np.array([[entry["score"] for entry in first]], dtype=np.float64)
            return PredictionProfile(values=ids, scores=_score_profiles(scores, lent_scores))


def _score_profiles(rows: Array, like: tuple[NumberProfile, ...]) -> tuple[NumberProfile, ...]:
    if like and len(like) == len(rows):
        return tuple(_number_profile(row, 0, held) for row, held in zip(rows, like, strict=True))
    return tuple(_number_profile(row, 0) for row in rows)
