"""How many jobs of Slurm there are: as many as are wanted, each replaced when it ends, for whatever reason.

Dask's own scaling does not replace jobs that ended, and its adaptive mode cancels jobs that are at work.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rutile.core.errors import ExecutorError
from rutile.core.executors.queue import Entry
from rutile.core.reporting import Reporter

POLL = 5.0
"""Seconds between two looks at the queue."""
AWAY = 60.0
"""A job that runs but whose worker has been away for so many seconds is ended, and replaced."""
NEW = 15.0
"""Seconds within which a job that was submitted may be missing from the listing."""
FAILURES = 3
"""So many jobs one after another that end before their worker is there end the run."""
HOPELESS = (
    "PartitionConfig",
    "BadConstraints",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "PartitionInactive",
    "PartitionDown",
    "AccountNotAllowed",
    "QOSNotAllowed",
    "InvalidAccount",
    "InvalidQOS",
    "JobHeldAdmin",
    "JobHeldUser",
    "QOSMaxWallDurationPerJobLimit",
    "AssocMaxWallDurationPerJobLimit",
    "QOSMaxCpuPerJobLimit",
    "AssocMaxCpuPerJobLimit",
    "QOSMaxMemoryPerJob",
    "AssocMaxMemPerJob",
)
"""Reasons of Slurm that waiting does not change."""


class Queue(Protocol):
    """Where jobs are; as `SlurmQueue`."""

    def submit(self, script: str) -> str:
        """The number of a new job."""
        ...

    def listing(self) -> dict[str, Entry] | None:
        """Jobs that wait or run."""
        ...

    def cancel(self, jobs: list[str]) -> None:
        """End jobs."""
        ...


@dataclass
class Job:
    """A job that was submitted."""

    submitted: float
    worked: bool = False
    """Its worker has been there."""
    seen: float = float("inf")
    """When its worker was last there."""
    ends: float = float("inf")
    """When its wall time is over."""
    needed: float = float("-inf")
    """When it was last wanted."""


class Scaler:
    """Keeps a number of jobs.

    Args:
        queue: where they are submitted.
        script: what they run.
        logs: pattern of the files that they write, with {job}.
        patience: seconds without any worker after which to give up; None: never.
        reporter: told of jobs that wait.
        clock: the time (s).
    """

    def __init__(
        self,
        queue: Queue,
        script: str,
        logs: str,
        patience: float | None,
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.queue, self.script, self.logs, self.reporter, self.clock = queue, script, logs, reporter, clock
        self.patience = patience
        self.jobs: dict[str, Job] = {}
        self.failures = 0
        self.replaced = 0
        """Jobs that ended, at their wall time or before, and were replaced."""
        self._seen = clock()
        self._asked = float("-inf")
        self._told = ""
        self._lock = threading.Lock()

    def look(self, wanted: int, there: Set[str]) -> None:
        """Submit what is missing.

        Args:
            wanted: number of jobs.
            there: jobs whose worker is there.

        Raises:
            ExecutorError: a job is refused, jobs end before their worker is there, or they wait for nothing.
        """
        with self._lock:
            now = self.clock()
            for job in there & self.jobs.keys():
                self.jobs[job].worked, self.jobs[job].seen, self.failures = True, now, 0
            if there or not wanted:
                self._seen = now
            if now - self._asked >= POLL:
                self._asked = now
                listing = self.queue.listing()
                if listing is not None:
                    self._compare(listing, there)
                    self._waiting(listing, there)
            while len(self.jobs) < wanted:
                self.jobs[self.queue.submit(self.script)] = Job(now, needed=now)

    def give_back(self) -> None:
        """End all jobs."""
        with self._lock:
            self.queue.cancel(list(self.jobs))
            self.jobs.clear()

    def spare(self, wanted: int, busy: Set[str], idle: float) -> None:
        """End jobs that are more than wanted, and that nobody has needed for so long (s), waiting or running.

        Args:
            wanted: number of jobs.
            busy: jobs that are at work.
            idle: how long a job may have nothing to do.
        """
        with self._lock:
            now = self.clock()
            more = len(self.jobs) - wanted
            for name, job in self.jobs.items():
                if more <= 0 or name in busy:
                    job.needed = now
            over = [name for name, job in self.jobs.items() if now - job.needed > idle][: max(more, 0)]
            self.queue.cancel(over)
            for name in over:
                del self.jobs[name]

    def left(self, job: str) -> float:
        """What is left of the wall time of a job (s); nothing where it was given back."""
        return self.jobs[job].ends - self.clock() if job in self.jobs else 0.0

    def _compare(self, listing: dict[str, Entry], there: Set[str]) -> None:
        """Forget jobs that have ended; count those that had no worker."""
        now = self.clock()
        for name, job in list(self.jobs.items()):
            if name in listing:
                left = listing[name].left
                job.ends = now + left if left is not None else float("inf")
                if now - job.seen > AWAY:
                    self.queue.cancel([name])
            elif name not in there and now - job.submitted > NEW:
                del self.jobs[name]
                if job.worked:
                    self.replaced += 1
                    continue
                self.failures += 1
                if self.failures >= FAILURES:
                    raise ExecutorError(
                        f"executor slurm: {self.failures} jobs ended before their worker was there: "
                        f"{last_words(Path(self.logs.format(job=name)))}"
                    )

    def _waiting(self, listing: dict[str, Entry], there: Set[str]) -> None:
        """Say why jobs wait, and give up where that will not change."""
        reasons = Counter(e.reason for j, e in listing.items() if e.state == "PENDING" and j in self.jobs)
        text = ", ".join(reasons)
        if there:
            self._told = ""
            return
        if reasons and all(r in HOPELESS for r in reasons) and sum(reasons.values()) == len(self.jobs):
            raise ExecutorError(f"executor slurm: jobs will not start: {text}")
        if text and text != self._told and text != "None":
            self.reporter.info(f"{sum(reasons.values())} jobs of Slurm wait ({text})")
            self._told = text
        if self.patience is not None and self.clock() - self._seen > self.patience:
            why = f"they wait ({text})" if text else "none of their workers has reported"
            raise ExecutorError(f"executor slurm: no worker for executor.patience = {self.patience:g} s: {why}")


def last_words(log: Path) -> str:
    """The end of what a job printed, in one line."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return f"it wrote no {log}: can the nodes see this folder?"
    return f"{' | '.join(lines[-2:])[-300:]} ({log})" if lines else f"it printed nothing ({log})"
