"""Layers, who has parts of them, and when a holdout ends."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "layers",
        sa.Column("name", sa.Text()),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_layers"),
    )
    op.create_table(
        "layer_shares",
        sa.Column("rollout", sa.Text()),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("ranges", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_layer_shares_rollout"),
        sa.ForeignKeyConstraint(["layer"], ["layers.name"], name="fk_layer_shares_layer"),
        sa.PrimaryKeyConstraint("rollout", name="pk_layer_shares"),
    )
    op.create_index("ix_layer_shares_layer", "layer_shares", ["layer"])
    with op.batch_alter_table("plan_heads") as table:
        table.add_column(sa.Column("holdout_until", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("plan_heads") as table:
        table.drop_column("holdout_until")
    op.drop_table("layer_shares")
    op.drop_table("layers")
