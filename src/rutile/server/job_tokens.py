"""Tokens of jobs: what signs a job in as its owner, for as long as it is at work. They are kept as other tokens are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import sqlalchemy as sql
from sqlalchemy.orm import Session

from rutile.core.connection import CERTIFICATE, CONNECTION, DOOR, KEY, write_private
from rutile.jobs.accounts import account_named
from rutile.jobs.folder import BEGAN, read_json
from rutile.jobs.home import Home
from rutile.jobs.permissions import share_file
from rutile.jobs.tables import ACTIVE, ApiToken, Job
from rutile.server.secrets import TOKEN, kept_of, new_secret

OF_JOB = "job:"
"""Begins a scope that no user can ask for: the token is that of one job, and is refused when this has ended."""
LONGER = 3600.0
"""Seconds after the wall time of its job at which a token ends in any case."""


def hand_over(session: Session, home: Home, job: Job, scopes: Iterable[str], address: str) -> None:
    """Make the token of a job that is about to start, and put it into its folder, for its owner's eyes only.

    One that has begun keeps the token that it has read.

    Args:
        session: that writes.
        home: with the folders.
        job: that is to be signed in.
        scopes: what its token may do.
        address: where it finds the server.

    Raises:
        OSError: the file cannot be written.
    """
    folder = home.job(job.id)
    if (folder / BEGAN).exists() and (folder / CONNECTION).exists():
        return
    revoke(session, job)
    secret, now = TOKEN + new_secret(), time.time()
    expires = None if job.wall_time is None else now + job.wall_time + LONGER
    session.add(
        ApiToken(
            secret=kept_of(secret), user_id=job.owner_id, name=f"{job.task} of job {job.id}", created=now,
            scopes=[*sorted(scopes), f"{OF_JOB}{job.id}"], expires=expires,
        )
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(folder / CONNECTION, {"address": address, "token": secret, "job": job.id})


def take_back(session: Session, home: Home, job: Job) -> None:
    """End the token of a job, and remove what told it, where the job listened, and by which key."""
    revoke(session, job)
    for name in (CONNECTION, DOOR, CERTIFICATE, KEY):
        (home.job(job.id) / name).unlink(missing_ok=True)


def revoke(session: Session, job: Job) -> None:
    """End the token of a job."""
    for token in session.scalars(sql.select(ApiToken).where(ApiToken.user_id == job.owner_id)):
        if f"{OF_JOB}{job.id}" in token.scopes:
            session.delete(token)


def is_good(session: Session, token: ApiToken) -> bool:
    """Whether a token is that of nobody's job, or of one at work that nobody has cancelled."""
    numbers = [int(scope.removeprefix(OF_JOB)) for scope in token.scopes if scope.startswith(OF_JOB)]
    working = sql.select(Job.id).where(Job.id.in_(numbers), Job.state.in_(ACTIVE), Job.cancelled.is_(False))
    return not numbers or session.scalar(working.limit(1)) is not None


def say_address(session: Session, home: Home, address: Callable[[Job], str]) -> None:
    """Tell jobs at work where the server is now: it may listen elsewhere than before."""
    for job in session.scalars(sql.select(Job).where(Job.state.in_(ACTIVE))):
        path = home.job(job.id) / CONNECTION
        found = read_json(path)
        if found is not None and found.get("address") != address(job):
            write_private(path, found | {"address": address(job)})
            if job.unix_account:
                share_file(path, account_named(job.unix_account).uid)
