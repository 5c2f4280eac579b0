"""The tables are what the migrations make, in SQLite and in PostgreSQL."""

import os
import shutil
import socket
import subprocess
import threading

import pytest
import sqlalchemy as sql
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from rutile.core.errors import FileError
from rutile.jobs.database import migration_config, open_database, shown
from rutile.jobs.tables import AuditLine, Base, Job, User


@pytest.fixture
def lite(tmp_path):
    database = open_database(f"sqlite:///{tmp_path}/x.db", tmp_path)
    yield database
    database.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A PostgreSQL of our own, without any service."""
    programs = [shutil.which(name) for name in ("initdb", "pg_ctl")]
    if not all(programs):
        pytest.skip("no PostgreSQL here")
    folder = tmp_path_factory.mktemp("postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prefix = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        for parent in folder.parents[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
        prefix = ["runuser", "-u", "postgres", "--"]
    data, log = folder / "data", folder / "log"
    subprocess.run([*prefix, programs[0], "-D", data, "-A", "trust", "-U", "rutile"], check=True, capture_output=True)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
    subprocess.run([*prefix, programs[1], "-D", data, "-l", log, "-w", "-o", options, "start"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    yield f"postgresql+psycopg://rutile@127.0.0.1:{port}/postgres"
    subprocess.run([*prefix, programs[1], "-D", data, "-m", "immediate", "stop"], check=False, capture_output=True)


def differences(database):
    """Between the tables and their classes."""
    with database.engine.begin() as connection:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)


def tables(database):
    return set(sql.inspect(database.engine).get_table_names()) - {"alembic_version"}


def migrate(database, way, target):
    with database.engine.begin() as connection:
        getattr(command, way)(migration_config(connection), target)


def test_the_migrations_make_the_tables_of_the_classes(lite):
    assert differences(lite) == []
    assert tables(lite) == set(Base.metadata.tables)


def assert_migrations_go_back_and_forth(database):
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


def test_migrations_go_back_and_forth(lite):
    assert_migrations_go_back_and_forth(lite)


@pytest.mark.slow
def test_the_same_holds_in_postgresql(cluster, tmp_path):
    database = open_database(cluster, tmp_path)
    assert differences(database) == []
    assert_migrations_go_back_and_forth(database)
    database.close()


def test_a_database_of_a_newer_rutile_is_refused(lite, tmp_path):
    with lite.writing() as session:
        session.execute(sql.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FileError, match="newer rutile"):
        open_database(lite.url, tmp_path)


def test_a_database_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(FileError, match="cannot be opened"):
        open_database(f"sqlite:///{tmp_path}/nowhere/x.db", tmp_path)


def test_passwords_of_databases_are_not_shown():
    assert "secret" not in shown("postgresql+psycopg://me:secret@host/db")


def test_a_transaction_that_fails_never_was(lite):
    def fail():
        with lite.writing() as session:
            session.add(User(name="ben", created=0.0))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with lite.reading() as session:
        assert session.scalar(sql.select(User)) is None


@pytest.mark.slow
def test_many_writers_wait_for_each_other(lite):
    """What one read is still so when it writes: no count is lost."""
    with lite.writing() as session:
        session.add(AuditLine(time=0.0, user="0", action="count"))

    def count():
        for _ in range(20):
            with lite.writing() as session:
                line = session.get_one(AuditLine, 1)
                line.user = str(int(line.user) + 1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with lite.reading() as session:
        assert session.get_one(AuditLine, 1).user == "160"


def test_foreign_keys_hold(lite):
    with pytest.raises(sql.exc.IntegrityError), lite.writing() as session:
        session.add(Job(name="x", task="x", settings={}, key="", owner_id=77, created=0.0))
