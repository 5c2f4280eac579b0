"""The table of jobs is the queue: jobs are added, claimed by one who compares and swaps, ended, done again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

import rutile
from rutile.core.errors import SettingsError
from rutile.jobs import folder as kept
from rutile.jobs import notices
from rutile.jobs.disk import bytes_by_kind
from rutile.jobs.home import Home
from rutile.jobs.places import Place
from rutile.jobs.references import Input
from rutile.jobs.rights import ended
from rutile.jobs.tables import (
    ACTIVE,
    CANCEL,
    ENDED,
    HELD,
    PRIVATE,
    QUEUED,
    STARTING,
    WAITING,
    DatasetVersion,
    Job,
    Quotas,
    StoredModel,
    StoredStructure,
    User,
)


@dataclass(frozen=True)
class Wish:
    """What a user asks for, besides task and settings."""

    name: str = ""
    privacy: str = PRIVATE
    queue: str = "local"
    cores: int = 1
    gpus: int = 0
    memory: float = 4.0
    wall_time: float | None = None
    priority: int = 50
    tags: Sequence[str] = field(default_factory=list)
    parent_id: int | None = None
    cloned_from: int | None = None
    template_id: int | None = None


def submit(
    session: Session, owner: User, task: str, settings: dict[str, Any], key: str, inputs: list[Input], wish: Wish
) -> Job:
    """Put a job into the queue; its settings have been checked.

    Args:
        session: that writes.
        owner: who submits.
        task: name of the task.
        settings: as given, with references.
        key: of the question, as of `check.job_key`.
        inputs: what the references mean.
        wish: everything else.
    """
    held = over_quota(session, owner)
    job = Job(
        name=wish.name or task, task=task, settings=settings, key=key, owner_id=owner.id, owner=owner,
        privacy=wish.privacy, tags=list(wish.tags), state=HELD if held else QUEUED, reason=held, queue=wish.queue,
        cores=wish.cores, gpus=wish.gpus, memory=wish.memory, wall_time=wish.wall_time,
        priority=min(wish.priority, owner.priority), created=time.time(), parent_id=wish.parent_id,
        cloned_from=wish.cloned_from, template_id=wish.template_id, version=rutile.__version__,
        inputs=[asdict(i) for i in inputs],
    )  # fmt: skip
    session.add(job)
    session.flush()
    if held:
        notices.job_held(session, job)
    return job


def again(session: Session, job: Job, owner: User) -> Job:
    """The same job once more, as another one."""
    wish = Wish(
        job.name, job.privacy, job.queue, job.cores, job.gpus, job.memory, job.wall_time, job.priority, job.tags,
        job.parent_id, job.id,
    )  # fmt: skip
    inputs = [Input(**one) for one in job.inputs]
    return submit(session, owner, job.task, job.settings, job.key, inputs, wish)


def claim(session: Session, number: int, gpu_ids: Sequence[int] = ()) -> bool:
    """Take a job that waits; False where another one took it, or it was cancelled."""
    took = session.execute(
        sql.update(Job)
        .where(Job.id == number, Job.state.in_(WAITING), Job.cancelled.is_(False))
        .values(state=STARTING, claimed=time.time(), gpu_ids=list(gpu_ids), reason="")
    )
    assert isinstance(took, CursorResult)
    return took.rowcount == 1


def cancel(session: Session, home: Home, job: Job) -> None:
    """End a job: one that waits at once, one at work as soon as it has written what it must.

    Raises:
        SettingsError: it has ended.
    """
    if job.state in ENDED:
        raise SettingsError(f"job {job.id} has ended: {job.state}")
    job.cancelled = True
    if job.state in WAITING:
        job.state, job.ended, job.reason = CANCEL, time.time(), "cancelled before it began"
    elif home.job(job.id).is_dir():
        kept.ask_to_stop(home.job(job.id))


def delete(session: Session, home: Home, places: Mapping[str, Place], job: Job) -> None:
    """Remove a job that has ended, with its folder; what was kept of its files stays, and names no job any more.

    The number may be given to another job (SQLite does that with the highest one).

    Args:
        session: that writes.
        home: with the folders.
        places: where jobs run, by queue.
        job: to be removed.

    Raises:
        SettingsError: it has not ended, another one reads what it wrote, or its folder cannot be removed.
    """
    if job.state not in ENDED:
        raise SettingsError(f"job {job.id} is {job.state}: cancel it first")
    refuse_in_use(session, f"job:{job.id}")
    remove(places, job, home.job(job.id))
    for table in (StoredModel, DatasetVersion, StoredStructure):
        session.execute(sql.update(table).where(table.job_id == job.id).values(job_id=None))
    session.delete(job)


def remove(places: Mapping[str, Place], job: Job, folder: Path) -> None:
    """Remove the folder of a job, or one in it.

    Args:
        places: where jobs run, by queue.
        job: that wrote there.
        folder: to be removed.

    Raises:
        SettingsError: something in it cannot be removed.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists() and job.queue in places:
        places[job.queue].clear(job, folder)
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        whose = f" as {job.unix_account}" if job.unix_account else ""
        raise SettingsError(f"job {job.id}: {folder} cannot be removed by the server; remove it{whose}, then try again")


