"""How jobs are shown: a row of the list, and everything about one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.settings import Result
from rutile.jobs import check
from rutile.jobs.folder import MADE_WITH, RESULT, read_json
from rutile.jobs.references import Input
from rutile.jobs.rights import may_change
from rutile.jobs.tables import ENDED, RUNNING, WAITING, Job, User
from rutile.server import forms
from rutile.server.people import Who
from rutile.server.platform import Platform

FULLY_USED = 0.5
"""Below this part of its cores a job is given a hint."""
PLAIN = (
    "id", "name", "task", "state", "reason", "privacy", "queue", "cores", "gpus", "memory", "priority", "tags",
    "created", "started", "ended", "progress", "doing", "exit_code", "parent_id", "core_seconds",
)  # fmt: skip
"""Columns of the table that a row shows as they are."""
FULL = (
    "settings", "native_id", "wall_time", "cpu_seconds", "gpu_seconds", "peak_memory", "bytes",
    "cloned_from", "key", "version",
)  # fmt: skip
"""Columns that are shown of one job."""
JOBS, USERS = Job.__table__.c, User.__table__.c
CHILDREN = Job.__table__.alias()
ROWS = (
    sql.select(
        *(JOBS[name] for name in (*PLAIN, "owner_id", "cpu_seconds")), USERS.name.label("owner"),
        sql.select(sql.func.count()).where(CHILDREN.c.parent_id == JOBS.id).scalar_subquery().label("children"),
    )
    .where(USERS.id == JOBS.owner_id, JOBS.id.in_(sql.bindparam("numbers", expanding=True)))
)  # fmt: skip
"""What a list shows of jobs: other columns may be long, and objects take longer to make than rows to read."""


class JobRow(Result):
    """A job in the list."""

    id: int
    """Its number."""
    name: str
    """Its name."""
    task: str
    """What it does."""
    state: str
    """QUEUED, HELD, STARTING, RUNNING, DONE, FAIL or CANCEL."""
    reason: str
    """Why it waits or failed, in one line."""
    privacy: str
    """private, group or public."""
    owner: str
    """Whose it is."""
    mine: bool
    """Whether the one who asks may change it."""
    queue: str
    """Where it runs: local, or a cluster."""
    cores: int
    """Cores it has."""
    gpus: int
    """GPUs it has."""
    memory: float
    """Memory it has (GB)."""
    priority: int
    """1 to 100; higher ones start first."""
    tags: list[str]
    """Words of its owner."""
    created: float
    """When it was submitted (s since 1970)."""
    started: float | None
    """When it began."""
    ended: float | None
    """When it ended."""
    waited: float
    """Seconds in the queue."""
    ran: float | None
    """Seconds at work."""
    progress: float | None
    """0 to 1; null: not known."""
    doing: str
    """What it is doing, in words."""
    efficiency: float | None
    """Part of its cores that it used, 0 to 1."""
    exit_code: int | None
    """Of the program: 0 done; 2 the input is at fault; 1 a bug of rutile; negative: the signal that ended it."""
    parent_id: int | None
    """The job that it belongs to."""
    children: int
    """Jobs that belong to it."""
    core_seconds: float
    """Cores times time: what is accounted."""


class JobView(JobRow):
    """A job with everything about it."""

    settings: dict[str, Any]
    """As given, with references."""
    command: str
    """The same as a command line, with the names that files have after a download."""
    yaml: str
    """The same as a job file."""
    python: str
    """The same in Python."""
    client: str
    """The same through this server, in Python."""
    inputs: list[dict[str, Any]]
    """What it read: setting, reference, name, sha256."""
    units: dict[str, str]
    """Of values in the result, by dotted names."""
    result: dict[str, Any] | None
    """What the task returned, once it is done."""
    hint: str
    """What could be asked for better next time."""
    native_id: str
    """Its number in Slurm; "": it has none."""
    unix_account: str | None
    """Under which it runs there, for those who may change it; None: that of the server."""
    wall_time: float | None
    """Longest time that it may take (s)."""
    cpu_seconds: float
    """Processor time that it used."""
    gpu_seconds: float
    """GPUs times time."""
    peak_memory: float
    """Largest memory at one time (GB)."""
    bytes: int
    """Size of its folder, once it has ended."""
    cloned_from: int | None
    """The job that it repeats."""
    key: str
    """Same question, same key."""
    version: str
    """Of rutile."""
    made_with: dict[str, str]
    """Versions of the programs that it ran with, and its seed, by name."""


class JobPage(Result):
    """A page of the list."""

    items: list[JobRow]
    """Jobs of this page."""
    total: int
    """Jobs that fit the filter."""
    page: int
    """This page; the first one is 1."""
    size: int
    """Jobs on a page."""
    counts: dict[str, int]
    """Jobs in each state that fit everything else of the filter."""


def rows_of(session: Session, numbers: Sequence[int], who: Who) -> list[JobRow]:
    """Jobs by their numbers as rows of a list, in this order; those that are gone are left out."""
    found = {row.id: _row(row, who) for row in session.execute(ROWS, {"numbers": numbers})}
    return [found[number] for number in numbers if number in found]


def _row(job: Any, who: Who) -> JobRow:
    now = time.time()
    ran = None if job.started is None else (job.ended or now) - job.started
    waited = ((job.started or job.ended) or now) - job.created
    used = job.cpu_seconds / (ran * job.cores) if ran and ran > 1 and job.state not in WAITING else None
    return JobRow(
        **{name: getattr(job, name) for name in (*PLAIN, "owner", "children")},
        mine=may_change(job, who.user), waited=max(0.0, waited), ran=ran,
        efficiency=None if used is None else min(1.0, used),
    )  # fmt: skip


def view_of(session: Session, platform: Platform, job: Job, who: Who) -> JobView:
    """A job with everything about it."""
    task = forms.known(job.task)
    inputs = [Input(**one) for one in job.inputs]
    plain = check.local_names(job.settings, inputs)
    (row,) = rows_of(session, [job.id], who)
    return JobView(
        **row.model_dump(), **{name: getattr(job, name) for name in FULL},
        command=check.as_command(task, plain) if task else "",
        yaml=check.as_yaml(plain),
        python=check.as_python(task, plain) if task else "",
        client=check.as_client(task, job.settings, platform.address) if task else "",
        inputs=[{k: v for k, v in one.items() if k != "source"} for one in job.inputs],
        units=forms.result_units(job.task) if task else {},
        result=read_json(platform.home.job(job.id) / RESULT) if job.state in ENDED else None,
        hint=hint(job, row.efficiency, row.ran),
        unix_account=job.unix_account if row.mine else None,
        made_with=read_json(platform.home.job(job.id) / MADE_WITH) or {},
    )  # fmt: skip


def hint(job: Job, efficiency: float | None, ran: float | None) -> str:
    """What could be asked for better next time, or ""."""
    if efficiency is None or ran is None or ran < 10 or (job.state == RUNNING and ran < 60):
        return ""
    out = []
    if job.cores > 1 and efficiency < FULLY_USED:
        need = max(1, round(efficiency * job.cores + 0.49))
        out.append(f"used {efficiency * job.cores:.1f} of {job.cores} cores: ask for {need}")
    if job.memory > 2 and job.peak_memory < 0.25 * job.memory:
        out.append(f"used {job.peak_memory:.1f} of {job.memory:g} GB: ask for {max(1, round(1.5 * job.peak_memory))}")
    return "; ".join(out)
