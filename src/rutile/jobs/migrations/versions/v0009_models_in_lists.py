"""Version of a model among those of one name, and its errors and speed, by which lists are ordered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from rutile.jobs.known_errors import best_known

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LISTED = {"energy_rmse": "energy_rmse", "force_rmse": "force_rmse", "speed": "atoms_per_second"}
"""Columns of this revision, whatever later ones list."""


def upgrade() -> None:
    """Forward; models of one owner and name are counted in the order in which they came."""
    op.add_column("models", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    for name in LISTED:
        op.add_column("models", sa.Column(name, sa.Double(), nullable=True))
    models = sa.table(
        "models", *(sa.column(name) for name in ("id", "owner_id", "name", "version", *LISTED)),
        *(sa.column(name, sa.JSON()) for name in ("metrics", "datasets")),
    )  # fmt: skip
    versions: dict[tuple[int, str], int] = {}
    for row in op.get_bind().execute(sa.select(models).order_by(models.c.id)).all():
        same = (row.owner_id, row.name)
        versions[same] = versions.get(same, 0) + 1
        known = best_known(row.metrics or [], [one["reference"] for one in row.datasets or []])
        values = {column: known[column]["values"][name] for column, name in LISTED.items() if column in known}
        op.execute(models.update().where(models.c.id == row.id).values(version=versions[same], **values))


def downgrade() -> None:
    """Back."""
    for name in ("version", *LISTED):
        op.drop_column("models", name)
