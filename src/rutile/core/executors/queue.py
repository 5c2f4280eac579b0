"""The commands of Slurm that are needed: sbatch, squeue, scancel."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from rutile.core.errors import ExecutorError

SECONDS = 60.0
"""An answer of Slurm that takes longer is none."""
LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
"""Time as squeue writes it."""


@dataclass(frozen=True)
class Entry:
    """A job as squeue lists it."""

    state: str
    """Such as PENDING, RUNNING."""
    reason: str
    """Why it waits, such as Resources, Priority."""
    left: float | None
    """What is left of its wall time (s); None where squeue does not say."""


class SlurmQueue:
    """Jobs of one name."""

    def __init__(self, name: str) -> None:
        """Jobs that will bear this name.

        Raises:
            ExecutorError: there is no Slurm here.
        """
        self.name = name
        for program in ("sbatch", "squeue", "scancel"):
            if shutil.which(program) is None:
                raise ExecutorError(
                    f"executor slurm: no program {program!r} here: run this where jobs are submitted to Slurm, or take "
                    "executor=local"
                )

    def submit(self, script: str) -> str:
        """Submit a job script; the number of the job.

        Raises:
            ExecutorError: it is refused; with what sbatch says.
        """
        done = _run(["sbatch", "--parsable"], script)
        found = re.match(r"(\d+)", done.stdout)
        if done.returncode != 0 or found is None:
            raise ExecutorError(f"executor slurm: a job is refused: {said(done)}")
        return found[1]

    def listing(self) -> dict[str, Entry] | None:
        """All jobs of this name that wait or run, by number; None where Slurm does not answer."""
        try:
            done = _run(["squeue", "--noheader", f"--name={self.name}", "--format=%i|%T|%r|%L"])
        except ExecutorError:
            return None
        if done.returncode != 0:
            return None
        rows = [line.strip().split("|") for line in done.stdout.splitlines() if line.strip()]
        return {r[0]: Entry(r[1], r[2], seconds_left(r[3])) for r in rows if len(r) == 4 and r[1] != "COMPLETING"}

    def cancel(self, jobs: list[str]) -> None:
        """End jobs, running or not; those that have ended are no error."""
        if jobs:
            _run(["scancel", *jobs])


def seconds_left(text: str) -> float | None:
    """Seconds of a time as squeue writes it.

    >>> seconds_left("1-02:03:04"), seconds_left("3:04"), seconds_left("UNLIMITED")
    (93784.0, 184.0, None)
    """
    found = LEFT.fullmatch(text)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(x or 0) for x in found.groups())
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said, in one line."""
    lines = [line.strip().removeprefix("sbatch: ") for line in (done.stderr + done.stdout).splitlines()]
    return "; ".join(line for line in lines if line) or f"exit code {done.returncode}"


def _run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"executor slurm: {command[0]} did not answer within {SECONDS:g} s") from None
    except OSError as error:
        raise ExecutorError(f"executor slurm: {command[0]}: {error.strerror}") from None
