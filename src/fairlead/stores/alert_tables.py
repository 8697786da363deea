"""The tables of alerts: how they stand, their journal, messages that wait for delivery, silences.

As in `tables.py`, structs are their msgspec JSON in text columns.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Column, Index, Integer, Table, Text

from fairlead.stores.database import UtcDateTime
from fairlead.stores.tables import metadata

__all__ = ["alert_deliveries", "alert_events", "alerts", "silences"]

alerts = Table(
    "alerts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("looker", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("key", Text, nullable=False),  # of the finding, as JSON
    Column("model", Text, nullable=False),  # empty where it is about the server
    Column("severity", Text, nullable=False),
    Column("standing", Text, nullable=False),  # pending, firing or resolved
    Column("state", Text, nullable=False),  # State
    Column("finding", Text, nullable=False),  # Finding: the latest that is bad, then the one that ended it
    Column("since", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
Index(None, alerts.c.rule, alerts.c.key, unique=True)
Index(None, alerts.c.looker)

alert_events = Table(
    "alert_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alert", Text, sa.ForeignKey("alerts.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("from_standing", Text, nullable=False),
    Column("to_standing", Text, nullable=False),
    Column("told", Text, nullable=False),  # what receivers are told with it: firing, resolved or nothing
    Column("finding", Text, nullable=False),  # Finding
)
Index(None, alert_events.c.alert)

alert_deliveries = Table(
    "alert_deliveries",
    metadata,
    Column("id", Text, primary_key=True),  # the receiver's idempotency key
    Column("channel", Text, nullable=False),
    Column("message", Text, nullable=False),  # Message
    Column("state", Text, nullable=False),  # waiting, delivered or given-up
    Column("attempts", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("holder", Text),  # the control that delivers it, until `held_until`
    Column("held_until", UtcDateTime),
)
Index(None, alert_deliveries.c.state, alert_deliveries.c.next_at)

silences = Table(
    "silences",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),  # patterns, as rules have them
    Column("rule", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("until", UtcDateTime, nullable=False),
    Column("why", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Column("ended_by", Text),
)
