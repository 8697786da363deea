"""Compute by the hour: what versions have used on each machine."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_AMOUNTS = ("run_ns", "shadow_ns", "load_ns", "rows", "answers")


def upgrade() -> None:
    op.create_table(
        "compute_hours",
        sa.Column("place", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("version", sa.Text()),
        sa.Column("hour", sa.DateTime(timezone=True)),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _AMOUNTS),
        *(sa.Column(f"seen_{name}", sa.BigInteger(), nullable=False) for name in _AMOUNTS),
        sa.PrimaryKeyConstraint("place", "model", "version", "hour", name="pk_compute_hours"),
    )
    op.create_index("ix_compute_hours_hour", "compute_hours", ["hour"])


def downgrade() -> None:
    op.drop_table("compute_hours")
