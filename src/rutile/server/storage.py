"""What takes space, and removing some of it: jobs, files of jobs, old versions of data sets, uploads that were left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy import orm
from sqlalchemy.orm import Session

from rutile.core.errors import SettingsError
from rutile.core.settings import Result
from rutile.jobs import data_sets, queue
from rutile.jobs.disk import bytes_in, size_of
from rutile.jobs.folder import FILES
from rutile.jobs.rights import may_change
from rutile.jobs.tables import ENDED, Dataset, DatasetVersion, Job, Upload, User
from rutile.server.platform import Platform

KINDS = ("job", "files", "version", "upload")


class Piece(Result):
    """Something that takes space and can be removed."""

    reference: str
    """To be removed by: job:12, files:12 (its files only), version:3@1, upload:..."""
    kind: str
    """job, files, version or upload."""
    name: str
    """What it is called."""
    owner: str
    """Whose it is."""
    state: str
    """How it is."""
    bytes: int
    """Its size."""
    created: float
    """When it was made (s since 1970)."""


@dataclass(frozen=True)
class _Found:
    """A piece that somebody may remove: what it frees, and how it is removed."""

    bytes: int
    remove: Callable[[], None]


def pieces(session: Session, owner: User | None, kind: str, until: float, most: int) -> list[Piece]:
    """What takes space, the largest first.

    Args:
        session: that reads.
        owner: only what is this user's; None: everybody's.
        kind: one of KINDS.
        until: only what was made before (s since 1970).
        most: so many at most.
    """
    finders = {"job": _jobs, "files": _files_of_failed, "version": _old_versions, "upload": _uploads}
    return finders[kind](session, None if owner is None else owner.id, until, most)


def _jobs(session: Session, owner: int | None, until: float, most: int) -> list[Piece]:
    return [_of_job("job", job) for job in session.scalars(_ended(owner, until).limit(most))]


def _files_of_failed(session: Session, owner: int | None, until: float, most: int) -> list[Piece]:
    failed = _ended(owner, until).where(Job.state == "FAIL", Job.bytes > 0)
    return [_of_job("files", job) for job in session.scalars(failed.limit(most))]


def _ended(owner: int | None, until: float) -> sql.Select[Job]:
    query = sql.select(Job).where(Job.state.in_(ENDED), Job.created < until)
    query = query if owner is None else query.where(Job.owner_id == owner)
    return query.order_by(Job.bytes.desc(), Job.id)


def _of_job(kind: str, job: Job) -> Piece:
    return _piece(f"{kind}:{job.id}", kind, job.name, job.owner.name, job.state, job.bytes, job.created)


def _piece(reference: str, kind: str, name: str, owner: str, state: str, size: int, created: float) -> Piece:
    return Piece(reference=reference, kind=kind, name=name, owner=owner, state=state, bytes=size, created=created)


def _old_versions(session: Session, owner: int | None, until: float, most: int) -> list[Piece]:
    other = orm.aliased(DatasetVersion)
    newest = sql.select(sql.func.max(other.number)).where(other.dataset_id == Dataset.id).correlate(Dataset)
    query = sql.select(DatasetVersion, Dataset).join(Dataset, Dataset.id == DatasetVersion.dataset_id)
    query = query.where(DatasetVersion.number < newest.scalar_subquery(), DatasetVersion.created < until)
    query = query if owner is None else query.where(Dataset.owner_id == owner)
    rows = session.execute(query.order_by(DatasetVersion.bytes.desc(), DatasetVersion.id).limit(most))
    return [
        _piece(
            f"version:{d.id}@{v.number}", "version", f"{d.name}, {v.file}", d.owner.name, v.state, size_of(v), v.created
        )
        for v, d in rows
    ]


def _uploads(session: Session, owner: int | None, until: float, most: int) -> list[Piece]:
    query = sql.select(Upload, User.name).join(User, User.id == Upload.owner_id).where(Upload.created < until)
    query = query if owner is None else query.where(Upload.owner_id == owner)
    rows = session.execute(query.order_by(Upload.received.desc(), Upload.id).limit(most))
    return [
        _piece(f"upload:{u.id}", "upload", u.name, name, "here" if u.received == u.size else "broken off", u.received,
              u.created)
        for u, name in rows
    ]  # fmt: skip


def free(
    session: Session, platform: Platform, user: User, references: Iterable[str], sure: bool
) -> tuple[dict[str, int], list[str]]:
    """Remove things, or only say what that would free.

    Args:
        session: that writes.
        platform: with the files.
        user: who asks; removes what is theirs, administrators everything.
        references: as of `Piece`.
        sure: whether to do it.

    Returns:
        Bytes of each thing that is or would be removed; why others are not.
    """
    freed: dict[str, int] = {}
    problems: list[str] = []
    for reference in dict.fromkeys(references):
        try:
            found = _found(session, platform, user, reference)
        except SettingsError as error:
            problems.append(str(error))
            continue
        freed[reference] = found.bytes
        if sure:
            found.remove()
            session.flush()
    return freed, problems


def _found(session: Session, platform: Platform, user: User, reference: str) -> _Found:
    """A thing that a user may remove.

    Raises:
        SettingsError: there is none, it is another one's, or it is still needed.
    """
    kind, _, name = reference.partition(":")
    finder = {"job": _job, "files": _files, "version": _version, "upload": _upload}.get(kind)
    found = None if finder is None else finder(session, platform, user, name)
    if found is None:
        raise SettingsError(f"{reference}: there is none that you may remove")
    return found


def _mine(thing: Any, user: User) -> bool:
    return thing is not None and may_change(thing, user)


def _number(name: str) -> int:
    return int(name) if name.isascii() and name.isdigit() and len(name) < 10 else 0


def _unused(session: Session, user: User, name: str) -> Job | None:
    """A job of theirs that has ended and that no other one is to read.

    Raises:
        SettingsError: it has not ended, or is read.
    """
    job = session.get(Job, _number(name))
    if job is None or not _mine(job, user):
        return None
    if job.state not in ENDED:
        raise SettingsError(f"job {job.id} is {job.state}: cancel it first")
    queue.refuse_in_use(session, f"job:{job.id}")
    return job


def _job(session: Session, platform: Platform, user: User, name: str) -> _Found | None:
    job = _unused(session, user, name)
    if job is None:
        return None
    return _Found(
        bytes_in(platform.home.job(job.id)), lambda: queue.delete(session, platform.home, platform.places, job)
    )


def _files(session: Session, platform: Platform, user: User, name: str) -> _Found | None:
    job = _unused(session, user, name)
    if job is None:
        return None
    folder = platform.home.job(job.id) / FILES

    def remove() -> None:
        queue.remove(platform.places, job, folder)
        job.bytes = bytes_in(platform.home.job(job.id))

    return _Found(bytes_in(folder), remove)


def _version(session: Session, platform: Platform, user: User, name: str) -> _Found | None:
    number, _, which = name.partition("@")
    dataset = session.get(Dataset, _number(number))
    if dataset is None or not _mine(dataset, user):
        return None
    version = next((v for v in dataset.versions if v.number == _number(which)), None)
    if version is None:
        return None
    if version is dataset.versions[-1]:
        raise SettingsError(f"dataset:{dataset.id}@{version.number} is the newest version: delete the data set instead")
    queue.refuse_in_use(session, f"dataset:{dataset.id}", platform.home.dataset(version.sha256))
    same = sql.select(sql.func.count(DatasetVersion.id)).where(DatasetVersion.sha256 == version.sha256)
    alone = session.scalar(same) == 1

    def remove() -> None:
        dataset.versions.remove(version)
        session.flush()
        data_sets.forget_unused(session, platform.home, [version.sha256])

    return _Found(bytes_in(platform.home.dataset(version.sha256)) if alone else 0, remove)


def _upload(session: Session, platform: Platform, user: User, name: str) -> _Found | None:
    upload = session.get(Upload, name)
    if upload is None or not _mine(upload, user):
        return None
    queue.refuse_in_use(session, f"upload:{upload.id}")

    def remove() -> None:
        session.delete(upload)
        platform.home.upload(upload.id).unlink(missing_ok=True)

    return _Found(upload.received, remove)
