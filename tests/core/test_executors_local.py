"""Worker processes on this machine, killed for real."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import executor_work
import psutil
import pytest

from rutile.core.executors.catalogue import open_executor
from rutile.core.executors.desk import LOSSES
from rutile.core.executors.executor import Lost
from rutile.core.executors.settings import LocalSettings
from rutile.core.executors.trust import in_files
from rutile.core.reporting import SilentReporter

SOCKET = r"ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
"""Dask leaves the socket of a killed worker to the garbage collector, now and then."""
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(SOCKET)]


def begun(folder, number):
    """Processes in which a piece of work was begun."""
    path = Path(folder) / f"{number}.begun"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


@pytest.fixture(scope="module")
def executor():
    with open_executor(LocalSettings(), 2, SilentReporter()) as opened:
        yield opened


def test_each_item_once_and_again_with_other_work(executor):
    assert sorted(executor.each(executor_work.square, range(50))) == [(k, k * k) for k in range(50)]
    assert list(executor.each(executor_work.square, [])) == []
    assert sorted(executor.each(executor_work.square, (k for k in range(5)))) == [(k, k * k) for k in range(5)]
    assert sum(s.tasks for s in executor.shifts.values()) >= 55
    assert 0 < executor.busy <= 1


def test_only_who_has_the_certificate_of_the_run_may_connect(executor, tmp_path):
    pytest.importorskip("cryptography", reason="the package that makes certificates is not installed")
    list(executor.each(executor_work.square, range(2)))
    address = executor.client.cluster.scheduler_address
    assert address.startswith("tls://")
    in_files(executor.client.cluster.security, tmp_path, "own")
    strangers = [address], [address.replace("tls://", "tcp://")]
    assert [connected(*words) for words in strangers] == [False, False]
    assert connected(address, *(str(tmp_path / f"own-{key}.pem") for key in ("ca_file", "cert", "key")))


def connected(*words):
    """Whether another process can talk to a scheduler: at an address, with or without a certificate."""
    code = (
        "import sys; from distributed import Client, Security; address, *files = sys.argv[1:]\n"
        "keys = dict(zip(('tls_ca_file', 'tls_client_cert', 'tls_client_key'), files))\n"
        "Client(address, timeout=5, security=Security(**keys, require_encryption=True) if files else None)\n"
        "print('connected', flush=True); import os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() == "connected"


def test_errors_of_the_work_are_raised_and_the_workers_stay(executor):
    with pytest.raises(ValueError, match="3 is not liked"):
        list(executor.each(executor_work.fail_at_three, range(100)))
    assert dict(executor.each(executor_work.square, range(4))) == {k: k * k for k in range(4)}


def test_items_are_taken_as_they_are_wanted(executor):
    """Ten thousand items are not ten thousand messages: few more are drawn than are done."""
    drawn, done, most = 0, 0, 0

    def items():
        nonlocal drawn
        for k in range(200):
            drawn += 1
            yield k

    for _ in executor.each(executor_work.square, items()):
        most = max(most, drawn - done)
        done += 1
    assert done == 200
    assert most <= 8


def test_left_early_what_has_not_begun_is_left(executor, tmp_path):
    results = executor.each(executor_work.note, [(tmp_path, k, 0.01) for k in range(100)])
    for _ in range(3):
        next(results)
    results.close()
    assert sorted(executor.each(executor_work.square, range(20))) == [(k, k * k) for k in range(20)]
    assert sum(bool(begun(tmp_path, k)) for k in range(100)) < 20


def test_an_item_that_kills_its_workers_is_given_up_and_nothing_else(executor, tmp_path):
    """It does so at once: the result of what the worker did just before may be lost with it, and is no suspect then."""
    jobs = [(tmp_path, k, 0.02, (5,), 100) for k in range(24)]
    found = dict(executor.each(executor_work.kill_own_process, jobs))
    assert set(found) == set(range(24))
    assert isinstance(found[5], Lost)
    assert LOSSES <= len(begun(tmp_path, 5)) <= LOSSES + 1
    assert all(found[k] == k for k in range(24) if k != 5)


def test_an_item_that_kills_its_worker_once_is_done_again(executor, tmp_path):
    jobs = [(tmp_path, k, 0.05, (0, 5), 1) for k in range(8)]
    assert dict(executor.each(executor_work.kill_own_process, jobs)) == {k: k for k in range(8)}
    for k in (0, 5):  # once more where its result was lost with the worker that the other one ended
        assert 2 <= len(begun(tmp_path, k)) <= 3


def test_workers_killed_at_random_each_item_exactly_once(executor, tmp_path):
    rng, found, killed = random.Random(1), [], 0
    for number, result in executor.each(executor_work.note, [(tmp_path, k, 0.02) for k in range(200)]):
        found.append((number, result))
        if len(found) % 50 == 0 and len(found) < 200:
            mine = psutil.Process().children(recursive=True)
            pids = {p.pid for p in mine} & {pid for k in range(200) for pid in begun(tmp_path, k)}
            if pids:
                os.kill(rng.choice(sorted(pids)), signal.SIGKILL)
                killed += 1
    assert sorted(found) == [(k, k) for k in range(200)]
    assert killed
    assert sum(len(begun(tmp_path, k)) - 1 for k in range(200)) <= 2 * killed


DRIVER = """
import signal
import sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs tests in the background has it ignored
sys.path.insert(0, {here!r})
import executor_work
from rutile.core.executors.catalogue import open_executor
from rutile.core.executors.settings import LocalSettings
from rutile.core.reporting import SilentReporter

if __name__ == "__main__":
    with open_executor(LocalSettings(), 2, SilentReporter()) as executor:
        for k, _ in executor.each(executor_work.note, [({folder!r}, k, 60.0) for k in range(4)]):
            pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_ends_leaves_no_process(tmp_path, how):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(here=str(Path(__file__).parent), folder=str(tmp_path)))
    driver = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    try:
        wait_until(lambda: begun(tmp_path, 0) and begun(tmp_path, 1), driver)
        family = psutil.Process(driver.pid).children(recursive=True)
        assert len(family) >= 2
        if how == signal.SIGINT:
            os.killpg(driver.pid, how)  # as a terminal does
        else:
            os.kill(driver.pid, how)
        driver.wait(60)
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
    finally:
        driver.kill()
        driver.wait()


def wait_until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
