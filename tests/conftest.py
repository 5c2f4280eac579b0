"""What tests of several rooms share: a private Slurm, a private PostgreSQL, and the database of a platform."""

import fcntl
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from left_behind import end_what_is_left

SCRIPTS = Path(__file__).resolve().parents[1].parent / "shared" / "slurm"
PREFIX = "rutile-slurm-"
PROGRAMS = ("sbatch", "slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")


@pytest.fixture(scope="session")
def slurm():
    """A Slurm of one node with two cores, one at a time on this machine."""
    missing = [p for p in PROGRAMS if shutil.which(p) is None]
    if missing:
        pytest.skip(f"Slurm is not installed: no {', '.join(missing)}")
    if not (SCRIPTS / "up").is_file():
        pytest.skip(f"no scripts that start a private Slurm at {SCRIPTS}")
    if os.geteuid() != 0:
        pytest.skip("a private Slurm is started by root only")
    with (Path(tempfile.gettempdir()) / "rutile-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its ports are fixed
        end_what_is_left(tempfile.gettempdir(), PREFIX)  # of tests that were killed: we have the lock
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        started = ["bash", str(SCRIPTS / "up"), str(folder)]
        try:
            with (folder / "up.log").open("w") as log:  # a file: daemons keep it open
                for _ in range(3):  # a busy machine has the database too late the first time
                    done = subprocess.run(started, check=False, timeout=240, stdout=log, stderr=log,
                                          stdin=subprocess.DEVNULL)  # fmt: skip
                    if done.returncode == 0:
                        break
                    subprocess.run(["bash", str(SCRIPTS / "down"), str(folder)], check=True, timeout=120)
            assert done.returncode == 0, (folder / "up.log").read_text()[-4000:]
            yield folder
        finally:
            subprocess.run(["bash", str(SCRIPTS / "down"), str(folder)], check=True, timeout=120)
            shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption("--database", choices=["sqlite", "postgresql"], help="run the platform's tests on this database")


def pytest_generate_tests(metafunc):
    """What is marked `databases` runs on both; all that opens a platform runs on the one that --database names."""
    if "empty_database_url" not in metafunc.fixturenames:
        return
    both = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
    asked = metafunc.config.getoption("--database")
    marked = metafunc.definition.get_closest_marker("databases")
    kinds = [asked] if asked else both if marked else ["sqlite"]
    metafunc.parametrize(
        "empty_database_url", kinds, indirect=True, ids=None if len(kinds) > 1 else [pytest.HIDDEN_PARAM]
    )


def postgres_program(name):
    """A program of PostgreSQL; Debian keeps those of servers out of PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL of our own, without any service: makes databases, each by its URL."""
    programs = [postgres_program(name) for name in ("initdb", "pg_ctl")]
    if not all(programs):
        pytest.skip("no PostgreSQL here")
    folder = Path(tempfile.mkdtemp(prefix="rutile-postgres-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    prefix = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        shutil.chown(folder, "postgres")
        prefix = ["runuser", "-u", "postgres", "--"]
    data, log = folder / "data", folder / "log"
    made = [*prefix, programs[0], "-D", data, "-A", "trust", "-U", "rutile", "--no-sync"]
    subprocess.run(made, check=True, capture_output=True, cwd="/")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off"
    subprocess.run([*prefix, programs[1], "-D", data, "-l", log, "-w", "-o", options, "start"], check=True, cwd="/",
                   stdout=subprocess.DEVNULL)  # fmt: skip
    address = f"postgresql+psycopg://rutile@127.0.0.1:{port}"
    yield f"{address}/postgres"
    stop = [*prefix, programs[1], "-D", data, "-m", "immediate", "stop"]
    subprocess.run(stop, check=False, capture_output=True, cwd="/")
    shutil.rmtree(folder, ignore_errors=True)


NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def tables_of_sqlite(tmp_path_factory):
    """A database with the tables of this version: a copy takes a tenth of the time of making them."""
    from rutile.jobs.database import open_database

    folder = tmp_path_factory.mktemp("tables")
    open_database(f"sqlite:///{folder}/platform.db", folder).close()
    return folder / "platform.db"


@pytest.fixture
def database_url(request, empty_database_url, tmp_path):
    """URL of a database of this test's own, with tables or (PostgreSQL) without."""
    if empty_database_url.startswith("sqlite"):
        shutil.copyfile(request.getfixturevalue("tables_of_sqlite"), tmp_path / "home/platform.db")
    return empty_database_url


@pytest.fixture
def empty_database_url(request, tmp_path):
    """URL of an empty database of this test's own."""
    if request.param == "sqlite":
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        yield f"sqlite:///{home}/platform.db"
        return
    from sqlalchemy import create_engine, make_url, text

    url = make_url(request.getfixturevalue("postgres"))
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"test{next(NUMBERS)}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()
