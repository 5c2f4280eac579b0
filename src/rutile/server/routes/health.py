"""How the platform itself does, for administrators: database, disk, queue, backups."""

from __future__ import annotations

import time
from typing import Literal

import psutil
import sqlalchemy as sql
from fastapi import APIRouter

import rutile
from rutile.core.settings import Result
from rutile.jobs.tables import ACTIVE, WAITING, Job
from rutile.server.backup import newest
from rutile.server.people import Administrator, Here, Reading

router = APIRouter(prefix="/admin", tags=["admin"])
SILENT = 60.0
"""A queue that did nothing for so long (s) is not at work: it looks around every few seconds."""

SIZE = sql.text("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
"""Bytes of a database of SQLite, also what stands beside its file so far."""


class PlatformHealth(Result):
    """How the platform does."""

    version: str
    """Of rutile."""
    up: float
    """Since the server began (s)."""
    database: Literal["SQLite", "PostgreSQL"]
    """Its kind."""
    answer: float
    """How long it took to answer (s)."""
    database_size: float | None
    """Of SQLite (GB)."""
    disk_free: float
    """Where the platform keeps its files (GB)."""
    disk: float
    """What that disk holds in all (GB)."""
    queue: bool
    """Whether what starts and ends jobs is at work in this server."""
    queue_seen: float | None
    """When it last looked around (s since 1970); null: never, or another server does it for this home."""
    working: int
    """Jobs at work."""
    waiting: int
    """Jobs that wait."""
    backup: float | None
    """When the newest copy of the database was made here (s since 1970); null: none lies in the folder `backups`."""


@router.get("/health")
def see_health(who: Administrator, platform: Here, session: Reading) -> PlatformHealth:
    """How database, disk and queue do, and when the last backup was made."""
    del who
    begin = time.perf_counter()
    states = sql.select(Job.state, sql.func.count()).where(Job.state.in_([*ACTIVE, *WAITING])).group_by(Job.state)
    jobs = {state: number for state, number in session.execute(states)}
    answer = time.perf_counter() - begin
    disk = psutil.disk_usage(platform.home.folder)
    lite = platform.database.lite
    seen = platform.reconciler.seen
    return PlatformHealth(
        version=rutile.__version__, up=time.time() - platform.began, database="SQLite" if lite else "PostgreSQL",
        answer=answer, database_size=session.scalar(SIZE) / 1e9 if lite else None,
        disk_free=disk.free / 1e9, disk=disk.total / 1e9, queue=seen is not None and time.time() - seen < SILENT,
        queue_seen=seen, working=sum(jobs.get(state, 0) for state in ACTIVE),
        waiting=sum(jobs.get(state, 0) for state in WAITING), backup=newest(platform.home),
    )  # fmt: skip
