"""Deep pages of the list of jobs are reached through an index that holds what decides who sees a job."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_index("ix_jobs_list", "jobs", ["id", "state", "task", "privacy", "owner_id"])


def downgrade() -> None:
    """Back."""
    op.drop_index("ix_jobs_list", "jobs")
