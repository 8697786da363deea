"""How the fields that a contract marks as slices cut rows, and the profile of a reference with its slices."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from fairlead.contracts.contract import Contract, Field, Scalar, class_name
from fairlead.contracts.counts import Bins, bins_of, reference_counts
from fairlead.contracts.profile import (
    CategoryProfile,
    NumberProfile,
    ReferenceProfile,
    SliceCounts,
    profile,
)
from fairlead.contracts.table import Column, Table

__all__ = ["SliceBy", "reference_of", "shown", "slices_of"]

Array = npt.NDArray[Any]

MOST_PARTS = 50
"""A field cuts rows into so many slices at most."""


class SliceBy(msgspec.Struct, frozen=True, kw_only=True):
    """How one field cuts the traffic: each of `values` is a part, or each range between `edges`.

    Rows without value, or with one that is not listed, are in no part of it.
    """

    field: str
    values: tuple[Scalar, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The slices, such as `country=DE` or `age=30 to below 45`, in the order of values or edges."""
        if self.values:
            return tuple(f"{self.field}={shown(value)}" for value in self.values)
        if not self.edges:
            return ()
        inner = [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(self.edges)]
        parts = (f"below {self.edges[0]:g}", *inner, f"from {self.edges[-1]:g}")
        return tuple(f"{self.field}={part}" for part in parts)


def slices_of(fields: Iterable[Field], bins: Mapping[str, Bins]) -> tuple[SliceBy, ...]:
    """How the fields marked `slice` cut: at the contract's categories, or at what the reference has seen.

    Numbers without categories are cut at the quarters of their bins, and whole numbers without a gap, up to
    twenty, one by one. Lists and sensitive fields cut nothing.
    """
    found = []
    for field in fields:
        if not field.slice or field.shape or field.sensitivity == "sensitive":
            continue
        held = bins.get(field.name)
        if field.categories is not None:
            found.append(SliceBy(field=field.name, values=field.categories[:MOST_PARTS]))
        elif isinstance(held, CategoryProfile):
            found.append(SliceBy(field=field.name, values=held.categories[:MOST_PARTS]))
        elif isinstance(held, NumberProfile):
            found.append(_cut_numbers(field, held))
    return tuple(cut for cut in found if cut.values or cut.edges)


def _cut_numbers(field: Field, held: NumberProfile) -> SliceBy:
    starts = held.edges[:-1]
    gapless = all(after - before == 1 for before, after in itertools.pairwise(starts))
    if field.type == "int" and gapless and all(start.is_integer() for start in starts):
        return SliceBy(field=field.name, values=tuple(int(start) for start in starts))
    quarters = dict.fromkeys(held.edges[len(held.edges) * part // 4] for part in (1, 2, 3) if held.edges)
    return SliceBy(field=field.name, edges=tuple(quarters))


def shown(value: Scalar) -> str:
    """A value as the name of its part of a slice."""
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        return "(empty)"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def reference_of(
    table: Table,
    contract: Contract,
    *,
    predictions: Sequence[Any] | None = None,
    probabilities: Sequence[Sequence[float]] | Array | None = None,
    like: ReferenceProfile | None = None,
    cut_by: Iterable[Field] | None = None,
) -> ReferenceProfile:
    """What `profile` makes of a version's reference, with every slice counted on the same bins.

    `cut_by` are the fields that say how to cut, those of the contract unless given. Features that are
    sensitive are not counted by slice, as they are not in traffic. Raises `InvalidReference` as `profile`
    does.
    """
    whole = profile(table, contract, predictions=predictions, probabilities=probabilities, like=like)
    fields = tuple(contract.inputs if cut_by is None else cut_by)
    classes = tuple(map(class_name, contract.output.classes))
    bins = bins_of(whole, classes)
    hidden = {field.name for field in fields if field.sensitivity == "sensitive"}
    cuts = slices_of(fields, {key.name: held for key, held in bins.items() if key.part == "feature"})
    if not cuts:
        return whole
    held_probabilities = None if probabilities is None else np.asarray(probabilities, np.float64)
    slices = {}
    for cut in cuts:
        for name, rows in _parts(cut, table.column(cut.field)):
            part = profile(
                _taken(table, rows),
                contract,
                predictions=None if predictions is None else [predictions[row] for row in rows.tolist()],
                probabilities=None if held_probabilities is None else held_probabilities[rows],
                like=whole,
            )
            counts = tuple(
                (key, reference_counts(held))
                for key, held in bins_of(part, classes).items()
                if not (key.part in ("feature", "elements") and key.name in hidden)
            )
            slices[name] = SliceCounts(rows=len(rows), fields=counts)
    return msgspec.structs.replace(whole, slices=slices)


def _parts(cut: SliceBy, column: Column) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """The slices that have rows, each with the places of its rows."""
    present = np.flatnonzero(~column.null)
    if cut.edges:
        places = np.searchsorted(np.asarray(cut.edges), column.present.astype(np.float64), side="right")
    else:
        known = {value: place for place, value in enumerate(cut.values)}
        places = np.array([known.get(value, -1) for value in column.present.tolist()], np.int64)
    for place, name in enumerate(cut.names):
        rows = present[places == place]
        if rows.size:
            yield name, rows


def _taken(table: Table, rows: npt.NDArray[np.int64]) -> Table:
    columns = tuple(
        msgspec.structs.replace(column, values=column.values[rows], null=column.null[rows])
        for column in table.columns
    )
    return Table(columns=columns, rows=len(rows))
