"""Links that show one thing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
THINGS = {"job_id": "jobs", "dataset_id": "datasets", "model_id": "models", "structure_id": "structures"}


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "shares",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("secret", sa.String(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=True) for name in THINGS),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("used", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_shares_user_id", ondelete="CASCADE"),
        *(
            sa.ForeignKeyConstraint([name], [f"{table}.id"], name=f"fk_shares_{name}", ondelete="CASCADE")
            for name, table in THINGS.items()
        ),
        sa.PrimaryKeyConstraint("id", name="pk_shares"),
        sa.UniqueConstraint("secret", name="uq_shares_secret"),
    )
    for name in ("user_id", *THINGS):
        op.create_index(f"ix_shares_{name}", "shares", [name])


def downgrade() -> None:
    """Back."""
    op.drop_table("shares")
