"""The next tests with Slurm begin well where the last ones were killed."""

import os
import subprocess
import sys
import time

import pytest
from left_behind import end_what_is_left, processes_of


def started(code, conf):
    words = [sys.executable, "-c", f"import signal, time; {code}; print('up', flush=True); time.sleep(300)"]
    process = subprocess.Popen(words, env=os.environ | {"SLURM_CONF": str(conf)}, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"up\n"
    return process


@pytest.mark.slow
def test_a_slurm_whose_tests_were_killed_is_ended_and_another_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("left_behind.PATIENCE", 0.5)
    dead, other = tmp_path / "rutile-slurm-dead", tmp_path / "another"
    for folder in (dead, other):
        folder.mkdir()
        (folder / "slurm.conf").touch()
    deaf = "signal.signal(15, signal.SIG_IGN)"
    asked = (("pass", dead), (deaf, dead), ("pass", other))
    processes = [started(code, folder / "slurm.conf") for code, folder in asked]
    try:
        assert {p.pid for p in processes_of(dead)} == {p.pid for p in processes[:2]}
        end_what_is_left(tmp_path, "rutile-slurm-")
        end = time.monotonic() + 10
        while None in (codes := [p.poll() for p in processes])[:2] and time.monotonic() < end:
            time.sleep(0.05)
        assert [code is None for code in codes] == [False, False, True]
        assert not dead.exists()
        assert other.exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
