"""The tables of retrainings: the jobs, the tokens by which trainers elsewhere speak for one of them, and the
alarms that may cause one.

As in `tables.py`, structs are their msgspec JSON in text columns.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Integer, Table, Text

from fairlead.stores.database import UtcDateTime
from fairlead.stores.tables import metadata

__all__ = ["retraining_alarms", "retraining_tokens", "retrainings"]

retrainings = Table(
    "retrainings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False),  # counts the model's retrainings: their order
    Column("model", Text, sa.ForeignKey("models.name"), nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),  # counts changes
    Column("body", Text, nullable=False),  # Job
    Column("log", Text, nullable=False),  # what the trainer has said, bounded
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index(None, retrainings.c.model, retrainings.c.number, unique=True)
Index(None, retrainings.c.state)

retraining_tokens = Table(
    "retraining_tokens",
    metadata,
    Column("digest", Text, primary_key=True),  # SHA-256 of the token, which is kept nowhere
    Column("retraining", Text, sa.ForeignKey("retrainings.id"), nullable=False),
)
Index(None, retraining_tokens.c.retraining)

retraining_alarms = Table(
    "retraining_alarms",
    metadata,
    Column("model", Text, sa.ForeignKey("models.name"), primary_key=True),
    Column("key", Text, primary_key=True),  # of the finding, as JSON
    Column("findings", Text, nullable=False),  # Finding: of the looks in a row that have raised it
    Column("updated_at", UtcDateTime, nullable=False),
)
