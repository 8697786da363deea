"""Tokens of retrainings: by which a trainer elsewhere speaks for its job."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "retraining_tokens",
        sa.Column("digest", sa.Text()),
        sa.Column("retraining", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["retraining"], ["retrainings.id"], name="fk_retraining_tokens_retraining"),
        sa.PrimaryKeyConstraint("digest", name="pk_retraining_tokens"),
    )
    op.create_index("ix_retraining_tokens_retraining", "retraining_tokens", ["retraining"])


def downgrade() -> None:
    op.drop_table("retraining_tokens")
