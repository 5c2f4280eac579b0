"""Starting jobs: the words of their command, the environment they see, and supervisors that outlive us."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import rutile
from rutile.core.connection import CONNECTION
from rutile.core.connection import VARIABLE as CONNECTED
from rutile.jobs import folder as kept
from rutile.jobs.folder import Order

KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "XDG_CACHE_HOME",
    "MODULEPATH",
    "SLURM_CONF",
)
"""What a job sees of the server's environment, besides what engines are configured by."""
OURS = ("HOME", "TMPDIR", "XDG_CACHE_HOME")
"""Of these, folders of the server's own account."""
ENGINES = ("ASE_", "VASP_", "ESPRESSO_", "CP2K_", "GPAW_", "RUTILE_KERNELS")
"""Beginnings of names by which engines are configured."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")

_FORK = """
import os, sys
os.setsid()
if os.fork():
    os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""The supervisor's parent ends at once: it belongs to init, and nobody here has to wait for it."""


def words_of(task: str) -> list[str]:
    """The command of a job: program and words."""
    return [sys.executable, "-m", "rutile", *task.split(), kept.SETTINGS]


def clean_environment(
    folder: Path, cores: int, gpu_ids: Sequence[int] | None, home: str | None = None
) -> dict[str, str]:
    """All that a job sees: nothing of the server's secrets; the name of the file by which it signs in, if it has one.

    Args:
        folder: of the job.
        cores: that it may use.
        gpu_ids: GPUs that it may use; None: those that Slurm gives.
        home: of the account under which it runs; None: that of the server.
    """
    found = {k: v for k, v in os.environ.items() if k in KEPT or k.startswith(ENGINES)}
    if home is not None:
        found = {k: v for k, v in found.items() if k not in OURS} | {"HOME": home}
    found |= dict.fromkeys(THREADS, str(cores))
    found |= {"PYTHONPATH": source_folder(), "PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg", kept.VARIABLE: str(folder)}
    if (folder / CONNECTION).exists():
        found[CONNECTED] = str(folder / CONNECTION)
    if gpu_ids is not None:
        found["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpu_ids))
    return found


def source_folder() -> str:
    """Where this rutile is, so that jobs run the same one."""
    return str(Path(rutile.__file__).parent.parent)


def supervise(folder: Path) -> None:
    """Start the supervisor of a prepared job, detached from this process; returns at once.

    Raises:
        OSError: no process can be started.
    """
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": source_folder(),
        "HOME": os.environ.get("HOME", "/"),
    }
    words = [sys.executable, "-I", "-S", "-c", _FORK, *supervisor_words(folder)]
    nothing = subprocess.DEVNULL
    subprocess.run(
        words, env=environment, cwd=folder, check=True, timeout=60, stdin=nothing, stdout=nothing, stderr=nothing
    )


def supervisor_words(folder: Path) -> list[str]:
    """The command of a supervisor."""
    return [sys.executable, "-m", "rutile.jobs.supervisor", str(folder)]


def order_of(
    task: str, folder: Path, cores: int, memory: float, wall_time: float | None, gpu_ids: Sequence[int] | None,
    home: str | None = None,
) -> Order:  # fmt: skip
    """What a supervisor is told.

    Args:
        task: of the job.
        folder: of the job.
        cores: that it may use.
        memory: GB that it may use.
        wall_time: seconds that it may take; None: any.
        gpu_ids: as of `clean_environment`.
        home: as of `clean_environment`.
    """
    environment = clean_environment(folder, cores, gpu_ids, home)
    return Order(words_of(task), environment, cores, memory, wall_time, shared=home is not None)
