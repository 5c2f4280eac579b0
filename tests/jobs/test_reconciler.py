"""The table is made as the folders are, whatever happened in between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sql

from rutile.jobs import folder as kept
from rutile.jobs import launch, queue, reconciler
from rutile.jobs.database import open_database
from rutile.jobs.folder import Status, read_status
from rutile.jobs.home import Home
from rutile.jobs.limits import Limits
from rutile.jobs.places import Here, open_places
from rutile.jobs.queue import Wish
from rutile.jobs.reconciler import Reconciler
from rutile.jobs.slots import Capacity, choose
from rutile.jobs.tables import Group, Job, User

pytestmark = pytest.mark.databases


class Shop:
    """A queue without a server, whose jobs are short programs instead of tasks."""

    def __init__(self, folder, url, cores=2):
        self.home = Home.open(folder)
        self.database = open_database(url, folder)
        self.cores = cores
        with self.database.writing() as session:
            if session.scalar(sql.select(User)) is None:
                session.add(User(name="ben", created=0.0))
        self.keeper = self.fresh()

    def fresh(self):
        return Reconciler(self.database, self.home, open_places(self.home, []), Capacity(self.cores, 16.0, 2))

    def add(self, code, **wish):
        with self.database.writing() as session:
            user = session.scalars(sql.select(User)).first()
            job = queue.submit(session, user, code, {}, "key", [], Wish(**{"memory": 1.0} | wish))
            return job.id

    def see(self, number):
        with self.database.reading() as session:
            return session.get_one(Job, number)

    def until_there(self, path):
        """A file that a job writes."""
        for _ in range(2000):
            if path.exists():
                return
            self.keeper.round()
            time.sleep(0.02)
        raise AssertionError(f"{path} never was there")

    def until(self, number, *states, seconds=40):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.keeper.round()
            job = self.see(number)
            if job.state in states:
                return job
            time.sleep(0.05)
        raise AssertionError(f"job {number} is {job.state}: {job.reason}")


@pytest.fixture
def shop(tmp_path, database_url, monkeypatch):
    monkeypatch.setattr(launch, "words_of", lambda task: [sys.executable, "-c", task])
    shop = Shop(tmp_path / "home", database_url)
    yield shop
    shop.database.close()


ENDED = ("DONE", "FAIL", "CANCEL")


@pytest.mark.slow
def test_jobs_start_end_and_are_accounted(shop):
    good, bad = shop.add("print(1)", cores=2), shop.add("raise SystemExit(7)")
    assert shop.until(good, *ENDED).state == "DONE"
    job = shop.until(bad, *ENDED)
    assert (job.state, job.exit_code) == ("FAIL", 7)
    done = shop.see(good)
    assert done.core_seconds == pytest.approx(2 * (done.ended - done.started))
    assert done.bytes > 0


@pytest.mark.slow
def test_why_a_job_waits_is_told_with_the_time_where_it_is_known(shop):
    busy = shop.add("import time; time.sleep(60)", cores=2)
    shop.until(busy, "RUNNING")
    first = shop.add("pass")
    shop.keeper.round()
    assert shop.see(first).reason == "waits for 1 core"  # nobody has had to wait
    now = time.time()
    with shop.database.writing() as session:
        told = {"task": "t", "name": "t", "settings": {}, "key": "k", "owner_id": 1, "state": "DONE", "queue": "local"}
        session.add(Job(**told, cores=1, memory=1.0, created=now - 3000, started=now - 2780, ended=now - 2000))
        late = session.get_one(Job, first)
        late.created = now - 500
    second = shop.add("pass")
    keeper = shop.keeper = shop.fresh()
    keeper.round()
    assert shop.see(second).reason == "waits for 1 core, about 4 min"
    assert shop.see(first).reason == "waits for 1 core"  # longer than usual already: nothing is known
    too_large = shop.add("pass", cores=9)
    keeper.round()
    assert "about" not in shop.see(too_large).reason
    with shop.database.writing() as session:
        queue.cancel(session, shop.home, session.get_one(Job, busy))
    shop.until(busy, "CANCEL")


def test_a_job_is_claimed_once(shop):
    number = shop.add("pass")
    took = []
    for _ in range(3):
        with shop.database.writing() as session:
            took.append(queue.claim(session, number))
    assert took == [True, False, False]


@pytest.mark.slow
def test_a_job_that_was_claimed_and_never_started_is_started_later(shop, monkeypatch):
    """The server was killed between the claim and the start."""
    monkeypatch.setattr(reconciler, "PATIENCE", 0.2)
    number = shop.add("open('ran', 'a').write('x')")
    with shop.database.writing() as session:
        assert queue.claim(session, number)
    shop.keeper = shop.fresh()
    assert shop.until(number, *ENDED).state == "DONE"
    assert (shop.home.job(number) / kept.FILES / "ran").read_text() == "x"


@pytest.mark.slow
def test_a_job_that_ended_while_nobody_looked_is_known_later(shop):
    number = shop.add("import time; time.sleep(0.3); raise SystemExit(5)")
    shop.until(number, "STARTING", "RUNNING")
    while (status := read_status(shop.home.job(number))) is None or status.state == "RUNNING":
        time.sleep(0.05)
    shop.keeper = shop.fresh()
    job = shop.until(number, *ENDED)
    assert (job.state, job.exit_code) == ("FAIL", 5)


class Late(Here):
    """Looks, and the supervisor begins before the answer is read."""

    def __init__(self, home):
        super().__init__(home)
        self.process = None

    def start(self, job, folder):
        return ""

    def look(self, jobs):
        found = super().look(jobs)
        if self.process is None:
            folder = self.home.job(jobs[0].id)
            self.process = subprocess.Popen([sys.executable, "-m", "rutile.jobs.supervisor", str(folder)])
            while (status := read_status(folder)) is None or "child" not in status.extra:
                time.sleep(0.02)
        return found


@pytest.mark.slow
def test_a_job_that_begins_while_it_is_looked_for_is_not_lost(shop):
    place = Late(shop.home)
    shop.keeper.places = {"local": place}
    number = shop.add("import time; time.sleep(0.5); raise SystemExit(3)")
    job = shop.until(number, *ENDED)
    place.process.wait()
    assert (job.state, job.exit_code) == ("FAIL", 3)


@pytest.mark.slow
def test_a_job_whose_supervisor_was_killed_is_lost_and_leaves_nothing_behind(shop):
    number = shop.add("import time; time.sleep(77)")
    shop.until(number, "RUNNING")
    folder = shop.home.job(number)
    while "child" not in (status := read_status(folder)).extra:
        time.sleep(0.05)
    os.kill(status.pid, signal.SIGKILL)
    job = shop.until(number, *ENDED)
    assert job.state == "FAIL"
    assert job.reason.startswith("lost")
    time.sleep(0.2)
    assert subprocess.run(["ps", "-o", "state=", "-p", str(status.extra["child"])], check=False, capture_output=True,
                          text=True).stdout.strip() in ("", "Z")  # fmt: skip


def test_a_process_that_has_the_number_of_a_lost_job_is_left_alone(shop):
    """The machine was restarted, or the job ran on another one."""
    number = shop.add("pass")
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(77)"], start_new_session=True)
    try:
        with shop.database.writing() as session:
            assert queue.claim(session, number)
        folder = shop.home.job(number)
        folder.mkdir()
        extra = {"child": stranger.pid, "born": 1.0}
        kept.write_status(folder, Status("RUNNING", 2**22 + 1, 1.0, os.uname().nodename, 1.0, 1.0, extra=extra))
        shop.keeper.round()
        assert shop.see(number).reason.startswith("lost")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.slow
def test_jobs_are_cancelled_at_work_and_before(shop):
    work, wait = shop.add("import time; time.sleep(77)", cores=2), shop.add("pass")
    shop.until(work, "RUNNING")
    with shop.database.writing() as session:
        for number in (work, wait):
            queue.cancel(session, shop.home, session.get_one(Job, number))
    assert shop.see(wait).state == "CANCEL"
    assert shop.until(work, *ENDED).state == "CANCEL"


def test_a_quota_holds_jobs_until_it_is_raised(shop):
    with shop.database.writing() as session:
        user = session.scalars(sql.select(User)).one()
        user.core_hours = 0.0
    number = shop.add("pass")
    shop.keeper.round()
    job = shop.see(number)
    assert job.state == "HELD"
    assert "core hours" in job.reason
    with shop.database.writing() as session:
        session.scalars(sql.select(User)).one().core_hours = None
    assert shop.until(number, *ENDED).state == "DONE"


def test_jobs_of_an_account_that_has_ended_wait_until_it_is_open_again(shop):
    def say(**values):
        with shop.database.writing() as session:
            for name, value in values.items():
                setattr(session.scalars(sql.select(User)).one(), name, value)

    number = shop.add("pass", cores=3)  # more than there are: it never starts
    for closed, opened in (
        ({"expires": time.time() - 1}, {"expires": time.time() + 99}),
        ({"disabled": True}, {"disabled": False}),
    ):
        say(**closed)
        shop.keeper.round()
        job = shop.see(number)
        assert job.state == "HELD"
        assert job.reason == "the account ben has ended or is closed: an administrator can open it again"
        say(**opened)
        shop.keeper.round()
        assert shop.see(number).state == "QUEUED"


@pytest.mark.slow
def test_a_groups_quota_holds_for_its_members(shop):
    with shop.database.writing() as session:
        user = session.scalars(sql.select(User)).one()
        user.group = Group(name="course", disk_gb=0.0)
    shop.add("pass")
    with shop.database.reading() as session:
        assert "group course's quota" in queue.over_quota(session, session.scalars(sql.select(User)).one())


def job(number, cores=1, memory=1.0, gpus=0, priority=50, created=0.0, gpu_ids=()):
    return Job(id=number, cores=cores, memory=memory, gpus=gpus, priority=priority, created=created, owner_id=1,
               owner=User(name="ben", running_jobs=None), gpu_ids=list(gpu_ids))  # fmt: skip


def test_jobs_are_chosen_by_what_is_free():
    machine = Capacity(4, 8.0, 2)
    working = [job(1, cores=2, memory=3.0, gpus=1, gpu_ids=[0])]
    waiting = [job(2, cores=3), job(3, cores=1, gpus=1), job(4, cores=1, memory=6.0), job(5, cores=9), job(6)]
    chosen, reasons = choose(waiting, working, machine, 10.0, Limits().held("local", working))
    assert [(c.job.id, c.gpu_ids) for c in chosen] == [(3, [1]), (6, [])]
    assert reasons[2] == "waits for 3 cores"
    assert reasons[4] == "waits for 6 GB of memory"
    assert reasons[5] == "asks for 9 cores; this machine has 4"


def test_a_job_that_has_waited_long_is_not_overtaken():
    machine = Capacity(4, 8.0, 0)
    held = Limits().held("local", [])
    chosen, reasons = choose([job(2, cores=4), job(3)], [job(1, cores=1)], machine, 10_000.0, held)
    assert not chosen
    assert reasons[3] == "waits: an older job needs the place first"


SERVER = """
import sys
from pathlib import Path
from rutile.jobs import launch
launch.words_of = lambda task: [sys.executable, "-c", task]
from test_reconciler import Shop
shop = Shop(Path(sys.argv[1]), sys.argv[2])
shop.keeper.start()
(shop.home.folder / "up").touch()
import time
time.sleep(600)
"""


@pytest.mark.slow
def test_jobs_survive_a_server_that_is_killed_again_and_again(shop, tmp_path):
    """None is lost, none is done twice."""
    ran = tmp_path / "ran"
    numbers = [shop.add(f"open({str(ran)!r}, 'a').write('{k}\\n'); raise SystemExit({k % 3})") for k in range(24)]
    path = os.pathsep.join([str(Path(kept.__file__).parents[2]), str(Path(__file__).parent)])
    left = set(numbers)
    for kill in range(60):
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path / "home"), shop.database.url],
            env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        while not (up := tmp_path / "home" / "up").exists():
            time.sleep(0.05)
        up.unlink()
        time.sleep(0.5 + 0.37 * (kill % 5))
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        left = {n for n in numbers if shop.see(n).state not in ENDED}
        if not left:
            break
    assert not left
    assert kill >= 2
    assert sorted(map(int, ran.read_text().split())) == list(range(24))
    assert [shop.see(n).exit_code for n in numbers] == [k % 3 for k in range(24)]