def refuse_in_use(session: Session, thing: str, place: Path | None = None) -> None:
    """Refuse to remove what a job that has not ended reads.

    Args:
        session: that reads or writes.
        thing: as settings name it: dataset:3, model:5, structure:7, job:12, upload:...
        place: only what is read from this folder (one version of a data set).

    Raises:
        SettingsError: names that job.
    """
    for number, state, one in being_read(session):
        if thing_of(one) == thing and (place is None or Path(one["source"]).is_relative_to(place)):
            raise SettingsError(
                f"job {number} ({state}) reads {one['reference']}: wait until it has ended, or cancel it first"
            )


def being_read(session: Session) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """What jobs that have not ended read: number and state of the job, and the input."""
    live = sql.select(Job.id, Job.state, Job.inputs).where(Job.state.in_((*WAITING, *ACTIVE))).order_by(Job.id)
    for number, state, inputs in session.execute(live):
        yield from ((number, state, one) for one in inputs)


def thing_of(one: dict[str, Any]) -> str:
    """What an input is part of, as settings name it: dataset:3, upload:..."""
    return str(one["reference"]).split("@")[0].split("/")[0]


def tree_below(session: Session, number: int) -> list[Job]:
    """All jobs that a job has as children, their children, and so on, oldest first."""
    below = sql.select(Job.id).where(Job.parent_id == number).cte(recursive=True)
    below = below.union_all(sql.select(Job.id).join(below, Job.parent_id == below.c.id))
    return list(session.scalars(sql.select(Job).where(Job.id.in_(sql.select(below.c.id))).order_by(Job.id)))


def at_work(session: Session) -> list[Job]:
    """Jobs that are being started or run."""
    return list(session.scalars(sql.select(Job).where(Job.state.in_(ACTIVE)).order_by(Job.id)))


def next_waiting(session: Session, queue: str, each: int = 50, most: int = 1000) -> list[Job]:
    """Jobs that could be started, in their order: priority, then age; those that are held are looked at again.

    Args:
        session: that reads.
        queue: where they are to run.
        each: the first so many of an account, so that one whose jobs have to wait keeps nobody else's from sight.
        most: so many in all.
    """
    order = (Job.priority.desc(), Job.id)
    rank = sql.func.row_number().over(partition_by=Job.owner_id, order_by=order).label("rank")
    ranked = sql.select(Job.id, rank).where(Job.state.in_(WAITING), Job.queue == queue).subquery()
    first = sql.select(Job).join(ranked, ranked.c.id == Job.id).where(ranked.c.rank <= each)
    return list(session.scalars(first.order_by(*order).limit(most)))


def used(session: Session, users: Iterable[int]) -> tuple[float, float, float]:
    """Core hours, GPU hours and disk (GB; all that `disk` counts) of some users."""
    those = list(users)
    row = session.execute(
        sql.select(
            sql.func.coalesce(sql.func.sum(Job.core_seconds), 0.0),
            sql.func.coalesce(sql.func.sum(Job.gpu_seconds), 0.0),
        ).where(Job.owner_id.in_(those))
    ).one()
    return row[0] / 3600, row[1] / 3600, sum(bytes_by_kind(session, those).values()) / 1e9


QUOTAS = (("core_hours", "core hours"), ("gpu_hours", "GPU hours"), ("disk_gb", "GB of disk"))


def held_back(session: Session, user: User) -> str:
    """Why no job of a user may begin, whatever is free; "" where some may."""
    if ended(user):
        return f"the account {user.name} has ended or is closed: an administrator can open it again"
    return over_quota(session, user)


def over_quota(session: Session, user: User, disk: float | None = None) -> str:
    """Why a user's jobs are held, and what helps; "" where no limit is reached.

    Args:
        session: that reads.
        user: whose.
        disk: GB that are to come; only the limit of disk is looked at then.
    """
    for whose, name, unit, limit, amount in _against_quotas(session, user):
        if disk is not None and name != "disk_gb":
            continue
        helps = "free some (page Account), or ask" if name == "disk_gb" else "ask"
        if amount >= limit:
            return f"{whose} quota is used up: {amount:.3g} of {limit:g} {unit}: {helps} an administrator"
        if disk is not None and amount + disk > limit:
            left = f"{limit - amount:.3g} of {limit:g} {unit} are left, and it has {disk:.3g}"
            return f"{whose} quota is too small for it: {left}: {helps} an administrator"
    return ""


def left_of_quotas(session: Session, user: User) -> dict[str, float]:
    """What is left of each quota that there is, the user's own or the group's, whichever is less."""
    left: dict[str, float] = {}
    for _, name, _, limit, amount in _against_quotas(session, user):
        left[name] = min(left.get(name, limit), max(0.0, limit - amount))
    return left


def _against_quotas(session: Session, user: User) -> Iterator[tuple[str, str, str, float, float]]:
    """Whose quota, of what, in which unit, the limit, and what is used of it: of a user, then of the group."""
    group = user.group
    checks: list[tuple[Quotas, list[int], str]] = [(user, [user.id], "your")]
    if group is not None and any(getattr(group, name) is not None for name, _ in QUOTAS):
        mates = list(session.scalars(sql.select(User.id).where(User.group_id == group.id)))
        checks.append((group, mates, f"group {group.name}'s"))
    for who, members, whose in checks:
        limits = [getattr(who, name) for name, _ in QUOTAS]
        if all(limit is None for limit in limits):
            continue
        for limit, amount, (name, unit) in zip(limits, used(session, members), QUOTAS, strict=True):
            if limit is not None:
                yield whose, name, unit, limit, amount
