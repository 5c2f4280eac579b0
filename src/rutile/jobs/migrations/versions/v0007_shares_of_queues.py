"""The largest share of a queue that accounts and groups may hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    for table in ("users", "groups"):
        op.add_column(table, sa.Column("cores_percent", sa.Double(), nullable=True))


def downgrade() -> None:
    """Back."""
    for table in ("users", "groups"):
        op.drop_column(table, "cores_percent")
