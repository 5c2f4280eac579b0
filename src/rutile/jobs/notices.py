"""What users should know: written in the transaction in which it becomes true, so once; sent later by others."""

from __future__ import annotations

import time

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.tables import DONE, FAIL, Job, Notice, NoticeChoice, Sending, User

KINDS = ("done", "failed", "held", "news")
KEPT = 90 * 86400.0
"""Notices are forgotten after so long (s)."""


def job_ended(session: Session, job: Job) -> None:
    """A job is done or has failed; who cancelled one knows it."""
    if job.state in (DONE, FAIL):
        said = "is done" if job.state == DONE else f"failed: {job.reason}"
        _tell(session, job.owner_id, "done" if job.state == DONE else "failed", f"{_name(job)} {said}", job.id)


def job_held(session: Session, job: Job) -> None:
    """A quota holds a job back."""
    _tell(session, job.owner_id, "held", f"{_name(job)} is held: {job.reason}", job.id)


def announced(session: Session, text: str) -> None:
    """Everybody should know something."""
    for number in session.scalars(sql.select(User.id).where(User.disabled.is_(False))).all():
        _tell(session, number, "news", text, None)


def _name(job: Job) -> str:
    return f"Job {job.id} ({job.name})"


def _tell(session: Session, user: int, kind: str, text: str, job: int | None) -> None:
    now = time.time()
    session.execute(sql.delete(Notice).where(Notice.user_id == user, Notice.created < now - KEPT))
    notice = Notice(user_id=user, kind=kind, text=text, job_id=job, created=now)
    session.add(notice)
    session.flush()
    choice = session.get(NoticeChoice, user)
    if choice is None:
        return
    for way, place, kinds in (
        ("mail", choice.mail, choice.mail_kinds),
        ("webhook", choice.webhook, choice.webhook_kinds),
    ):
        if place and kind in kinds:
            session.add(Sending(notice_id=notice.id, way=way, due=now))
