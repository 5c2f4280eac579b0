"""What a private Slurm leaves behind when its tests are killed: found by the folder in the environment."""

import contextlib
import shutil
from pathlib import Path

import psutil

PATIENCE = 10.0
"""Seconds that daemons have to end in order."""


def processes_of(folder):
    """Processes that were started for the Slurm of a folder: its daemons, and what runs in its jobs."""
    return [process for process in psutil.process_iter() if _is_of(process, folder)]


def _is_of(process, folder):
    with contextlib.suppress(psutil.Error):
        if process.environ().get("SLURM_CONF") == str(folder / "slurm.conf"):
            return True
        return process.name() == "slurmstepd" and Path(process.cwd()).is_relative_to(folder)  # it hides its environment
    return False


def end_what_is_left(place, prefix):
    """End and remove every Slurm of a folder there; who calls this knows that none of them is in use."""
    for folder in Path(place).glob(f"{prefix}*/"):
        left = processes_of(folder)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, stubborn = psutil.wait_procs(left, PATIENCE)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)
