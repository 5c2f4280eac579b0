"""Jobs of one state, newest first."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_index("ix_jobs_state", "jobs", ["state", "id"])


def downgrade() -> None:
    """Back."""
    op.drop_index("ix_jobs_state", "jobs")
