"""The first schema: registry, traffic, gateways, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_model_id", "audit", ["model", "id"])
    op.create_table(
        "contracts",
        sa.Column("contract_id", sa.Text()),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("contract_id", name="pk_contracts"),
    )
    op.create_table(
        "gateways",
        sa.Column("name", sa.Text()),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_gateways"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key", sa.Text()),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("response", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_idempotency"),
    )
    op.create_table(
        "models",
        sa.Column("name", sa.Text()),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "alias_events",
        sa.Column("id", sa.Integer()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_alias_events_model"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_events"),
    )
    op.create_index("ix_alias_events_model_alias_id", "alias_events", ["model", "alias", "id"])
    op.create_table(
        "gateway_plans",
        sa.Column("gateway", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("prepared_generation", sa.Integer(), nullable=True),
        sa.Column("active_generation", sa.Integer(), nullable=True),
        sa.Column("override", sa.Text(), nullable=True),
        sa.Column("failed_generation", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["gateway"], ["gateways.name"], name="fk_gateway_plans_gateway", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("gateway", "model", name="pk_gateway_plans"),
    )
    op.create_table(
        "model_contracts",
        sa.Column("model", sa.Text()),
        sa.Column("revision", sa.Integer(), autoincrement=False),
        sa.Column("contract_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["contract_id"], ["contracts.contract_id"], name="fk_model_contracts_contract_id"
        ),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_model_contracts_model"),
        sa.PrimaryKeyConstraint("model", "revision", name="pk_model_contracts"),
    )
    op.create_table(
        "plan_heads",
        sa.Column("model", sa.Text()),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("active_generation", sa.Integer(), nullable=True),
        sa.Column("latest_generation", sa.Integer(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_plan_heads_model"),
        sa.PrimaryKeyConstraint("model", name="pk_plan_heads"),
    )
    op.create_table(
        "plans",
        sa.Column("model", sa.Text()),
        sa.Column("generation", sa.Integer(), autoincrement=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("activated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_plans_model"),
        sa.PrimaryKeyConstraint("model", "generation", name="pk_plans"),
    )
    op.create_index("ix_plans_state", "plans", ["state"])
    op.create_table(
        "settings_events",
        sa.Column("id", sa.Integer()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_settings_events_model"),
        sa.PrimaryKeyConstraint("id", name="pk_settings_events"),
    )
    op.create_index("ix_settings_events_model_version_id", "settings_events", ["model", "version", "id"])
    op.create_table(
        "stage_events",
        sa.Column("id", sa.Integer()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("from_stage", sa.Text(), nullable=False),
        sa.Column("to_stage", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_stage_events_model"),
        sa.PrimaryKeyConstraint("id", name="pk_stage_events"),
    )
    op.create_index("ix_stage_events_model_id", "stage_events", ["model", "id"])
    op.create_table(
        "versions",
        sa.Column("model", sa.Text()),
        sa.Column("version", sa.Text()),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("framework", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("proof", sa.JSON(), nullable=True),
        sa.Column("probe", sa.JSON(), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_versions_model"),
        sa.PrimaryKeyConstraint("model", "version", name="pk_versions"),
    )


def downgrade() -> None:
    op.drop_table("versions")
    op.drop_table("stage_events")
    op.drop_table("settings_events")
    op.drop_table("plans")
    op.drop_table("plan_heads")
    op.drop_table("model_contracts")
    op.drop_table("gateway_plans")
    op.drop_table("alias_events")
    op.drop_table("models")
    op.drop_table("idempotency")
    op.drop_table("gateways")
    op.drop_table("contracts")
    op.drop_table("audit")
