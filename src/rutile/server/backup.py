"""Copies of the database while it is used, and putting one back while it is not."""

from __future__ import annotations

import fcntl
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from rutile.core.errors import FileError
from rutile.jobs.database import Database
from rutile.jobs.home import Home


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


def restore(home: Home, backup: Path) -> Path:
    """Put a copy back in the place of the database; what was there stays beside it. The server must not run.

    Raises:
        FileError: a server is at work, or the file is no database of rutile.
    """
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
        if target.exists():
            with closing(sqlite3.connect(target)) as old:
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            target.replace(aside)
        for ending in ("-wal", "-shm"):
            Path(f"{target}{ending}").unlink(missing_ok=True)
        with closing(sqlite3.connect(backup)) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)
        target.chmod(0o600)
    return aside
