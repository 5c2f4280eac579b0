"""What tests of several rooms share: a private Slurm."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1].parent / "shared" / "slurm"
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
    folder = Path(tempfile.mkdtemp(prefix="rutile-slurm-"))
    with (Path(tempfile.gettempdir()) / "rutile-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its ports are fixed
        started = ["bash", str(SCRIPTS / "up"), str(folder)]
        try:
            with (folder / "up.log").open("w") as log:  # a file: daemons keep it open
                subprocess.run(started, check=True, timeout=240, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            yield folder
        finally:
            subprocess.run(["bash", str(SCRIPTS / "down"), str(folder)], check=True, timeout=120)
            shutil.rmtree(folder, ignore_errors=True)
