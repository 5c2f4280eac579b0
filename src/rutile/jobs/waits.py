"""How long jobs usually wait: as half of those did that asked for as many cores last week, and had to wait."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.jobs.tables import Job

WEEK = 7 * 86400.0
AT_ONCE = 5.0
"""Seconds after which a job begins for which there is room."""
FEW = 5
"""With fewer jobs as large as this one, all are looked at."""
GOOD = 60.0
"""Seconds for which a usual wait is not asked again."""


def usual_wait(session: Session, queue: str, cores: int) -> float | None:
    """Seconds that jobs of so many cores usually wait, of those that wait; None: none had to.

    Args:
        session: that reads.
        queue: its name.
        cores: that a job asks for.
    """
    rows = session.execute(
        sql.select(Job.started - Job.created, Job.cores)
        .where(Job.queue == queue, Job.created > time.time() - WEEK, Job.started > Job.created + AT_ONCE)
        .order_by(Job.id.desc())
        .limit(500)
    ).all()
    large = [float(wait) for wait, has in rows if wait is not None and has >= cores]
    waits = large if len(large) >= FEW else [float(wait) for wait, _ in rows if wait is not None]
    return statistics.median(waits) if waits else None


def about(seconds: float) -> str:
    """A time that is only likely, in words.

    >>> about(20), about(230), about(2000), about(9000), about(200_000)
    ('about 1 min', 'about 4 min', 'about 35 min', 'about 3 h', 'about 56 h')
    """
    minutes = max(1, round(seconds / 60))
    if minutes > 90:
        return f"about {round(seconds / 3600 + 0.49)} h"
    return f"about {minutes if minutes <= 10 else 5 * round(minutes / 5)} min"


class Waits:
    """Usual waits, asked for once a minute."""

    def __init__(self) -> None:
        """Nothing was asked yet."""
        self._known: dict[tuple[str, int], tuple[float, float | None]] = {}

    def said(self, session: Session, jobs: Iterable[Job], reasons: Mapping[int, str]) -> dict[int, str]:
        """Why jobs wait, with the time that they are likely to wait yet, where it is known.

        Args:
            session: that reads.
            jobs: that wait.
            reasons: of those that do not start, by number.
        """
        now, out = time.time(), dict(reasons)
        for job in jobs:
            reason = reasons.get(job.id, "")
            usual = self._usual(session, job, now) if reason.startswith("waits") else None
            if usual is not None and usual > now - job.created:
                out[job.id] = f"{reason}, {about(usual - now + job.created)}"
        return out

    def _usual(self, session: Session, job: Job, now: float) -> float | None:
        key = (job.queue, job.cores)
        until, wait = self._known.get(key, (0.0, None))
        if until < now:
            wait = usual_wait(session, job.queue, job.cores)
            self._known[key] = (now + GOOD, wait)
        return wait
