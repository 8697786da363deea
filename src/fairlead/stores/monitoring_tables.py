"""The tables of monitoring: who looked last, explanations that were made, compute by the hour, and the levels
that follow their labels.

As in `tables.py`, structs are their msgspec JSON in text columns.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text

from fairlead.stores.database import UtcDateTime
from fairlead.stores.tables import metadata

__all__ = ["COMPUTE", "compute_hours", "conformal_levels", "explanations", "sightings"]

sightings = Table(
    "sightings",
    metadata,
    Column("looker", Text, primary_key=True),
    Column("place", Text, primary_key=True),  # of which data folder
    Column("at", UtcDateTime, nullable=False),
    Column("body", Text, nullable=False),
)

explanations = Table(
    "explanations",
    metadata,
    Column("prediction", Text, primary_key=True),  # the record's prediction_id
    Column("model", Text, sa.ForeignKey("models.name"), nullable=False),
    Column("body", Text, nullable=False),  # Kept, without the features' values
    Column("at", UtcDateTime, nullable=False),
)
Index(None, explanations.c.at)

COMPUTE = ("run_ns", "shadow_ns", "load_ns", "rows", "answers")

compute_hours = Table(
    "compute_hours",
    metadata,
    Column("place", Text, primary_key=True),  # whose counters: those of one data folder
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("hour", UtcDateTime, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in COMPUTE),  # within the hour
    *(Column(f"seen_{name}", BigInteger, nullable=False) for name in COMPUTE),  # where the counters stood
)
Index(None, compute_hours.c.hour)

conformal_levels = Table(
    "conformal_levels",
    metadata,
    Column("model", Text, sa.ForeignKey("models.name"), primary_key=True),
    Column("version", Text, primary_key=True),
    Column("scores", sa.JSON, nullable=False),  # of calibration, as `contracts/adaptive.py` keeps them
    Column("outside", sa.Float, nullable=False),  # the share that labels teach
    Column("quantile", sa.Float, nullable=False),  # what it comes to
    Column("labels", BigInteger, nullable=False),
    Column("through", UtcDateTime),  # labels of answers before have taught; null before any has
    Column("revision", Integer, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
