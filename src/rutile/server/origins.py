"""Which job a kept structure comes from, as the audit log says it: who kept what, and of which file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.references import REFERENCE
from rutile.jobs.rights import visible
from rutile.jobs.tables import AuditLine, Job, StoredStructure, User

KEPT = "kept a structure"
"""How the audit log calls it."""
WITHIN = 60.0
"""Seconds within which a structure that was made is noted: the index of times leads to its line."""


def structures_of(session: Session, job: int, user: User, most: int) -> list[int]:
    """Numbers of the structures that were kept of what a job wrote, as far as a user may see them."""
    file = _file()
    of_job = sql.or_(file == f"job:{job}", file.startswith(f"job:{job}/", autoescape=True))
    query = _noted(StoredStructure.id).where(of_job, visible(StoredStructure, user))
    return list(session.scalars(query.order_by(StoredStructure.id).limit(most)))


def jobs_of(session: Session, structures: Sequence[int], user: User) -> dict[int, int]:
    """Structure -> the job that it was kept of, where it comes from one that a user may see."""
    query = _noted(StoredStructure.id, _file()).where(StoredStructure.id.in_(structures))
    matches = {number: REFERENCE.fullmatch(file or "") for number, file in session.execute(query)}
    jobs = {number: int(match[2]) for number, match in matches.items() if match and match[1] == "job"}
    seen = set(session.scalars(sql.select(Job.id).where(Job.id.in_(set(jobs.values())), visible(Job, user))))
    return {number: job for number, job in jobs.items() if job in seen}


def _file() -> sql.ColumnElement[str]:
    file: sql.ColumnElement[str] = AuditLine.after["file"].as_string()
    return file


def _noted(*columns: Any) -> sql.Select[Any]:
    """Structures beside the line that says how each was kept; numbers may be used again, times are not."""
    line = sql.and_(
        AuditLine.time.between(StoredStructure.created, StoredStructure.created + WITHIN),
        AuditLine.action == KEPT,
        AuditLine.thing == "structure " + sql.cast(StoredStructure.id, sql.String),
    )
    return sql.select(*columns).select_from(StoredStructure).join(AuditLine, line)
