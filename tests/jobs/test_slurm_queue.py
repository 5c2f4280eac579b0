"""The queue through a private Slurm: the same supervisor in sbatch, and the truth in the folder."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from test_reconciler import ENDED, Shop

from rutile.jobs import folder as kept
from rutile.jobs import launch, queue, reconciler
from rutile.jobs.folder import read_status
from rutile.jobs.places import open_places
from rutile.jobs.reconciler import Reconciler
from rutile.jobs.sandbox import Sandbox
from rutile.jobs.settings import SlurmPlace
from rutile.jobs.slots import Capacity
from rutile.jobs.tables import Job

pytestmark = pytest.mark.slurm
SLEEP = "import time; time.sleep(300)"


class Cluster(Shop):
    """Jobs go to Slurm."""

    def fresh(self):
        places = open_places(self.home, [SlurmPlace(name="slurm", memory=False)])
        return Reconciler(self.database, self.home, places, Capacity(self.cores, 16.0, 0))

    def add(self, code, **wish):
        return super().add(code, **{"queue": "slurm"} | wish)

    def until(self, number, *states, seconds=120):
        return super().until(number, *states, seconds=seconds)

    def cancel(self, number):
        with self.database.writing() as session:
            queue.cancel(session, self.home, session.get_one(Job, number))


@pytest.fixture
def cluster(slurm, tmp_path, database_url, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(slurm / "slurm.conf"))
    monkeypatch.setattr(launch, "words_of", lambda task: [sys.executable, "-c", task])
    monkeypatch.setattr(reconciler, "SLURM_EVERY", 0.5)
    cluster = Cluster(tmp_path / "home", database_url)
    yield cluster
    cluster.database.close()
    end = time.monotonic() + 60
    while listed() and time.monotonic() < end:
        time.sleep(0.2)


def listed():
    return subprocess.run(["squeue", "--noheader", "--format=%i"], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def sandbox(cluster):
    """The jobs of the cluster run in a sandbox."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not here (Debian: apt-get install bubblewrap)")
    cluster.keeper.sandbox = Sandbox(cluster.home)


def working(cluster, number):
    """A job that runs, once its program has begun."""
    cluster.until(number, "RUNNING")
    folder = cluster.home.job(number)
    while "child" not in (status := read_status(folder)).extra:
        time.sleep(0.05)
    return status


@pytest.mark.usefixtures("sandbox")
def test_a_sandbox_on_a_node_shows_the_job_its_own_folder_and_ends_with_it(cluster):
    look = f"import os; print(os.listdir({str(cluster.home.folder)!r}), os.listdir({str(cluster.home.jobs)!r}))"
    number = cluster.add(look)
    assert cluster.until(number, *ENDED).state == "DONE"
    assert f"['jobs'] ['{number}']" in (cluster.home.job(number) / kept.LOG).read_text()
    handled = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); open('ready', 'w')"
    number = cluster.add(f"import signal, sys; {handled}; {SLEEP}")
    working(cluster, number)
    cluster.until_there(cluster.home.job(number) / kept.FILES / "ready")
    cluster.cancel(number)
    job = cluster.until(number, *ENDED)
    assert (job.state, job.exit_code) == ("CANCEL", 9)


def test_exit_codes_come_through_sbatch(cluster):
    numbers = [cluster.add(f"print('said {k}'); raise SystemExit({k})") for k in (0, 7)]
    good, bad = (cluster.until(number, *ENDED) for number in numbers)
    assert (good.reason, bad.reason) == ("", "exit code 7: said 7")
    assert (good.state, good.exit_code, bad.state, bad.exit_code) == ("DONE", 0, "FAIL", 7)
    assert good.native_id.isdigit()
    assert good.native_id != bad.native_id
    assert [(cluster.home.job(n) / kept.LOG).read_text() for n in numbers] == ["said 0\n", "said 7\n"]


def test_jobs_are_cancelled_at_work_and_while_they_wait_in_slurm(cluster):
    work = cluster.add(SLEEP, cores=2)
    working(cluster, work)
    wait = cluster.add("open('ran', 'w')", cores=2)
    end = time.monotonic() + 60
    while not cluster.see(wait).reason.startswith("waits in Slurm"):
        assert time.monotonic() < end
        cluster.keeper.round()
        time.sleep(0.1)
    cluster.cancel(wait)
    assert cluster.until(wait, *ENDED).state == "CANCEL"
    assert not (cluster.home.job(wait) / kept.FILES / "ran").exists()
    cluster.cancel(work)
    assert cluster.until(work, *ENDED).state == "CANCEL"


def test_a_job_whose_supervisor_is_killed_is_lost_and_said_so(cluster):
    number = cluster.add(SLEEP)
    status = working(cluster, number)
    os.kill(status.pid, signal.SIGKILL)
    job = cluster.until(number, *ENDED)
    assert job.state == "FAIL"
    assert job.reason.startswith("lost")
    assert job.native_id not in listed().split()


def test_a_job_cancelled_by_slurm_itself_ends_with_what_it_wrote(cluster):
    """scancel by an administrator: SIGTERM reaches the supervisor, which asks the program to end."""
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: (open('saved', 'w'), sys.exit(3)))"
    number = cluster.add(f"{code}; time.sleep(300)")
    working(cluster, number)
    time.sleep(0.5)
    subprocess.run(["scancel", "--batch", "--signal=TERM", cluster.see(number).native_id], check=True)
    job = cluster.until(number, *ENDED)
    assert job.state in ("CANCEL", "FAIL")
    assert (cluster.home.job(number) / kept.FILES / "saved").exists()


SERVER = """
import sys, time
from pathlib import Path
from rutile.jobs import launch, reconciler
launch.words_of = lambda task: [sys.executable, "-c", task]
reconciler.SLURM_EVERY = 0.5
from test_slurm_queue import Cluster
Cluster(Path(sys.argv[1]), sys.argv[2]).keeper.start()
time.sleep(600)
"""


def test_jobs_of_slurm_survive_a_server_that_is_killed(cluster, tmp_path):
    ran = tmp_path / "ran"
    code = "import time; time.sleep(1); open({!r}, 'a').write('{}\\n'); raise SystemExit({})"
    numbers = [cluster.add(code.format(str(ran), k, k % 3)) for k in range(6)]
    path = os.pathsep.join([launch.source_folder(), os.path.dirname(__file__)])  # noqa: PTH120
    for seconds in (2.5, 3.5, 4.5):
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path / "home"), cluster.database.url],
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )  # fmt: skip
        time.sleep(seconds)
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    cluster.keeper = cluster.fresh()
    assert [cluster.until(n, *ENDED).exit_code for n in numbers] == [k % 3 for k in range(6)]
    assert sorted(map(int, ran.read_text().split())) == list(range(6))


def test_a_job_whose_number_was_never_written_down_is_not_lost(cluster):
    """The server was killed between sbatch and its own note."""
    number = cluster.add(SLEEP)
    working(cluster, number)
    with cluster.database.writing() as session:
        job = session.get_one(Job, number)
        known, job.native_id = job.native_id, ""
    cluster.keeper = cluster.fresh()
    for _ in range(4):
        cluster.keeper.round()
        time.sleep(0.6)
    with cluster.database.reading() as session:
        job = session.get_one(Job, number)
        assert (job.state, job.native_id) == ("RUNNING", known)
    cluster.cancel(number)
    cluster.until(number, "CANCEL")
