"""Which waiting jobs start: those that fit beside others on this machine, and that their owners' limits let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from rutile.core.machine import cores
from rutile.jobs import gpus
from rutile.jobs.limits import Holdings
from rutile.jobs.tables import Job

PATIENCE = 600.0
"""A job that has waited so long (s) is not overtaken any more by smaller ones."""


@dataclass(frozen=True)
class Capacity:
    """What there is."""

    cores: int
    memory: float
    """GB."""
    gpus: int

    @classmethod
    def of_this_machine(cls, most_cores: int | None = None, most_memory: float | None = None) -> Capacity:
        """All of it, or less."""
        memory = psutil.virtual_memory().total / 1e9
        return cls(most_cores or cores(), most_memory or memory, gpus.count(gpus.library()))


def too_large(job: Job, capacity: Capacity) -> str:
    """Why a job can never run here, or ""."""
    wanted = (("cores", job.cores, capacity.cores), ("GB of memory", job.memory, capacity.memory),
              ("GPUs", job.gpus, capacity.gpus))  # fmt: skip
    for what, asked, there in wanted:
        if asked > there:
            return f"asks for {asked:g} {what}; this machine has {there:g}"
    return ""


@dataclass(frozen=True)
class Choice:
    """A job that fits now, and the GPUs that it gets."""

    job: Job
    gpu_ids: list[int]


def choose(
    waiting: Sequence[Job], working: Sequence[Job], capacity: Capacity, now: float, held: Holdings
) -> tuple[list[Choice], dict[int, str]]:
    """Which jobs start now, and why the others wait.

    Args:
        waiting: in their order.
        working: jobs at work on this machine.
        capacity: of the machine.
        now: seconds since 1970.
        held: what owners and groups hold; jobs that are chosen are added.
    """
    free_cores = capacity.cores - sum(j.cores for j in working)
    free_memory = capacity.memory - sum(j.memory for j in working)
    taken = {g for j in working for g in j.gpu_ids}
    free_gpus = [g for g in range(capacity.gpus) if g not in taken]
    chosen: list[Choice] = []
    reasons: dict[int, str] = {}
    blocked = False
    for job in waiting:
        if reason := too_large(job, capacity):
            reasons[job.id] = reason
            continue
        if reason := held.why_not(job):
            reasons[job.id] = reason
            continue
        lacks = _lacks(job, free_cores, free_memory, len(free_gpus))
        if lacks or blocked:
            reasons[job.id] = f"waits for {lacks}" if lacks else "waits: an older job needs the place first"
            blocked = blocked or now - job.created > PATIENCE
            continue
        chosen.append(Choice(job, free_gpus[: job.gpus]))
        free_cores, free_memory, free_gpus = free_cores - job.cores, free_memory - job.memory, free_gpus[job.gpus :]
        held.take(job)
    return chosen, reasons


def send(waiting: Sequence[Job], held: Holdings) -> tuple[list[Choice], dict[int, str]]:
    """Which jobs go to a cluster, which itself knows what is free, and why the others wait.

    Args:
        waiting: in their order.
        held: what owners and groups hold there; jobs that are chosen are added.
    """
    chosen: list[Choice] = []
    reasons: dict[int, str] = {}
    for job in waiting:
        if reason := held.why_not(job):
            reasons[job.id] = reason
            continue
        chosen.append(Choice(job, []))
        held.take(job)
    return chosen, reasons


def _lacks(job: Job, free_cores: int, free_memory: float, free_gpus: int) -> str:
    """What a job waits for, in words."""
    wanted = (("core", job.cores, free_cores), ("GB of memory", job.memory, free_memory), ("GPU", job.gpus, free_gpus))
    short = [(what, asked) for what, asked, free in wanted if asked > free]
    return " and ".join(f"{a:g} {w}{'s' if a > 1 and len(w) < 5 else ''}" for w, a in short)
