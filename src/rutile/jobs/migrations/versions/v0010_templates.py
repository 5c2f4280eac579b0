"""Settings that users keep under a name, and which of them a job began with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "templates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("privacy", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_templates_owner_id"),
        sa.PrimaryKeyConstraint("id", name="pk_templates"),
    )
    op.create_index("ix_templates_owner_id", "templates", ["owner_id"])
    op.create_index("ix_templates_task", "templates", ["task"])
    op.add_column("jobs", sa.Column("template_id", sa.Integer(), nullable=True))
    op.create_index("ix_jobs_template_id", "jobs", ["template_id"])


def downgrade() -> None:
    """Back."""
    op.drop_index("ix_jobs_template_id", "jobs")
    op.drop_column("jobs", "template_id")
    op.drop_table("templates")
