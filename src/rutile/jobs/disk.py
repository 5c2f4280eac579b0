"""Who takes how much space: from sizes that are noted when things are made, so that nobody walks through folders.

What is kept by its content (versions of data sets with their index, models) counts once for each account that has it,
and once for a group, however many things hold it.
"""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.home import Home
from rutile.jobs.safe_files import everything
from rutile.jobs.tables import Dataset, DatasetVersion, Job, StoredModel, StoredStructure, Upload, User

SHELF = "shelf"
"""Folder of the index of a data set, beside its file."""
KINDS = ("jobs", "uploads", "datasets", "models", "structures")
"""What takes space."""


def bytes_in(folder: Path) -> int:
    """Size of all that lies in a folder; what it only links to is not counted."""
    return sum(info.st_size for _, info in everything(folder) if not stat.S_ISDIR(info.st_mode))


def size_of(version: DatasetVersion) -> int:
    """Bytes of a version of a data set: its file and its index."""
    return version.bytes + (version.index_bytes or 0)


def bytes_by_kind(session: Session, users: list[int]) -> dict[str, int]:
    """Bytes of all that some users have together, by kind."""
    return {
        kind: int(session.scalar(sql.select(sql.func.coalesce(sql.func.sum(found.c.bytes), 0))) or 0)
        for kind, found in _sizes(None, users).items()
    }


def bytes_by_user(session: Session) -> dict[int | None, int]:
    """Bytes of all that each user has; of those who have nothing, nothing is said."""
    return _summed(session, User.id)


def bytes_by_group(session: Session) -> dict[int | None, int]:
    """Bytes of all that the members of each group have together; None: of those without a group."""
    return _summed(session, User.group_id)


def _summed(session: Session, each: Any) -> dict[int | None, int]:
    out: dict[int | None, int] = {}
    for found in _sizes(each, None).values():
        rows = sql.select(found.c.each, sql.func.sum(found.c.bytes)).group_by(found.c.each)
        for who, size in session.execute(rows):
            out[who] = out.get(who, 0) + int(size or 0)
    return {who: size for who, size in out.items() if size}


def _sizes(each: Any, users: list[int] | None) -> dict[str, sql.Subquery]:
    """Rows of `each` and `bytes` for each kind; one for each content where contents are shared.

    Args:
        each: a column of the users by which contents are told apart; None: they are not.
        users: only theirs; None: everybody's.
    """
    whose = sql.null() if each is None else each
    index = sql.func.coalesce(DatasetVersion.index_bytes, 0)

    def of(owner: Any, size: Any, content: Any = None) -> sql.Subquery:
        rows = sql.select(whose.label("each"), (size if content is None else sql.func.max(size)).label("bytes"))
        rows = rows.select_from(owner.class_)
        if owner.class_ is Dataset:
            rows = rows.join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        rows = rows.join(User, User.id == owner)
        rows = rows if users is None else rows.where(owner.in_(users))
        parts = [content] if each is None else [content, each]
        return (rows if content is None else rows.group_by(*parts)).subquery()

    return {
        "jobs": of(Job.owner_id, Job.bytes),
        "uploads": of(Upload.owner_id, Upload.received),
        "datasets": of(Dataset.owner_id, DatasetVersion.bytes + index, DatasetVersion.sha256),
        "models": of(StoredModel.owner_id, StoredModel.bytes, StoredModel.sha256),
        "structures": of(StoredStructure.owner_id, sql.func.coalesce(StoredStructure.bytes, 0)),
    }


def note_sizes(session: Session, home: Home) -> None:
    """Note the sizes of what was made before they were noted."""
    for version in session.scalars(sql.select(DatasetVersion).where(DatasetVersion.index_bytes.is_(None))):
        version.index_bytes = bytes_in(home.dataset(version.sha256) / SHELF)
    for structure in session.scalars(sql.select(StoredStructure).where(StoredStructure.bytes.is_(None))):
        with suppress(OSError):
            structure.bytes = home.structure(structure.id).stat().st_size
