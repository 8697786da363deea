"""The shop: CDNOW's purchases of 1997 and 1998, as checkouts with features and what came of them.

The `lifetimes` package carries the file (Fader and Hardie's CDNOW set: the customers who first bought in the
first quarter of 1997). At each checkout the shop asks: will this customer buy again within 30 days?
Features hold only what was known at that moment; the answer became known later.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.errors import MissingExtra

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HORIZON_DAYS", "NEVER_BEFORE", "checkouts", "load_purchases", "period"]

HORIZON_DAYS = 30
NEVER_BEFORE = 999.0
"""Days since the previous purchase of somebody who had none."""


def load_purchases() -> pd.DataFrame:
    """One row per line of the file: customer, date, cds, dollars."""
    import pandas as pd

    found = importlib.util.find_spec("lifetimes")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            "The demo's data comes in the package lifetimes, which is not installed.",
            remedy="Run it by `make demo`, or: pip install lifetimes pandas 'fairlead[sklearn]'",
        )
    path = Path(next(iter(found.submodule_search_locations))) / "datasets" / "CDNOW_master.txt"
    lines = pd.read_csv(
        path,
        sep=r"\s+",
        skiprows=1,
        header=None,
        names=["customer", "date", "cds", "dollars"],
        dtype={"customer": str, "date": str},
    )
    lines["date"] = pd.to_datetime(lines["date"], format="%Y%m%d")
    return lines


def checkouts(purchases: pd.DataFrame) -> pd.DataFrame:
    """One row per customer and day with a purchase, in the order of time.

    `orders` counts this one; `days_since_first`, `days_since_last` and `mean_gap` are in days; `order_value`,
    `mean_value` and `total_value` in dollars. `bought_again` is 1 when the next purchase came within 30 days.
    """
    days = purchases.groupby(["customer", "date"], as_index=False).agg(
        cds=("cds", "sum"), order_value=("dollars", "sum")
    )
    days = days.sort_values(["customer", "date"], kind="stable")
    of_customer = days.groupby("customer")
    days["orders"] = of_customer.cumcount() + 1
    days["days_since_first"] = (days["date"] - of_customer["date"].transform("min")).dt.days
    days["days_since_last"] = of_customer["date"].diff().dt.days.fillna(NEVER_BEFORE)
    earlier = (days["orders"] - 1).clip(lower=1)
    days["mean_gap"] = (days["days_since_first"] / earlier).where(days["orders"] > 1, NEVER_BEFORE)
    days["total_value"] = of_customer["order_value"].cumsum()
    days["mean_value"] = days["total_value"] / days["orders"]
    following = (of_customer["date"].shift(-1) - days["date"]).dt.days
    days["bought_again"] = (following <= HORIZON_DAYS).astype(int)
    return days.sort_values(["date", "customer"], kind="stable").reset_index(drop=True)


def period(rows: pd.DataFrame, start: str, end: str) -> pd.DataFrame:
    """The checkouts from `start` up to and without `end`."""
    return rows[(rows["date"] >= start) & (rows["date"] < end)].reset_index(drop=True)
