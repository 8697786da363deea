"""Alarms that may cause a retraining: how many looks in a row have raised each."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retraining_alarms",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_retraining_alarms_model"),
        sa.PrimaryKeyConstraint("model", "key", name="pk_retraining_alarms"),
    )


def downgrade() -> None:
    op.drop_table("retraining_alarms")
