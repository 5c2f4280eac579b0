"""What this machine has."""

from __future__ import annotations

import os
from pathlib import Path


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
