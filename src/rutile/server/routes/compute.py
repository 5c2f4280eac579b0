"""What there is to compute on, who uses it, and how long jobs wait."""

from __future__ import annotations

import statistics
import time
from typing import Annotated

import psutil
import sqlalchemy as sql
from fastapi import APIRouter, Query

from rutile.core.settings import Result
from rutile.jobs.places import Here as ThisMachine
from rutile.jobs.places import Slurm
from rutile.jobs.queue import Wish
from rutile.jobs.rights import visible
from rutile.jobs.slots import Capacity
from rutile.jobs.tables import ACTIVE, RUNNING, WAITING, Job
from rutile.server.estimates import expected_wait
from rutile.server.people import Here, Reading, Somebody

router = APIRouter(prefix="/compute", tags=["compute"])


class QueueView(Result):
    """A place where jobs run."""

    name: str
    """local, or a cluster."""
    kind: str
    """this machine, or Slurm."""
    cores: int | None
    """Cores that there are; null: the cluster knows."""
    memory: float | None
    """Memory that there is (GB)."""
    gpus: int | None
    """GPUs that there are."""
    cores_used: int
    """Cores of jobs at work."""
    memory_used: float
    """Memory that jobs at work asked for (GB)."""
    gpus_used: int
    """GPUs of jobs at work."""
    working: int
    """Jobs at work."""
    waiting: int
    """Jobs that wait."""
    wait: float | None
    """Half of the jobs of the last week waited less (s)."""
    expected: float | None
    """Seconds that a job of one core would wait now; 0: it would begin at once; null: unknown."""


class Part(Result):
    """What one account uses now."""

    owner: str
    """The account."""
    jobs: int
    """Jobs at work."""
    cores: int
    """Their cores."""
    gpus: int
    """Their GPUs."""


class ComputeView(Result):
    """What there is, and who uses it."""

    queues: list[QueueView]
    """Places where jobs run."""
    users: list[Part]
    """Who uses what now."""
    load: float
    """Processes of this machine that want a core (1 minute)."""
    cpu_percent: float
    """Of this machine's cores, since the last question."""
    memory_percent: float
    """Of this machine's memory."""
    disk_free: float
    """Where the platform keeps its files (GB)."""


class GpuView(Result):
    """A GPU of this machine."""

    index: int
    """Its number."""
    name: str
    """Of its model."""
    load: float | None
    """Time at work now (percent); null: it does not say."""
    memory: float | None
    """Memory that is used (GB)."""
    memory_there: float | None
    """Memory that there is (GB)."""
    owner: str | None
    """Whose job has it."""
    job: int | None
    """Which job, where one may see it."""
    history: list[float | None]
    """Mean load (percent) in equal parts of the last hour, the newest last; null: not measured."""


class NodeView(Result):
    """A node of a cluster."""

    queue: str
    """The queue whose jobs may run there."""
    name: str
    """Of the node."""
    state: str
    """idle, mixed, allocated, drained, down ..."""
    partitions: list[str]
    """Partitions that it is in."""
    cores: int
    """Cores that there are."""
    cores_used: int
    """Cores of jobs, whoever's."""
    memory: float
    """Memory that there is (GB)."""
    memory_used: float
    """Memory that jobs asked for (GB)."""
    gpus: int
    """GPUs that there are."""
    gpus_used: int
    """GPUs of jobs."""


class Waiting(Result):
    """How long jobs waited in one piece of time."""

    since: float
    """Begin (s since 1970)."""
    jobs: int
    """Jobs that began."""
    median: float
    """Half of them waited less (s)."""
    longest: float
    """The longest (s)."""


@router.get("")
def see_compute(who: Somebody, platform: Here, session: Reading) -> ComputeView:
    """Queues with what is free, who uses what, and how this machine does."""
    queues = []
    for name, place in platform.places.items():
        here = isinstance(place, ThisMachine)
        expected = expected_wait(session, platform, who.user, Wish(queue=name, memory=1.0))
        queues.append(_queue(session, name, platform.capacity if here else None, expected))
    used = sql.select(Job).where(Job.state.in_(ACTIVE))
    users: dict[str, list[Job]] = {}
    for job in session.scalars(used):
        users.setdefault(job.owner.name, []).append(job)
    parts = [
        Part(owner=name, jobs=len(jobs), cores=sum(j.cores for j in jobs), gpus=sum(j.gpus for j in jobs))
        for name, jobs in users.items()
    ]
    return ComputeView(
        queues=queues, users=parts, load=psutil.getloadavg()[0], cpu_percent=psutil.cpu_percent(),
        memory_percent=psutil.virtual_memory().percent, disk_free=psutil.disk_usage(platform.home.folder).free / 1e9,
    )  # fmt: skip


