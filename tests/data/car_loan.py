"""Who repays a loan, and what a model says of each: NannyML's synthetic applicants (Apache-2.0)."""

from __future__ import annotations

import csv
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tests.data import FOLDER

__all__ = ["Loans", "loans"]


class Loans(NamedTuple):
    """Rows of a file in their order; `label` is NaN where the file does not say."""

    probability: npt.NDArray[np.float64]
    prediction: npt.NDArray[np.int64]
    label: npt.NDArray[np.float64]


@cache
def loans(part: str) -> Loans:
    """The rows of `reference` or `analysis`; the analysis has no labels, and half way through it other
    people apply."""
    path = FOLDER / "nannyml" / "datasets" / "data" / f"synthetic_car_loan_{part}.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Loans(
        np.array([float(row["y_pred_proba"]) for row in rows]),
        np.array([int(row["y_pred"]) for row in rows]),
        np.array([float(row.get("repaid") or "nan") for row in rows]),
    )
