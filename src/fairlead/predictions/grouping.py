"""Groups of rows by several columns of small whole numbers, without sorting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["grouped"]

Array = npt.NDArray[Any]
_DENSE = 4


def grouped(columns: Sequence[Array]) -> tuple[Array, Array]:
    """The combinations that occur, shape [columns, groups] in ascending order, and the group of each row.

    Columns hold int64 and are equally long; -1 and other negative numbers are values like any.
    """
    group = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        low = int(column.min()) if column.size else 0
        codes = _numbered(column - low)
        group = _numbered(group * (int(codes.max(initial=0)) + 1) + codes)
    groups = int(group.max(initial=-1)) + 1
    somewhere = np.zeros(groups, np.int64)
    somewhere[group] = np.arange(len(group))
    return np.stack([column[somewhere] for column in columns]), group


def _numbered(codes: Array) -> Array:
    """Numbers from 0 on without a gap, in the same order."""
    highest = int(codes.max(initial=0))
    if highest > _DENSE * len(codes) + 1_000:
        return np.unique(codes, return_inverse=True)[1].reshape(-1)
    present = np.zeros(highest + 1, np.int64)
    present[codes] = 1
    return (np.cumsum(present) - 1)[codes]
