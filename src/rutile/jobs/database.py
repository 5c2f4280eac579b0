"""The database of the platform: SQLite by default, PostgreSQL by URL; brought up to date when it is opened.

Two kinds of transactions: `reading` changes nothing; `writing` is the only writer from its first statement on
(SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock), so that what it read is still so when it writes.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from rutile.core.errors import FileError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY = 20_000
"""A writer waits for another one so long (ms)."""
WRITERS = 0x727574696C65
"""Number of the lock of PostgreSQL that a writer holds until it is done."""
MAPPED = 2**30
"""Bytes of a file of SQLite that are read through memory: connections share the pages."""


class Database:
    """Where the platform keeps users, jobs, data sets and models."""

    def __init__(self, url: str) -> None:
        """Open it; nothing is created.

        Args:
            url: of SQLAlchemy, such as sqlite:///platform.db or postgresql+psycopg://host/rutile.
        """
        self.url = url
        self.lite = url.startswith("sqlite")
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY / 1000}} if self.lite else {"pool_pre_ping": True}
        self.engine = sql.create_engine(url, pool_size=20, max_overflow=40, json_serializer=compact_json, **options)
        if self.lite:
            sql.event.listen(self.engine, "connect", _suit_sqlite)
        sql.event.listen(self.engine, "begin", _begin_sqlite if self.lite else _begin_postgresql)
        self._writer: Engine = self.engine.execution_options(rutile_writes=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that changes nothing."""
        with Session(self.engine, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction that is kept if the block ends well, and never was if it does not."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def compact_json(value: Any) -> str:
    """JSON as it stands in the database."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def open_database(url: str, home: Path) -> Database:
    """Open the database and bring it up to date, one process at a time.

    Args:
        url: as of `Database`.
        home: folder of the platform, for the lock.

    Raises:
        FileError: it cannot be opened, its driver is missing, or a newer rutile made it.
    """
    from alembic.util import CommandError

    try:
        database = Database(url)
    except ModuleNotFoundError as error:
        raise FileError(f"database {shown(url)}: {error.name} is missing: pip install 'rutile[postgres]'") from None
    except sql.exc.ArgumentError:
        raise FileError(
            "database: no URL of a database that is known here; expected such as postgresql+psycopg://user@host/rutile"
        ) from None
    with (home / "database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            upgrade(database)
        except sql.exc.DatabaseError as error:
            database.close()
            raise FileError(f"database {shown(url)}: cannot be opened: {str(error.orig).splitlines()[0]}") from None
        except CommandError as error:
            database.close()
            raise FileError(f"database {shown(url)}: a newer rutile made it ({error}): update rutile") from None
    return database


def shown(url: str) -> str:
    """A URL without its password."""
    return sql.make_url(url).render_as_string(hide_password=True)


def upgrade(database: Database) -> None:
    """Bring the tables to this version of rutile."""
    from alembic import command

    with database.engine.begin() as connection:
        command.upgrade(migration_config(connection), "head")


def migration_config(connection: Connection) -> Any:
    """What Alembic has to know: where migrations are, and the open connection."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _suit_sqlite(connection: Any, record: Any) -> None:
    """Readers do not wait for the writer, writers wait for each other, foreign keys hold."""
    del record
    connection.isolation_level = None  # BEGIN is ours
    lines = ("journal_mode=WAL", f"busy_timeout={BUSY}", "foreign_keys=ON", "synchronous=NORMAL", f"mmap_size={MAPPED}")
    for line in lines:
        connection.execute(f"PRAGMA {line}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")


def _begin_postgresql(connection: Connection) -> None:
    if _writes(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS})")


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("rutile_writes"))
