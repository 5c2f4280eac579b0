"""Sizes of structures and of the indices of data sets, which count as disk; what is there is measured by the server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("structures", sa.Column("bytes", sa.BigInteger(), nullable=True))
    op.add_column("dataset_versions", sa.Column("index_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Back."""
    op.drop_column("dataset_versions", "index_bytes")
    op.drop_column("structures", "bytes")
