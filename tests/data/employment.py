"""Who has work: 277,677 people of Massachusetts, 2015 to 2018, beside what a model says of each.

From the American Community Survey (US Census Bureau, public), as the `nannyml` package (Apache-2.0) carries
it: features are codes of the survey. The file of 2018 lists people who live in group quarters first, so that
its order is itself a drift: shuffle within a year.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.data import FOLDER

__all__ = ["FEATURES", "REFERENCE_YEAR", "Employment", "employment"]

FEATURES = (
    "AGEP", "SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG",
    "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM", "SEX", "RAC1P",
)  # fmt: skip
"""AGEP is a number, of years; all others are codes, such as SEX and RAC1P, the race."""

REFERENCE_YEAR = 2015


class Employment(NamedTuple):
    """People in the order of the files; arrays of equal length.

    `features` holds floats (AGEP) or texts. `label` is 1 for who has work, `prediction` and `probability`
    (of 1) are the model's.
    """

    features: dict[str, npt.NDArray[Any]]
    year: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    prediction: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]

    @property
    def rows(self) -> int:
        return len(self.year)

    def of(self, year: int) -> Employment:
        """The people of that year."""
        return self.take(np.flatnonzero(self.year == year))

    def shuffled(self, generator: np.random.Generator) -> Employment:
        """The same people in another order: year after year as before, at random within each."""
        return self.take(np.lexsort((generator.random(self.rows), self.year)))

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Employment:
        """The people at those places."""
        return Employment(
            {name: values[rows] for name, values in self.features.items()},
            *(values[rows] for values in self[1:]),
        )


@cache
def employment() -> Employment:
    """All people, years in order. Read once in a process; its arrays cannot be written to."""
    folder = FOLDER / "nannyml" / "datasets" / "data"
    first = pq.read_table(folder / "employment_MA_reference.pq")
    later = pq.read_table(folder / "employment_MA_analysis.pq")
    labels = pq.read_table(folder / "employment_MA_analysis_target.pq")
    if later["id"] != labels["id"]:
        raise ValueError("the labels are of other people than the predictions")
    later = later.append_column("employed", labels["employed"]).select(first.column_names)
    both = pa.concat_tables([first, later], promote_options="permissive").unify_dictionaries()
    return Employment(
        {name: _held(both[name]) for name in FEATURES},
        *(_held(both[name]) for name in ("year", "employed", "prediction", "predicted_probability")),
    )


def _held(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if pa.types.is_dictionary(column.type):
        texts = column.combine_chunks()
        return _fixed(np.asarray(texts.dictionary, dtype=object)[np.asarray(texts.indices)])
    return _fixed(np.array(column))


def _fixed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values.flags.writeable = False
    return values
