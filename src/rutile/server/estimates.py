"""What can be said of a job before it is submitted: how long it will wait and take, what it costs, what is left for it.

One rule for the home page and for forms. A job waits for nothing where the queue would choose it now; otherwise half of
the jobs of the last week that asked for as many cores and had to wait waited less.
"""

from __future__ import annotations

import statistics
import time

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs import queue
from rutile.jobs.places import Here
from rutile.jobs.queue import Wish
from rutile.jobs.slots import choose, too_large
from rutile.jobs.tables import DONE, HELD, Job, User
from rutile.jobs.waits import usual_wait
from rutile.server.platform import Platform


class Expected(Result):
    """What jobs of this task took here before."""

    jobs: int
    """So many ended well."""
    seconds: float
    """Half of them took less."""
    longest: float
    """The longest of them (s)."""
    memory: float
    """Half of them used less (GB)."""


class Estimate(Result):
    """What a job is likely to wait and to cost."""

    wait: float | None
    """Seconds until it begins; 0: at once; null: unknown."""
    core_hours: float | None
    """Its cores times the time that jobs of this task took; null: there were none."""
    gpu_hours: float | None
    """The same of its GPUs."""
    core_hours_left: float | None
    """What is left of the quota, one's own or the group's, whichever is less; null: there is none."""
    gpu_hours_left: float | None
    """The same of GPUs."""


def expected_of(session: Session, task: str) -> Expected | None:
    """What the last jobs of a task took here that ended well; None: there were none."""
    rows = session.execute(
        sql.select(Job.ended - Job.started, Job.peak_memory)
        .where(Job.task == task, Job.state == DONE, Job.started.is_not(None))
        .order_by(Job.id.desc())
        .limit(50)
    ).all()
    if not rows:
        return None
    seconds = [r[0] for r in rows if r[0] is not None]
    memory = statistics.median(float(r[1]) for r in rows)
    return Expected(jobs=len(rows), seconds=statistics.median(seconds), longest=max(seconds), memory=memory)


def estimate_of(session: Session, platform: Platform, user: User, wish: Wish, expected: Expected | None) -> Estimate:
    """What a job is likely to wait and to cost.

    Args:
        session: that reads.
        platform: where it would run.
        user: who would submit it.
        wish: what it asks for.
        expected: what jobs of its task took.
    """
    hours = None if expected is None else expected.seconds / 3600
    left = queue.left_of_quotas(session, user)
    return Estimate(
        wait=expected_wait(session, platform, user, wish),
        core_hours=None if hours is None else hours * wish.cores,
        gpu_hours=None if hours is None else hours * wish.gpus,
        core_hours_left=left.get("core_hours"), gpu_hours_left=left.get("gpu_hours"),
    )  # fmt: skip


def expected_wait(session: Session, platform: Platform, user: User, wish: Wish) -> float | None:
    """Seconds until a job begins: 0.0 at once, None unknown, as where it never would or nobody has had to wait.

    Args:
        session: that reads.
        platform: where it would run.
        user: who would submit it.
        wish: what it asks for.
    """
    place = platform.places.get(wish.queue)
    job = Job(
        id=0, owner_id=user.id, owner=user, created=time.time(), gpu_ids=[], cores=wish.cores, gpus=wish.gpus,
        memory=wish.memory, priority=min(wish.priority, user.priority),
    )  # fmt: skip
    if isinstance(place, Here):
        if too_large(job, platform.capacity):
            return None
        if _begins_now(session, platform, wish.queue, job):
            return 0.0
    return None if place is None else usual_wait(session, wish.queue, wish.cores)


def _begins_now(session: Session, platform: Platform, name: str, job: Job) -> bool:
    """Whether the queue of this machine would choose a job now, beside those that wait."""
    working = [one for one in queue.at_work(session) if one.queue == name]
    others = [one for one in queue.next_waiting(session, name, each=5, most=50) if one.state != HELD]
    before = [one for one in others if one.priority >= job.priority]
    waiting = [*before, job, *others[len(before) :]]
    chosen, _ = choose(waiting, working, platform.capacity, time.time(), platform.limits.held(name, working))
    return any(choice.job is job for choice in chosen)