@router.get("/gpus")
def see_gpus(
    who: Somebody, platform: Here, session: Reading, parts: Annotated[int, Query(ge=1, le=360)] = 60
) -> list[GpuView]:
    """Every GPU of this server, whose it is now, and how busy it was in the last hour; none where there is none."""
    jobs = session.scalars(sql.select(Job).where(Job.queue == "local", Job.state.in_(ACTIVE))).all()
    mine = set(session.scalars(sql.select(Job.id).where(Job.id.in_([j.id for j in jobs]), visible(Job, who.user))))
    theirs = {gpu: job for job in jobs for gpu in job.gpu_ids}
    out = []
    for index, now in enumerate(platform.gpus.look()):
        job = theirs.get(index)
        out.append(GpuView(
            index=index, name=now.name, load=now.load, memory=now.memory, memory_there=now.whole,
            owner=job.owner.name if job else None, job=job.id if job and job.id in mine else None,
            history=platform.gpus.loads(index, parts),
        ))  # fmt: skip
    return out


@router.get("/nodes")
def see_nodes(who: Somebody, platform: Here) -> list[NodeView]:
    """Nodes of the clusters that jobs go to, as Slurm says; none where there is no cluster or it does not answer."""
    del who
    return [
        NodeView(queue=name, **{**vars(node), "partitions": list(node.partitions)})
        for name, place in platform.places.items()
        if isinstance(place, Slurm)
        for node in place.nodes()
    ]


def _queue(session: Reading, name: str, capacity: Capacity | None, expected: float | None) -> QueueView:
    sums = session.execute(
        sql.select(
            sql.func.count(), sql.func.coalesce(sql.func.sum(Job.cores), 0),
            sql.func.coalesce(sql.func.sum(Job.memory), 0.0), sql.func.coalesce(sql.func.sum(Job.gpus), 0),
        ).where(Job.queue == name, Job.state.in_(ACTIVE))
    ).one()  # fmt: skip
    waiting = session.scalar(sql.select(sql.func.count()).where(Job.queue == name, Job.state.in_(WAITING))) or 0
    week = time.time() - 7 * 86400
    waits = session.scalars(
        sql.select(Job.started - Job.created)
        .where(Job.queue == name, Job.started.is_not(None), Job.created > week)
        .order_by(Job.id.desc())
        .limit(500)
    ).all()
    return QueueView(
        name=name, kind="this machine" if capacity else "Slurm", cores=capacity.cores if capacity else None,
        memory=capacity.memory if capacity else None, gpus=capacity.gpus if capacity else None, working=sums[0],
        cores_used=sums[1], memory_used=sums[2], gpus_used=sums[3], waiting=waiting,
        wait=statistics.median(w for w in waits if w is not None) if waits else None, expected=expected,
    )  # fmt: skip


@router.get("/waiting")
def waiting_history(
    who: Somebody,
    session: Reading,
    days: Annotated[float, Query(gt=0, le=400)] = 7.0,
    parts: Annotated[int, Query(ge=1, le=200)] = 28,
) -> list[Waiting]:
    """How long jobs waited, piece by piece of the last days; jobs that one may see."""
    now = time.time()
    begin, width = now - 86400 * days, 86400 * days / parts
    rows = session.execute(
        sql.select(Job.started, Job.created)
        .where(Job.started >= begin, visible(Job, who.user), Job.state != RUNNING)
        .order_by(Job.id.desc())
        .limit(100_000)
    )
    waits: dict[int, list[float]] = {}
    for started, created in rows:
        assert started is not None
        waits.setdefault(min(parts - 1, int((started - begin) / width)), []).append(started - created)
    return [
        Waiting(since=begin + k * width, jobs=len(w), median=statistics.median(w), longest=max(w))
        for k, w in sorted(waits.items())
    ]
