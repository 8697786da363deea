"""What one feature does to numbers that a model computes, found by asking it: a straight line for numbers, a
table for categories. Pure but for the asking."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Field
from fairlead.errors import NotExplainable

__all__ = ["Effect", "Effects", "find_effects", "lookup", "shifted"]

MOST_VALUES = 200
"""So many categories of a feature are asked for."""
_MOST_TABLED = 10
"""Integers with no more distinct values may be categories."""
_UNSEEN = "\x01 nobody has this"
_STRAIGHT = 1e-4
"""What lies off a straight line by no more than this, of what the feature moves, is rounding."""

Array = npt.NDArray[np.float64]
Row = tuple[Any, ...]
Ask = Callable[[Sequence[Row]], Array]
"""The numbers of rows, [rows, numbers]: infinite where they are not known, not-a-number where they are
missing to the model."""


class Effect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The numbers at the places `at`, by the value of one feature: `slopes` times the value plus `offsets`,
    or, where there are `values`, their line of the `table`. `null` and `other`, a category that nobody has
    seen, have lines of their own; without one nothing is known of that. None in `null` is what is missing to
    the model, too."""

    at: tuple[int, ...]
    slopes: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    values: tuple[str | int | float | bool, ...] = ()
    table: tuple[tuple[float, ...], ...] = ()
    null: tuple[float | None, ...] | None = None
    other: tuple[float, ...] | None = None


class Effects(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What all features do beside those of the row `centre`, whose own numbers are `numbers`."""

    centre: Row
    numbers: Array
    effects: tuple[Effect, ...]


def find_effects(fields: Sequence[Field], rows: Sequence[Row], centre: Row, ask: Ask) -> Effects:
    """What each feature does to the numbers, all others as in `centre`, by the values that `rows` have.

    Raises `NotExplainable` for lists, for names and ids, and where numbers move along a curve.
    """
    tried = [_tried(field, [row[index] for row in rows]) for index, field in enumerate(fields)]
    mixtures = [centre]
    for index, values in enumerate(tried):
        mixtures += [(*centre[:index], value, *centre[index + 1 :]) for value in values]
    found = ask(mixtures)
    numbers, at, effects = found[0], 1, []
    for field, values in zip(fields, tried, strict=True):
        effects.append(_effect(field, values, found[at : at + len(values)], numbers))
        at += len(values)
    return Effects(centre=centre, numbers=numbers, effects=tuple(effects))


def shifted(effect: Effect, numbers: Array) -> Effect:
    """The effect less those numbers at its places."""
    less = numbers[list(effect.at)].tolist()

    def line(held: Sequence[float | None]) -> tuple[float, ...]:
        return tuple(
            (math.nan if value is None else value) - minus for value, minus in zip(held, less, strict=True)
        )

    return msgspec.structs.replace(
        effect,
        offsets=line(effect.offsets) if effect.slopes else (),
        table=tuple(map(line, effect.table)),
        null=None if effect.null is None else line(effect.null),
        other=None if effect.other is None else line(effect.other),
    )


def lookup(effect: Effect) -> Callable[[Any], Sequence[float] | None]:
    """Gives the numbers at the effect's places for a value; None for one of which nothing is known."""
    other = effect.other
    null = None if effect.null is None else [math.nan if one is None else one for one in effect.null]
    if effect.values:
        table = dict(zip(effect.values, effect.table, strict=True))
        return lambda value: null if value is None else table.get(value, other)
    if len(effect.at) == 1:
        slope, offset = effect.slopes[0], effect.offsets[0]
        return lambda value: null if value is None else (slope * value + offset,)
    lines = tuple(zip(effect.slopes, effect.offsets, strict=True))
    return lambda value: null if value is None else [slope * value + offset for slope, offset in lines]


def _tried(field: Field, column: Sequence[Any]) -> list[Any]:
    """The values that are asked: null first, where there may be one."""
    if field.shape:
        raise NotExplainable(f"Feature {field.name!r} is a list.")
    present = [value for value in column if value is not None]
    tried: list[Any] = [None] if field.nullable else []
    if field.type == "bool":
        return [*tried, False, True]
    if field.type == "string":
        values = sorted({*present, *(field.categories or ())}, key=str)
        if len(values) > MOST_VALUES:
            raise NotExplainable(f"Feature {field.name!r} has {len(values)} categories in a sample of rows.")
        return [*tried, _UNSEEN, *values]
    distinct = np.unique(np.array(present or [0], np.float64))
    if distinct.size > _MOST_TABLED:
        distinct = np.unique(np.quantile(distinct, [0.0, 0.1, 0.35, 0.5, 0.7, 0.9, 1.0], method="nearest"))
    if distinct.size == 1:  # it is the same in all rows, and what another value does is asked, too
        distinct = np.array([distinct[0], distinct[0] + 1.0])
    numbers = distinct.tolist()
    return [*tried, *(int(value) if field.type == "int" else value for value in numbers)]


def _effect(field: Field, tried: list[Any], found: Array, numbers: Array) -> Effect:
    known: Any = ~np.isinf(found).any(axis=1)
    same = (found == numbers) | (np.isnan(found) & np.isnan(numbers))
    at = np.flatnonzero(~same[known].all(axis=0))
    found = found[:, at]
    places = tuple(at.tolist())
    null, other = None, None
    if field.nullable:
        if known[0]:
            null = tuple(None if math.isnan(value) else value for value in found[0].tolist())
        tried, found, known = tried[1:], found[1:], known[1:]
    if field.type == "string":
        if known[0]:
            other = tuple(found[0].tolist())
        tried, found, known = tried[1:], found[1:], known[1:]
    values, found = (
        [one for one, is_known in zip(tried, known.tolist(), strict=True) if is_known],
        found[known],
    )
    table = tuple(tuple(line) for line in found.tolist())
    if np.isnan(found).any():
        raise NotExplainable(f"What {field.name!r} is to the model is missing for some of its values.")
    if field.type in ("string", "bool"):
        return Effect(at=places, values=tuple(values), table=table, null=null, other=other)
    if len(values) < 2:
        raise NotExplainable(f"The model answers too few values of {field.name!r}.")
    places_on = np.array(values, np.float64)
    slopes, offsets = _line(places_on, found)
    off = np.abs(slopes * places_on[:, None] + offsets - found)
    if (off <= _STRAIGHT * np.ptp(found, axis=0) + 1e-9).all():
        return Effect(at=places, slopes=tuple(slopes.tolist()), offsets=tuple(offsets.tolist()), null=null)
    if field.type == "int" and len(tried) <= _MOST_TABLED:
        return Effect(at=places, values=tuple(values), table=table, null=null)
    raise NotExplainable(f"What {field.name!r} does is no straight line.")


def _line(values: Array, found: Array) -> tuple[Array, Array]:
    """Through the outermost values; exactly the value itself where that is what was found."""
    slopes = (found[-1] - found[0]) / (values[-1] - values[0])
    offsets = found[0] - slopes * values[0]
    for dtype in (np.float64, np.float32):
        same = (found == values.astype(dtype)[:, None]).all(axis=0)
        slopes, offsets = np.where(same, 1.0, slopes), np.where(same, 0.0, offsets)
    return slopes, offsets
