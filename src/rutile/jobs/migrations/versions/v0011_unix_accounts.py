"""The Unix accounts under which users run jobs, and under which each job ran."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.add_column("users", sa.Column("unix_account", sa.String(), nullable=True))
    op.create_index("ix_users_unix_account", "users", ["unix_account"], unique=True)
    op.add_column("jobs", sa.Column("unix_account", sa.String(), nullable=True))


def downgrade() -> None:
    """Back."""
    op.drop_column("jobs", "unix_account")
    op.drop_index("ix_users_unix_account", "users")
    op.drop_column("users", "unix_account")
