"""Explanations of single predictions, kept so that whoever asks again gets the same."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "explanations",
        sa.Column("prediction", sa.Text()),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_explanations_model"),
        sa.PrimaryKeyConstraint("prediction", name="pk_explanations"),
    )


def downgrade() -> None:
    op.drop_table("explanations")
