import os
import platform
import shutil
import subprocess

import numpy as np
import pytest

from rutile.core import machine
from rutile.core.machine import cores, programs


def test_cores_are_those_of_this_process(monkeypatch):
    assert 1 <= cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cores() == 6


def test_programs_have_their_versions(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    found = programs()
    assert (found["numpy"], found["Python"]) == (np.__version__, platform.python_version())
    assert "no-such-package" not in found


def test_a_clone_says_its_commit_and_whether_it_was_changed(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    package = tmp_path / "project" / "rutile"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(machine, "SOURCE", package)

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *who, *words], cwd=package, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert "commit" not in programs()
    git("init", "-q")
    assert "commit" not in programs()  # lies in a folder of something else
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert programs()["commit"] == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("x = 1")
    assert programs()["commit"] == git("rev-parse", "HEAD") + "-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "commit" not in programs()
