"""The job of whose files a structure was kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("structures", sa.Column("job_id", sa.Integer(), nullable=True))
    op.create_index("ix_structures_job_id", "structures", ["job_id"])


def downgrade() -> None:
    """Back."""
    op.drop_index("ix_structures_job_id", "structures")
    op.drop_column("structures", "job_id")
