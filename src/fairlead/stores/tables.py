"""Every table, once. Migrations bring a database to this; a test holds the two together.

Structs are stored as their msgspec JSON in text columns (`spec`, `body`), so that what is read is checked
against the struct; free maps (`metrics`, `tags`, `details`) are JSON columns. `audit` and the tables whose
name ends in `_events` are only ever appended to: `id` gives their order.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Index, Integer, Table, Text

from fairlead.stores.database import UtcDateTime

__all__ = [
    "alias_events",
    "audit",
    "contracts",
    "freezes",
    "gate_runs",
    "gateway_plans",
    "gateways",
    "idempotency",
    "leases",
    "metadata",
    "model_contracts",
    "models",
    "outcome_syncs",
    "plan_heads",
    "plans",
    "rollout_events",
    "rollouts",
    "settings_events",
    "stage_events",
    "versions",
]

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _model() -> Column[str]:
    return Column("model", Text, sa.ForeignKey("models.name"), nullable=False)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _at(name: str = "at") -> Column[datetime]:
    return Column(name, UtcDateTime, nullable=False)


def _json(name: str) -> Column[Any]:
    return Column(name, sa.JSON, nullable=False)


# --- the registry -------------------------------------------------------------------------------------------

models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    _text("description"),
    _at("created_at"),
    _text("created_by"),
)

versions = Table(
    "versions",
    metadata,
    Column("model", Text, sa.ForeignKey("models.name"), primary_key=True),
    Column("version", Text, primary_key=True),
    _text("digest"),
    _text("framework"),
    _text("spec"),  # VersionSpec
    _json("metrics"),
    _json("tags"),
    Column("proof", sa.JSON(none_as_null=True)),
    Column("probe", sa.JSON(none_as_null=True)),
    _text("stage"),
    _text("created_by"),
    _at("created_at"),
)

contracts = Table(
    "contracts",
    metadata,
    Column("contract_id", Text, primary_key=True),
    _text("body"),  # Contract
    _at("created_at"),
)

model_contracts = Table(
    "model_contracts",
    metadata,
    Column("model", Text, sa.ForeignKey("models.name"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("contract_id", Text, sa.ForeignKey("contracts.contract_id"), nullable=False),
    _at(),
    _text("who"),
    _text("why"),
)

stage_events = Table(
    "stage_events",
    metadata,
    Column("id", Integer, primary_key=True),
    _model(),
    _text("version"),
    _text("from_stage"),
    _text("to_stage"),
    Column("generation", Integer),
    _at(),
    _text("who"),
    _text("why"),
)
Index(None, stage_events.c.model, stage_events.c.id)

alias_events = Table(
    "alias_events",
    metadata,
    Column("id", Integer, primary_key=True),
    _model(),
    _text("alias"),
    Column("version", Text),
    _at(),
    _text("who"),
    _text("why"),
)
Index(None, alias_events.c.model, alias_events.c.alias, alias_events.c.id)

settings_events = Table(
    "settings_events",
    metadata,
    Column("id", Integer, primary_key=True),
    _model(),
    Column("version", Text),
    Column("revision", Integer, nullable=False),
    _json("body"),  # every key that is set at this level after the change
    _at(),
    _text("who"),
    _text("why"),
)
Index(None, settings_events.c.model, settings_events.c.version, settings_events.c.id)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    _at(),
    _text("who"),
    _text("action"),
    Column("model", Text),
    Column("version", Text),
    _text("why"),
    _json("details"),
)
Index(None, audit.c.model, audit.c.id)

# --- traffic ------------------------------------------------------------------------------------------------

plans = Table(
    "plans",
    metadata,
    Column("model", Text, sa.ForeignKey("models.name"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    _text("body"),  # Plan
    _text("state"),  # preparing, active, superseded or failed
    _at("created_at"),
    Column("activated_at", UtcDateTime),
    _text("command"),
    _text("who"),
    _text("why"),
    Column("reason", Text),
)
Index(None, plans.c.state)

plan_heads = Table(
    "plan_heads",
    metadata,
    Column("model", Text, sa.ForeignKey("models.name"), primary_key=True),
    _text("salt"),
    Column("active_generation", Integer),
    Column("latest_generation", Integer, nullable=False),
    Column("owner", Text),
    Column("holdout_until", UtcDateTime),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Text, primary_key=True),
    _model(),
    _text("state"),
    Column("revision", Integer, nullable=False),  # counts transitions
    _text("body"),  # Rollout
    _json("baseline"),  # the counters of its arms when the present step began
    _at("created_at"),
    _at("updated_at"),
    _text("who"),
    _text("why"),
    Column("holder", Text),  # the controller that attends to it, until `held_until`
    Column("held_until", UtcDateTime),
)
Index(None, rollouts.c.model, rollouts.c.created_at)
Index(None, rollouts.c.state)

rollout_events = Table(
    "rollout_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("rollout", Text, sa.ForeignKey("rollouts.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    _at(),
    _text("from_state"),
    _text("to_state"),
    Column("step", Integer, nullable=False),
    Column("generation", Integer),
    _text("who"),
    _text("reason"),
    _json("evidence"),
)
Index(None, rollout_events.c.rollout, rollout_events.c.revision, unique=True)

freezes = Table(
    "freezes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, sa.ForeignKey("models.name")),  # all models when there is none
    _at("starts_at"),
    _at("ends_at"),
    Column("weekly", sa.Boolean, nullable=False),
    _text("reason"),
    _text("who"),
    _at("created_at"),
    Column("ended_at", UtcDateTime),  # before its time, by a person
    Column("ended_by", Text),
)

gate_runs = Table(
    "gate_runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("number", Integer, nullable=False),  # counts the model's runs: their order
    _model(),
    _text("version"),
    Column("against", Text),
    _text("state"),  # waiting, running, passed, failed, error, interrupted or overridden
    _text("spec"),  # GateSpec
    _text("spec_digest"),
    Column("data_digest", Text),
    Column("report", Text),  # Report
    Column("reason", Text),
    _at("created_at"),
    Column("ended_at", UtcDateTime),
    Column("held_until", UtcDateTime),  # whoever runs it renews this
    _text("who"),
    _text("why"),
)
Index(None, gate_runs.c.model, gate_runs.c.number, unique=True)

outcome_syncs = Table(
    "outcome_syncs",
    metadata,
    Column("name", Text, primary_key=True),
    _model(),
    _text("body"),  # Sync
    Column("mark", Text),  # Mark: how far it has read
    _at("next_at"),
    Column("last_run_at", UtcDateTime),
    Column("last_ok_at", UtcDateTime),
    Column("accepted", sa.BigInteger, nullable=False),
    Column("refused", sa.BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("problem", Text),
    Column("error", Text),
    _at("created_at"),
    _text("who"),
    Column("holder", Text),  # the control that runs it, until `held_until`
    Column("held_until", UtcDateTime),
)

layers = Table(
    "layers",
    metadata,
    Column("name", Text, primary_key=True),
    _text("salt"),
    _at(),  # when a rollout asked for a part of it last
)

layer_shares = Table(
    "layer_shares",
    metadata,
    Column("rollout", Text, sa.ForeignKey("rollouts.id"), primary_key=True),
    Column("layer", Text, sa.ForeignKey("layers.name"), nullable=False),
    _text("model"),
    _json("ranges"),  # of the layer's slots: first, and last plus 1
    _at(),
)
Index(None, layer_shares.c.layer)

gateways = Table(
    "gateways",
    metadata,
    Column("name", Text, primary_key=True),
    _text("host"),
    Column("pid", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    _at("started_at"),
    _at("heartbeat_at"),
    _text("address"),
)

gateway_plans = Table(
    "gateway_plans",
    metadata,
    Column("gateway", Text, sa.ForeignKey("gateways.name", ondelete="CASCADE"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("prepared_generation", Integer),
    Column("active_generation", Integer),
    Column("override", Text),
    Column("failed_generation", Integer),  # which generation `error` is about
    Column("error", Text),
    _at(),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key", Text, primary_key=True),
    _text("command"),
    _json("response"),
    _at(),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    _text("holder"),
    _at("held_until"),
)
