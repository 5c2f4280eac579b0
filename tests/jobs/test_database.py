"""The tables are what the migrations make, in SQLite and in PostgreSQL."""

import sys
import threading

import pytest
import sqlalchemy as sql
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from rutile.core.errors import FileError
from rutile.jobs.database import migration_config, open_database, shown
from rutile.jobs.tables import AuditLine, Base, Job, User

pytestmark = pytest.mark.databases


@pytest.fixture
def database(empty_database_url, tmp_path):
    database = open_database(empty_database_url, tmp_path)
    yield database
    database.close()


def differences(database):
    """Between the tables and their classes."""
    with database.engine.begin() as connection:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)


def tables(database):
    return set(sql.inspect(database.engine).get_table_names()) - {"alembic_version"}


def migrate(database, way, target):
    with database.engine.begin() as connection:
        getattr(command, way)(migration_config(connection), target)


def test_the_migrations_make_the_tables_of_the_classes(database):
    assert differences(database) == []
    assert tables(database) == set(Base.metadata.tables)


def test_migrations_go_back_and_forth(database):
    """Each migration back and forth, then all; a user that is there from the first one on stays."""
    with database.writing() as session:
        session.add(User(name="ben", created=0.0))
    migrate(database, "downgrade", "0001")
    assert differences(database) != []
    migrate(database, "upgrade", "head")
    assert differences(database) == []
    with database.reading() as session:
        assert session.scalars(sql.select(User.name)).all() == ["ben"]
    migrate(database, "downgrade", "base")
    assert tables(database) == set()
    migrate(database, "upgrade", "head")
    assert tables(database) == set(Base.metadata.tables)


def test_a_database_of_a_newer_rutile_is_refused(database, tmp_path):
    with database.writing() as session:
        session.execute(sql.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FileError, match="newer rutile"):
        open_database(database.url, tmp_path)


def test_a_database_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(FileError, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path}/nowhere/x.db", tmp_path)


def test_a_driver_that_is_missing_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FileError, match=r"^database postgresql\+psycopg://host/x: psycopg is missing: pip install"):
        open_database("postgresql+psycopg://host/x", tmp_path)


@pytest.mark.parametrize("url", ["nonsense", "other://host/x"])
def test_what_is_no_url_of_a_database_is_one_line(url, tmp_path):
    with pytest.raises(FileError, match=r"^database: no URL of a database that is known here"):
        open_database(url, tmp_path)


def test_a_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "platform.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(FileError, match="cannot be opened: file is not a database"):
        open_database(f"sqlite:///{tmp_path}/platform.db", tmp_path)


def test_passwords_of_databases_are_not_shown():
    assert "secret" not in shown("postgresql+psycopg://me:secret@host/db")


def test_a_transaction_that_fails_never_was(database):
    def fail():
        with database.writing() as session:
            session.add(User(name="ben", created=0.0))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.reading() as session:
        assert session.scalar(sql.select(User)) is None


@pytest.mark.slow
def test_many_writers_wait_for_each_other(database):
    """What one read is still so when it writes: no count is lost."""
    with database.writing() as session:
        session.add(AuditLine(time=0.0, user="0", action="count"))

    def count():
        for _ in range(20):
            with database.writing() as session:
                line = session.get_one(AuditLine, 1)
                line.user = str(int(line.user) + 1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert session.get_one(AuditLine, 1).user == "160"


def test_foreign_keys_hold(database):
    with pytest.raises(sql.exc.IntegrityError), database.writing() as session:
        session.add(Job(name="x", task="x", settings={}, key="", owner_id=77, created=0.0))
