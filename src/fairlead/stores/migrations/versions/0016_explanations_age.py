"""Explanations are forgotten by age."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_explanations_at", "explanations", ["at"])


def downgrade() -> None:
    op.drop_index("ix_explanations_at", "explanations")
