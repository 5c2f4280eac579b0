"""Users whom a provider of single sign-on knows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "identities",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("invited", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("used", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_identities_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name="pk_identities"),
        sa.UniqueConstraint("subject", "issuer", name="uq_identities_subject"),
        sa.UniqueConstraint("invited", "issuer", name="uq_identities_invited"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("identities")
