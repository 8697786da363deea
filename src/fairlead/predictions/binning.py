"""What the traffic under one contract is counted on: bins for every field and answer, and the slices.

The first reference profile under a contract lends its bins; where there is none, the first rows of the log
do. Counts add while their bins are the same, and their id tells. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from fairlead.contracts.contract import Contract, Field, Scalar, class_name
from fairlead.contracts.counts import Bins, FieldKey, bins_of
from fairlead.contracts.profile import ReferenceProfile
from fairlead.contracts.sliced import SliceBy, slices_of

__all__ = ["Binning", "ContractNote", "Entry", "binning_of"]

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
