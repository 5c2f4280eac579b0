"""What this machine has."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib import metadata
from pathlib import Path

SOURCE = Path(__file__).parents[1]
"""Where rutile itself is."""
PACKAGES = ("torch", "numpy", "scipy", "ase", "vesin", "spglib", "phonopy", "phono3py", "rdkit", "tblite", "gpaw")
"""Whose versions may change numbers."""


def cores() -> int:
    """Processor cores that this process may use: those it is confined to (by Slurm, taskset) where the system says."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_memory() -> int:
    """Memory that programs can still have (bytes); where the system does not say, 4 GB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {name: int(rest.split()[0]) for name, rest in (line.split(":", 1) for line in lines)}
        return 1024 * found["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):  # not Linux
        return 4_000_000_000


def programs() -> dict[str, str]:
    """Versions of what computes here, by name, and the commit of rutile where it runs from a clone."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    found["system"] = platform.platform()
    if commit := _commit(SOURCE):
        found["commit"] = commit
    return found


def _commit(folder: Path) -> str:
    """The commit that is checked out where a folder is a part of a project; "": it is none."""
    known = _git(folder, "ls-files", "--error-unmatch", "__init__.py")
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") if known else ""


def _git(folder: Path, *words: str) -> str:
    """What git says; "" where it is not there, or refuses."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True, text=True, timeout=20)
        return done.stdout.strip()
    return ""
