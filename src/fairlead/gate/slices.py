"""The parts into which slices cut the held-out rows. Pure."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.contracts.sliced import shown
from fairlead.contracts.table import Column
from fairlead.errors import InvalidGate
from fairlead.gate.spec import Slice

__all__ = ["parts"]

Array = npt.NDArray[Any]
MISSING = "(missing)"
_MOST = 50


def parts(column: Column, cut: Slice) -> dict[str, Array]:
    """The rows of each part by what it is called, the largest part first.

    A text, a truth value or a whole number is a part of its own, a number without value the part
    `(missing)`. `InvalidGate` for lists, and where there would be more than 50 parts.
    """
    if column.shape:
        raise InvalidGate(f"Slice {cut.column!r} holds lists.", remedy="Choose a column of single values.")
    if cut.edges:
        found = _between(column, cut)
    else:
        values = column.to_list()
        names = np.array([MISSING if value is None else shown(value) for value in values], object)
        found = {name: names == name for name in sorted(set(names))[: _MOST + 1]}
        if len(found) > _MOST:
            remedy = "Choose another column."
            if column.type in ("float", "int"):
                remedy = f"Cut it: {{ column = '{cut.column}', edges = [18, 30, 65] }}."
            raise InvalidGate(f"Slice {cut.column!r} has more than {_MOST} values.", remedy=remedy)
    filled = {name: rows for name, rows in found.items() if rows.any()}
    return dict(sorted(filled.items(), key=lambda item: -int(item[1].sum())))


def _between(column: Column, cut: Slice) -> dict[str, Array]:
    if column.type not in ("float", "int"):
        raise InvalidGate(f"Slice {cut.column!r} has edges and no numbers.", remedy="Leave the edges out.")
    values = np.asarray(column.values, np.float64)
    bounds = (-np.inf, *cut.edges, np.inf)
    found = {}
    for low, high in itertools.pairwise(bounds):
        if low == -np.inf:
            name = f"below {high:g}"
        elif high == np.inf:
            name = f"from {low:g}"
        else:
            name = f"{low:g} to below {high:g}"
        found[name] = (low <= values) & (values < high) & ~column.null
    found[MISSING] = column.null
    return found
