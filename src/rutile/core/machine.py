"""What this machine has."""

from __future__ import annotations

import os


def cores() -> int:
    """Processor cores that this process may use: those it is confined to (by Slurm, taskset) where the system says."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
