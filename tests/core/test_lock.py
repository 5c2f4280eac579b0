"""The lock of a folder: one process at a time, gone with its holder, also by SIGKILL."""

import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import rutile
from rutile.core import lock
from rutile.core.errors import FileError
from rutile.core.lock import LOCK_FILE, alone_in
from rutile.core.reporting import SilentReporter

HOLD = """
import sys, pathlib
from rutile.core.lock import alone_in
from rutile.core.reporting import SilentReporter
with alone_in(pathlib.Path(sys.argv[1]), SilentReporter()):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder):
    """Another process that holds the lock until its input is closed."""
    environment = os.environ | {"PYTHONPATH": str(Path(rutile.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.communicate()


def enter(folder, reporter=None):
    with alone_in(folder, reporter or SilentReporter()):
        return (folder / LOCK_FILE).read_text()


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path):
    with holder(tmp_path) as process:
        with pytest.raises(FileError) as caught:
            enter(tmp_path)
        told = str(caught.value)
        assert f"process {process.pid} on {socket.gethostname()} since " in told
        assert str(tmp_path) in told
        assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told)
        assert "\n" not in told
    enter(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_holds_nothing(tmp_path):
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / LOCK_FILE).exists()
        assert f"process {os.getpid()} on" in enter(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_one_process_cannot_enter_twice(tmp_path):
    with alone_in(tmp_path, SilentReporter()):
        with pytest.raises(FileError, match=f"process {os.getpid()} on"):
            enter(tmp_path)
        with pytest.raises(FileError, match=f"process {os.getpid()} on"):  # being refused takes nothing away
            enter(tmp_path)


def test_the_lock_goes_with_an_error(tmp_path):
    with pytest.raises(ValueError, match="bad"), alone_in(tmp_path, SilentReporter()):
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_holder_removes_between_opening_and_locking_is_not_taken(tmp_path, monkeypatch):
    """Who locked the removed file would share the folder with who makes a new one."""
    calls = []

    def flock(handle, how):
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()
        return real(handle, how)

    real = fcntl.flock
    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with alone_in(tmp_path, SilentReporter()):
        assert len(calls) == 2
        monkeypatch.undo()
        with pytest.raises(FileError, match="at work here"):
            enter(tmp_path)


def test_without_locks_the_work_goes_on_with_a_warning(tmp_path, monkeypatch):
    def flock(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    reporter = SilentReporter()
    enter(tmp_path, reporter)
    assert "no locks" in reporter.warnings[0]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileError, match="cannot write"):
        enter(tmp_path / "none")
