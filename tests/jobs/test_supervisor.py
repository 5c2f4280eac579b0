"""A job is done once, ends as it ended, and needs nobody while it is at work."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rutile.jobs import folder as kept
from rutile.jobs import supervisor
from rutile.jobs.folder import Order, prepare, read_status
from rutile.jobs.launch import clean_environment, supervise
from rutile.jobs.places import CLOCK, same_process, supervised
from rutile.jobs.supervisor import born


def job(folder, code, **order):
    folder.mkdir(mode=0o700)
    environment = clean_environment(folder, 1, [])
    prepare(folder, Order([sys.executable, "-c", code], environment, **{"grace": 1.0} | order), {"a": 1})
    return folder


def ended(folder, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = read_status(folder)
        if status is not None and status.state != "RUNNING":
            return status
        time.sleep(0.05)
    raise AssertionError(f"still {status}")


def running(folder, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status = read_status(folder)
        if status is not None and "child" in status.extra:
            return status
        time.sleep(0.05)
    raise AssertionError("it did not begin")


def test_a_program_that_does_its_work_is_done(tmp_path):
    folder = job(tmp_path / "1", "import os; print('hello'); open('out.txt', 'w').write(os.getcwd())")
    supervise(folder)
    status = ended(folder)
    assert (status.state, status.exit_code, status.reason) == ("DONE", 0, "")
    assert (folder / kept.LOG).read_text() == "hello\n"
    assert (folder / kept.FILES / "out.txt").read_text() == str(folder / kept.FILES)
    assert json.loads((folder / kept.FILES / kept.SETTINGS).read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("import sys; print('Error: loss is NaN'); sys.exit(7)", 7, "Error: loss is NaN"),
        ("import sys; print('Error: bad\\0 byte'); sys.exit(7)", 7, "Error: bad byte"),
        ("import sys; print('last words'); sys.exit(3)", 3, "exit code 3: last words"),
        ("import os; os.kill(os.getpid(), 9)", -9, "ended by signal 9"),
    ],
)
def test_how_a_job_failed_is_kept(tmp_path, code, exit_code, reason):
    folder = job(tmp_path / "1", code)
    supervise(folder)
    status = ended(folder)
    assert (status.state, status.exit_code, status.reason) == ("FAIL", exit_code, reason)


def test_a_program_that_cannot_be_started_is_a_failure(tmp_path):
    folder = tmp_path / "1"
    prepare(folder, Order(["/nowhere/program"], {}), {})
    supervise(folder)
    status = ended(folder)
    assert (status.state, status.exit_code) == ("FAIL", 127)
    assert "No such file" in status.reason


@pytest.mark.slow
def test_two_supervisors_do_a_job_once(tmp_path):
    folder = job(tmp_path / "1", "import time; open('ran', 'a').write('x'); time.sleep(0.5)")
    for _ in range(5):
        supervise(folder)
    assert ended(folder).state == "DONE"
    time.sleep(0.3)
    supervise(folder)
    time.sleep(0.5)
    assert (folder / kept.FILES / "ran").read_text() == "x"


@pytest.mark.slow
def test_a_job_is_cancelled_with_all_that_it_started(tmp_path):
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '77']); print('up', flush=True); time.sleep(77)"
    folder = job(tmp_path / "1", code)
    supervise(folder)
    child = running(folder).extra["child"]
    while "up" not in (folder / kept.LOG).read_text():
        time.sleep(0.05)
    kept.ask_to_stop(folder)
    status = ended(folder)
    assert (status.state, status.reason) == ("CANCEL", "cancelled")
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], check=True, capture_output=True, text=True).stdout
    alive = [line for line in listed.splitlines() if line.split()[0] == str(child) and "Z" not in line]
    assert not alive


@pytest.mark.slow
def test_a_job_that_does_not_listen_is_ended_by_force(tmp_path):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(77)"
    folder = job(tmp_path / "1", code, wall_time=1.0)
    supervise(folder)
    status = ended(folder)
    assert (status.state, status.exit_code) == ("FAIL", -9)
    assert status.reason == "longer than its wall time of 1 s"


@pytest.mark.slow
def test_a_job_that_writes_when_asked_to_end_is_done_if_it_says_so(tmp_path):
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(0)); time.sleep(77)"
    folder = job(tmp_path / "1", code, wall_time=1.0)
    supervise(folder)
    assert ended(folder).state == "DONE"


@pytest.mark.slow
def test_a_job_that_takes_too_much_memory_is_ended(tmp_path):
    code = "import time; x = bytearray(400_000_000); x[::4096] = b'1' * len(x[::4096]); time.sleep(77)"
    folder = job(tmp_path / "1", code, memory=0.2)
    supervise(folder)
    status = ended(folder)
    assert status.state == "FAIL"
    assert "more than its 0.2 GB" in status.reason
    assert status.peak_memory > 0.3


@pytest.mark.slow
def test_what_a_job_uses_is_written_down(tmp_path):
    code = "import time\nend = time.time() + 2.5\nwhile time.time() < end: pass"
    folder = job(tmp_path / "1", code)
    supervise(folder)
    status = ended(folder)
    rows = [json.loads(line) for line in (folder / kept.PERF).read_text().splitlines()]
    assert len(rows) >= 2
    assert status.cpu_seconds > 0.2
    assert max(row["memory"] for row in rows) > 0.003, "the first row may come before the kernel has counted a page"


@pytest.mark.slow
def test_a_job_goes_on_without_the_one_who_started_it(tmp_path):
    """The starter is killed with its whole group, as a server is at kill -9."""
    folder = job(tmp_path / "1", "import time; time.sleep(1.0); print('alive')")
    starter = subprocess.Popen(
        [sys.executable, "-c", f"import sys, time; from pathlib import Path; sys.path.insert(0, {str(kept.__file__)!r}"
         f".rsplit('/rutile/', 1)[0]); from rutile.jobs.launch import supervise; supervise(Path({str(folder)!r})); "
         "time.sleep(60)"],
        start_new_session=True,
    )  # fmt: skip
    supervisor = running(folder)
    os.killpg(starter.pid, signal.SIGKILL)
    starter.wait()
    assert supervised(supervisor)
    assert ended(folder).state == "DONE"
    assert (folder / kept.LOG).read_text() == "alive\n"


def test_who_takes_a_job_says_so_with_its_process_or_not_at_all(tmp_path, monkeypatch):
    """A reader between two lines of the one who takes it sees no file, never one without a process."""
    folder = job(tmp_path / "1", "pass")
    seen = []

    def watched(pid):
        seen.append((folder / kept.BEGAN).exists())
        return born(pid)

    monkeypatch.setattr(supervisor, "born", watched)
    status = supervisor.begin(folder)
    assert seen == [False]
    assert kept.read_json(folder / kept.BEGAN) == {"pid": status.pid, "born": status.born, "host": status.host}
    assert supervisor.begin(folder) is None
    assert not list(folder.glob(f".{kept.BEGAN}*"))


def test_a_number_that_another_process_has_now_is_not_the_same_process():
    me, host = os.getpid(), os.uname().nodename
    begin = born(me)
    assert begin is not None
    assert same_process(me, begin, host)
    assert not same_process(me, begin - 10 * CLOCK, host)
    assert not same_process(me, begin, "elsewhere")


def test_a_job_sees_nothing_of_the_servers_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    folder = tmp_path / "1"
    code = "import os; print(sorted(os.environ)); print('hunter' in str(dict(os.environ)))"
    prepare(folder, Order([sys.executable, "-c", code], clean_environment(folder, 3, [1])), {})
    supervise(folder)
    assert ended(folder).state == "DONE"
    names, secret = (folder / kept.LOG).read_text().splitlines()
    assert secret == "False"
    assert "OMP_NUM_THREADS" in names
    assert clean_environment(folder, 3, [1])["OMP_NUM_THREADS"] == "3"
    assert clean_environment(folder, 3, [1])["CUDA_VISIBLE_DEVICES"] == "1"


def test_what_a_job_writes_is_its_own(tmp_path):
    folder = job(tmp_path / "1", "open('secret', 'w').write('x')")
    supervise(folder)
    ended(folder)
    assert (folder / kept.FILES / "secret").stat().st_mode & 0o077 == 0
