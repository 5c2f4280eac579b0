"""What is kept of a job when it has ended, besides its folder."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from rutile.core.errors import RutileError
from rutile.jobs.home import Home
from rutile.jobs.registry import note_errors, register_of_job
from rutile.jobs.tables import DONE, Job

log = logging.getLogger("rutile.server")


def harvest(session: Session, home: Home, job: Job) -> None:
    """Put the model that a job made into the registry; note errors that it found with the model that it was of."""
    if job.state != DONE:
        return
    try:
        with session.begin_nested():
            register_of_job(session, home, job)
            note_errors(session, home, job)
    except (RutileError, OSError, KeyError, TypeError, ValueError):
        log.exception("job %d", job.id)  # that it ended is written down all the same
