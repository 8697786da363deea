"""Reference bins made of samples, as a registration makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fairlead.contracts.columns import Column
from fairlead.contracts.contract import Contract, Field, Output
from fairlead.contracts.counts import Bins, FieldKey, bins_of
from fairlead.contracts.profile import CategoryProfile, NumberProfile, profile
from fairlead.contracts.table import Table

__all__ = ["categories", "numbers"]


def numbers(sample: Any, nulls: int = 0) -> NumberProfile:
    """The bins of numbers; the sample lies in them, beside that many nulls."""
    held = _bins("float", np.asarray(sample, np.float64), nulls)
    assert isinstance(held, NumberProfile)
    return held


def categories(sample: Sequence[str], nulls: int = 0) -> CategoryProfile:
    """The bins of texts; the sample lies in them, beside that many nulls."""
    held = _bins("string", np.array(sample, dtype=object), nulls)
    assert isinstance(held, CategoryProfile)
    return held


def _bins(kind: Any, values: Any, nulls: int) -> Bins:
    filler = np.full(nulls, 0.0 if kind == "float" else "", dtype=values.dtype)
    column = Column(
        name="x",
        type=kind,
        values=np.concatenate([values, filler]),
        null=np.arange(len(values) + nulls) >= len(values),
    )
    contract = Contract(inputs=(Field(name="x", type=kind, nullable=True),), output=Output(kind="number"))
    held = profile(Table(columns=(column,), rows=len(column.values)), contract)
    return bins_of(held)[FieldKey("feature", "x")]
