"""Levels of intervals and sets that follow the labels, and the scores of calibration they are read from."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conformal_levels",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("outside", sa.Float(), nullable=False),
        sa.Column("quantile", sa.Float(), nullable=False),
        sa.Column("labels", sa.BigInteger(), nullable=False),
        sa.Column("through", sa.DateTime(timezone=True)),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_conformal_levels_model"),
        sa.PrimaryKeyConstraint("model", "version", name="pk_conformal_levels"),
    )


def downgrade() -> None:
    op.drop_table("conformal_levels")
