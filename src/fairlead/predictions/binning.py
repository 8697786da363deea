"""What the traffic under one contract is counted on: bins for every field and answer, and the slices.

The first reference profile under a contract lends its bins; where there is none, the first rows of the log
do. Counts add while their bins are the same, and their id tells. Pure.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from fairlead.contracts.contract import Contract, Field, Scalar, class_name
from fairlead.contracts.counts import Bins, FieldKey, bins_of
from fairlead.contracts.profile import CategoryProfile, NumberProfile, ReferenceProfile

__all__ = ["Binning", "ContractNote", "Entry", "SliceBy", "binning_of", "slices_of"]

MOST_PARTS = 50
"""A field cuts the traffic into so many slices at most."""
MOST_SCORES = 50
"""Of so many classes at most the scores are counted."""


class ContractNote(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent tells ingest of a contract: `bins/<model>/<contract id>.json` in the data folder.

    `reference` is the profile of the first version under it that has one, and `version` that version.
    """

    contract: Contract
    version: str | None = None
    reference: ReferenceProfile | None = None


class Entry(msgspec.Struct, frozen=True):
    """One thing that is counted, and on what."""

    key: FieldKey
    bins: Bins


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
            return tuple(f"{self.field}={_shown(value)}" for value in self.values)
        if not self.edges:
            return ()
        inner = [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(self.edges)]
        parts = (f"below {self.edges[0]:g}", *inner, f"from {self.edges[-1]:g}")
        return tuple(f"{self.field}={part}" for part in parts)


class Binning(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Bins and slices of one contract. `origin` is the version whose reference lent the bins; None when the
    log's first rows did."""

    contract_id: str
    entries: tuple[Entry, ...]
    slices: tuple[SliceBy, ...] = ()
    origin: str | None = None

    @cached_property
    def id(self) -> str:
        """`b` and 15 hexadecimal digits: counts under the same id lie on the same bins."""
        canonical = msgspec.json.encode((self.contract_id, self.entries, self.slices), order="sorted")
        return "b" + hashlib.sha256(canonical).hexdigest()[:15]

    @property
    def rows(self) -> int:
        """How many rows gave the bins."""
        return max(
            (sum(e.bins.counts) + e.bins.nulls for e in self.entries if e.key.part == "feature"), default=0
        )

    @cached_property
    def bins(self) -> Mapping[FieldKey, Bins]:
        """The bins by what is counted on them."""
        return {entry.key: entry.bins for entry in self.entries}


def binning_of(
    contract_id: str,
    reference: ReferenceProfile,
    *,
    classes: Iterable[Scalar] = (),
    fields: Iterable[Field] = (),
    origin: str | None = None,
) -> Binning:
    """The bins of a profile; `fields` say what is sliced, and which features are sensitive: those are not in
    the log, so they are not counted. Of many classes the scores of the first fifty are."""
    hidden = {field.name for field in fields if field.sensitivity == "sensitive"}
    bins = bins_of(reference, map(class_name, classes))
    scores = [key for key in bins if key.part == "score"][MOST_SCORES:]
    entries = tuple(
        Entry(key, held)
        for key, held in bins.items()
        if key not in scores and not (key.part in ("feature", "elements") and key.name in hidden)
    )
    return Binning(
        contract_id=contract_id,
        entries=entries,
        slices=slices_of(fields, {key.name: held for key, held in bins.items() if key.part == "feature"}),
        origin=origin,
    )


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


def _shown(value: Scalar) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value == "":
        return "(empty)"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
