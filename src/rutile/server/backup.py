"""Copies of the database while it is used, and putting one back while it is not."""

from __future__ import annotations

import fcntl
import shlex
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import sqlalchemy as sql

from rutile.core.errors import FileError
from rutile.jobs.database import Database
from rutile.jobs.home import Home
from rutile.jobs.tables import DatasetVersion, Job, StoredModel, StoredStructure


def back_up(database: Database, home: Home) -> Path:
    """Copy a database of SQLite into the folder `backups`; the copy is of one moment.

    Raises:
        FileError: it is none of SQLite.
    """
    if not database.lite:
        raise FileError("the database is PostgreSQL: back it up with pg_dump; jobs, data sets and models are files")
    place = home.folder / "backups"
    place.mkdir(mode=0o700, exist_ok=True)
    path = place / time.strftime("platform-%Y%m%d-%H%M%S.db")
    source = str(database.engine.url.database)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(path)) as new:
        old.backup(new)
    path.chmod(0o600)
    return path


def newest(home: Home) -> float | None:
    """When the newest copy in the folder `backups` was made (s since 1970); None: there is none."""
    return max((path.stat().st_mtime for path in (home.folder / "backups").glob("platform-*.db")), default=None)


def put_back(home: Home, backup: Path) -> str:
    """The command that puts a copy back in this home."""
    return shlex.join(["rutile", "serve", f"home={home.folder}", f"restore={backup}"])


def restore(home: Home, backup: Path) -> Path | None:
    """Put a copy back in the place of the database. The server must not run.

    Returns:
        What was there, which stays beside it; None: nothing was there.

    Raises:
        FileError: a server is at work, or the file is no database of rutile.
    """
    if not backup.is_file():
        raise FileError(f"restore = {backup}: no such file; backups lie in the folder `backups` of their home")
    with (home.folder / "reconciler.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FileError(f"{home.folder}: a server is at work here: end it first") from None
        try:
            with closing(sqlite3.connect(f"file:{backup}?mode=ro", uri=True)) as copy:
                copy.execute("SELECT version_num FROM alembic_version")
        except sqlite3.Error:
            raise FileError(f"{backup}: not a backup of rutile's database") from None
        target = home.folder / "platform.db"
        aside = target.with_suffix(time.strftime(".before-%Y%m%d-%H%M%S"))
        there = target.exists()
        if there:
            with closing(sqlite3.connect(target)) as old:
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            target.replace(aside)
        for ending in ("-wal", "-shm"):
            Path(f"{target}{ending}").unlink(missing_ok=True)
        with closing(sqlite3.connect(backup)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
        target.chmod(0o600)
    return aside if there else None


def without_files(database: Database, home: Home) -> str:
    """What the database knows and the home does not hold, after a copy came to another home; "": all is there."""
    with database.reading() as session:
        places = {
            "jobs": [
                home.job(number) for number in session.scalars(sql.select(Job.id).where(Job.started.is_not(None)))
            ],
            "versions of data sets": [home.dataset(sha) for sha in session.scalars(sql.select(DatasetVersion.sha256))],
            "models": [home.model(sha) for sha in session.scalars(sql.select(StoredModel.sha256))],
            "structures": [home.structure(number) for number in session.scalars(sql.select(StoredStructure.id))],
        }
    gone = {kind: sum(not one.exists() for one in them) for kind, them in places.items()}
    return ", ".join(f"{n} of {len(places[kind])} {kind}" for kind, n in gone.items() if n)
