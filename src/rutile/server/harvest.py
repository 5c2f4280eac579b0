"""What is kept of a job when it has ended, besides its folder."""

from __future__ import annotations

from sqlalchemy.orm import Session

from rutile.jobs.home import Home
from rutile.jobs.tables import Job


def harvest(session: Session, home: Home, job: Job) -> None:
    """Look at a job that has ended; nothing is kept of it yet."""
    del session, home, job
