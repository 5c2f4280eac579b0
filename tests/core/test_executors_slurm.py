"""Jobs of a private Slurm, which the tests start; jobs are cancelled, reach their wall time, lose their driver."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import executor_work
import pytest

from rutile.core.errors import ExecutorError
from rutile.core.executors import scaler
from rutile.core.executors.catalogue import open_executor, open_stations
from rutile.core.executors.settings import SlurmSettings
from rutile.core.reporting import SilentReporter

pytestmark = pytest.mark.slurm
HERE = Path(__file__).parent
SOURCE = Path(scaler.__file__).parents[3]


@pytest.fixture
def site(slurm, tmp_path, monkeypatch):
    """Settings of an executor, with changes; and that no job is left."""
    monkeypatch.setenv("SLURM_CONF", str(slurm / "slurm.conf"))
    monkeypatch.setattr(scaler, "POLL", 1.0)
    monkeypatch.setattr(scaler, "NEW", 3.0)
    monkeypatch.chdir(tmp_path)

    def settings(**changes):
        prologue = [f"export PYTHONPATH={SOURCE}:{HERE}", "echo begun"]
        return SlurmSettings(**({"interface": "lo", "logs": tmp_path / "logs", "prologue": prologue} | changes))

    yield settings
    wait_until(lambda: not jobs())


def jobs(*states):
    """Numbers of the jobs that are there."""
    asked = ["squeue", "--noheader", "--format=%i", *([f"--states={','.join(states)}"] if states else [])]
    return subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout.split()


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def begun(folder):
    """How often each piece of work was begun."""
    return {int(p.stem): len(p.read_text().split()) for p in Path(folder).glob("*.begun")}


def test_work_is_done_in_jobs_that_go_afterwards(site, tmp_path):
    with open_executor(site(memory=0.5, cores=1, directives=["--comment=ours"]), 2, SilentReporter()) as executor:
        found = dict(executor.each(executor_work.note, [(tmp_path, k, 0.2) for k in range(10)]))
        numbers = set(executor.shifts)
        secrets = list((tmp_path / "logs").glob("*.pem"))
        assert all(p.stat().st_mode & 0o777 == 0o600 for p in secrets)
        assert len(secrets) == (3 if importlib.util.find_spec("cryptography") else 0)
        asked = subprocess.run(["squeue", "--noheader", "--format=%k"], capture_output=True, text=True, check=True)
        assert asked.stdout.split() == ["ours", "ours"]
        assert dict(executor.each(executor_work.square, range(5))) == {k: k * k for k in range(5)}
        assert numbers <= set(jobs())  # the same jobs
    assert not list((tmp_path / "logs").glob("*.pem"))
    assert found == {k: k for k in range(10)}
    assert len(numbers) == 2
    assert set(begun(tmp_path).values()) == {1}


@pytest.mark.parametrize("how", [[], ["--signal=KILL", "--full"]])
def test_a_job_cancelled_in_the_middle_is_replaced_and_its_work_done_again(site, tmp_path, how):
    found, cancelled = [], []
    with open_executor(site(), 2, SilentReporter()) as executor:
        for number, result in executor.each(executor_work.note, [(tmp_path, k, 1.5) for k in range(16)]):
            found.append((number, result))
            running = jobs("RUNNING")
            if len(found) >= 3 and not cancelled and len(running) == 2:
                subprocess.run(["scancel", *how, running[0]], check=True, timeout=60)
                cancelled.append(running[0])
        assert len(executor.shifts) == 3
    assert sorted(found) == [(k, k) for k in range(16)]
    assert sum(begun(tmp_path).values()) <= 17


def test_at_the_wall_time_jobs_are_replaced_and_lose_nothing(site, tmp_path):
    with open_executor(site(wall_time="00:01:00", reserve=25.0), 1, SilentReporter()) as executor:
        found = dict(executor.each(executor_work.note, [(tmp_path, k, 6.0) for k in range(10)]))
        assert len(executor.shifts) >= 2
        assert executor.lost == 0
    assert found == {k: k for k in range(10)}
    assert set(begun(tmp_path).values()) == {1}


def test_work_that_the_wall_time_ends_is_done_again(site, tmp_path):
    with open_executor(site(wall_time="00:01:00", reserve=0.0), 1, SilentReporter()) as executor:
        found = dict(executor.each(executor_work.note, [(tmp_path, k, 17.0) for k in range(4)]))
        assert executor.lost >= 1
    assert found == {k: k for k in range(4)}
    assert max(begun(tmp_path).values()) >= 2


def test_jobs_without_work_are_given_back_and_asked_for_again(site, tmp_path):
    with open_executor(site(idle=2.0), 1, SilentReporter()) as executor:
        assert dict(executor.each(executor_work.square, range(3))) == {k: k * k for k in range(3)}
        assert jobs()
        wait_until(lambda: not jobs())
        assert dict(executor.each(executor_work.square, range(3))) == {k: k * k for k in range(3)}


def test_jobs_of_two_kinds_with_settings_of_their_own_and_only_those_without_work_are_given_back(site, tmp_path):
    gpu = site(directives=["--gres=gpu:1", "--comment=gpu"], idle=3.0)
    cpu = site(directives=["--comment=cpu"], idle=3.0)
    kinds = {"gpu": (executor_work.note, gpu, 1), "cpu": (executor_work.note, cpu, 1)}

    def comments():
        asked = ["squeue", "--noheader", "--format=%k"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()

    with open_stations(kinds, SilentReporter()) as stations:
        stations.give("cpu", 100, (tmp_path, 100, 0.5))
        for number in range(8):
            stations.give("gpu", number, (tmp_path, number, 2.0))
        found = [stations.next() for _ in range(2)]
        assert sorted(comments()) == ["cpu", "gpu"]
        found += [stations.next() for _ in range(7)]
        assert comments() == ["gpu"]
        stations.give("cpu", 101, (tmp_path, 101, 0.5))
        found.append(stations.next())
        assert "cpu" in comments()
    assert sorted(found) == [("cpu", 100, 100), ("cpu", 101, 101), *(("gpu", k, k) for k in range(8))]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"partition": "nonsense"}, "refused.*[Ii]nvalid partition"),
        ({"interface": "eth99"}, "not a valid network interface"),
        ({"cores": 64}, "jobs will not start: PartitionConfig"),
        ({"python": "/nowhere/python"}, "3 jobs ended before their worker was there: .*/nowhere/python: No such file"),
        ({"directives": ["--nonsense"]}, "refused.*unrecognized option"),
        ({"directives": ["--begin=now+1hour"], "patience": 5.0}, r"patience = 5 s: they wait \(BeginTime\)"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(site, changes, said):
    with (
        open_executor(site(**changes), 2, SilentReporter()) as executor,
        pytest.raises(ExecutorError, match=said) as error,
    ):
        list(executor.each(executor_work.square, range(3)))
    assert "\n" not in str(error.value)


DRIVER = """
import executor_work
from rutile.core.executors.catalogue import open_executor
from rutile.core.executors.settings import SlurmSettings
from rutile.core.reporting import SilentReporter

if __name__ == "__main__":
    settings = SlurmSettings.model_validate_json({settings!r})
    with open_executor(settings, 1, SilentReporter()) as executor:
        for k, _ in executor.each(executor_work.note, [({folder!r}, k, 2.0) for k in range(100)]):
            pass
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_of_a_driver_that_ends_end_too(site, tmp_path, how):
    script = tmp_path / "driver.py"
    settings = site(death_timeout=10.0).model_dump_json()
    script.write_text(DRIVER.format(settings=settings, folder=str(tmp_path)))
    paths = {"PYTHONPATH": f"{SOURCE}:{HERE}"}
    driver = subprocess.Popen([sys.executable, str(script)], env=os.environ | paths)
    try:
        wait_until(lambda: len(begun(tmp_path)) >= 2)
        assert jobs("RUNNING")
        driver.send_signal(how)
        driver.wait(60)
        wait_until(lambda: not jobs(), seconds=60)
    finally:
        driver.kill()
        driver.wait()
    assert len(begun(tmp_path)) < 50
