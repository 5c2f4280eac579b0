"""The commands of Slurm that are needed: sbatch, squeue, scancel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    comment: str = ""
    """That it was submitted with."""


@dataclass(frozen=True)
class Node:
    """A node as sinfo lists it."""

    name: str
    state: str
    """Such as idle, mixed, allocated, drained, down."""
    partitions: tuple[str, ...]
    cores: int
    cores_used: int
    memory: float
    """GB."""
    memory_used: float
    """Memory that jobs asked for (GB)."""
    gpus: int
    gpus_used: int


FIELDS = ("NodeHost", "Partition", "StateLong", "CPUsState", "Memory", "AllocMem", "Gres", "GresUsed")
"""What sinfo is asked for, each without spaces."""
WIDTH = 250
"""Signs of a field: sinfo cuts off what is longer."""


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

    def submit(self, script: str, before: Sequence[str] = ()) -> str:
        """Submit a job script; the number of the job.

        Args:
            script: that Slurm runs.
            before: words before sbatch, by which it runs as somebody else.

        Raises:
            ExecutorError: it is refused; with what sbatch says.
        """
        done = _run([*before, "sbatch", "--parsable"], script, apart=bool(before))
        found = re.match(r"(\d+)", done.stdout)
        if done.returncode != 0 or found is None:
            raise ExecutorError(f"executor slurm: a job is refused: {said(done)}")
        return found[1]

    def listing(self) -> dict[str, Entry] | None:
        """All jobs of this name that wait or run, by number; None where Slurm does not answer."""
        try:
            done = _run(["squeue", "--noheader", f"--name={self.name}", "--format=%i|%T|%r|%L|%k"])
        except ExecutorError:
            return None
        if done.returncode != 0:
            return None
        rows = [line.strip().split("|", 4) for line in done.stdout.splitlines() if line.strip()]
        return {r[0]: Entry(r[1], r[2], seconds_left(r[3]), r[4]) for r in rows if len(r) == 5 and r[1] != "COMPLETING"}

    def nodes(self, partition: str = "", gres: str = "gpu") -> list[Node] | None:
        """All nodes; None where Slurm does not answer.

        Args:
            partition: nodes of this one; "": of all.
            gres: name of its GPUs.
        """
        wanted = [f"--partition={partition}"] if partition else []
        try:
            done = _run(
                ["sinfo", "--noheader", "--Node", f"--Format={','.join(f'{f}:{WIDTH}' for f in FIELDS)}", *wanted]
            )
        except ExecutorError:
            return None
        return nodes_of(done.stdout, gres) if done.returncode == 0 else None

    def cancel(self, jobs: list[str], before: Sequence[str] = ()) -> None:
        """End jobs, running or not; those that have ended are no error.

        Args:
            jobs: their numbers.
            before: as of `submit`.
        """
        if jobs:
            _run([*before, "scancel", *jobs], apart=bool(before))


def nodes_of(text: str, gres: str = "gpu") -> list[Node]:
    """Nodes from the lines of sinfo, one for each node and partition; lines that are not understood are left out.

    Args:
        text: lines with the columns `FIELDS`.
        gres: name of the GPUs.
    """
    out: dict[str, Node] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) != len(FIELDS):
            continue
        name, partition, state, cores, memory, asked, there, used = words
        counts = cores.split("/")  # at work/idle/other/all
        if len(counts) != 4 or not all(x.isdigit() for x in (*counts, memory, asked)):
            continue
        before = out[name].partitions if name in out else ()
        out[name] = Node(
            name=name, state=state.rstrip("*~#!%$@^-+"), partitions=(*before, partition.rstrip("*")),
            cores=int(counts[3]), cores_used=int(counts[0]), memory=int(memory) / 1000, memory_used=int(asked) / 1000,
            gpus=gres_count(there, gres), gpus_used=gres_count(used, gres),
        )  # fmt: skip
    return list(out.values())


def gres_count(text: str, name: str) -> int:
    """How many of a generic resource sinfo says.

    >>> gres_count("gpu:h100:4(S:0-1),gpu:a100:2(S:0),shard:8", "gpu"), gres_count("gpu:1(IDX:0)", "gpu")
    (6, 1)
    >>> gres_count("(null)", "gpu")
    0
    """
    return sum(int(found) for found in re.findall(rf"(?:^|,){re.escape(name)}(?::[^:,()]+)?:(\d+)", text))


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


def _run(command: list[str], text: str = "", apart: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command; `apart`: with nothing of our environment but the path of programs, and in no folder of ours."""
    place: dict[str, Any] = {"env": {"PATH": os.environ.get("PATH", "")}, "cwd": "/"} if apart else {}
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=SECONDS, check=False, **place
        )
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"executor slurm: {command[0]} did not answer within {SECONDS:g} s") from None
    except OSError as error:
        raise ExecutorError(f"executor slurm: {command[0]}: {error.strerror}") from None
