"""Links that show one thing, to everybody who has them, until they end or are taken back."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.tables import Dataset, Job, Share, StoredModel, StoredStructure, User
from rutile.server.secrets import kept_of, new_secret

KINDS: dict[str, type[Any]] = {
    "job": Job, "search": Job, "dataset": Dataset, "model": StoredModel, "structure": StoredStructure,
}  # fmt: skip
"""What can be shared. A search is a job of which only what it found is shown."""


def share(session: Session, user: User, kind: str, number: int, days: float) -> tuple[Share, str]:
    """Make a link to a thing that its maker may change; the row, and the secret, which is not kept."""
    secret, now = new_secret(), time.time()
    session.execute(sql.delete(Share).where(Share.expires < now))
    row = Share(
        secret=kept_of(secret), user_id=user.id, kind=kind, created=now, expires=now + 86400 * days,
        **{column_of(kind): number},
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row, secret


def opened(session: Session, secret: str) -> Share | None:
    """The link with a secret; None where it has ended, its maker's account has, or there never was one."""
    row = session.scalar(sql.select(Share).where(Share.secret == kept_of(secret)))
    now = time.time()
    if row is None or row.expires < now or row.user.disabled or (row.user.expires or now) < now:
        return None
    return row


def links_of(session: Session, user: User) -> list[tuple[Share, str]]:
    """Somebody's links that have not ended, newest first, each with the name of its thing."""
    mine = sql.select(Share).where(Share.user_id == user.id, Share.expires > time.time())
    rows = session.scalars(mine.order_by(Share.id.desc()))
    return [(row, thing_of(session, row).name) for row in rows]


def thing_of(session: Session, row: Share) -> Any:
    """What a link shows."""
    return session.get_one(KINDS[row.kind], number_of(row))


def number_of(row: Share) -> int:
    """Number of the thing that a link shows."""
    return int(getattr(row, column_of(row.kind)))


def column_of(kind: str) -> str:
    """The column that holds the number of a thing of a kind."""
    return "job_id" if kind == "search" else f"{kind}_id"
