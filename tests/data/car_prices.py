"""What used cars cost, and what a model says of each: NannyML's synthetic cars (Apache-2.0)."""

from __future__ import annotations

import csv
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tests.data import FOLDER

__all__ = ["Cars", "cars"]

_NUMBERS = ("car_age", "km_driven", "price_new", "accident_count", "door_count")


class Cars(NamedTuple):
    """Rows of a file in their order; `size` is how far the prediction is off."""

    columns: dict[str, list[Any]]
    size: npt.NDArray[np.float64]

    def take(self, rows: slice) -> Cars:
        """The cars at those places."""
        return Cars({name: values[rows] for name, values in self.columns.items()}, self.size[rows])


@cache
def cars(part: str) -> Cars:
    """The cars of `reference` or `analysis`; half way through the analysis other cars are sold."""
    folder = FOLDER / "nannyml" / "datasets" / "data"
    rows = _rows(folder / f"regression_synthetic_{part}.csv")
    truth = rows if part == "reference" else _rows(folder / "regression_synthetic_analysis_targets.csv")
    columns: dict[str, list[Any]] = {name: [float(row[name]) for row in rows] for name in _NUMBERS}
    columns |= {name: [row[name] for row in rows] for name in ("fuel", "transmission")}
    columns["y_pred"] = [float(row["y_pred"]) for row in rows]
    off = [abs(float(row["y_pred"]) - float(true["y_true"])) for row, true in zip(rows, truth, strict=True)]
    return Cars(columns, np.array(off))


def _rows(path: Any) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
