"""Where jobs run: this machine, or Slurm. Each place starts supervisors and says which of them are still there."""

from __future__ import annotations

import hashlib
import shlex
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rutile.core.errors import ExecutorError, SettingsError
from rutile.core.executors.queue import Node, SlurmQueue
from rutile.jobs import folder as kept
from rutile.jobs.accounts import Account, Become, account_named
from rutile.jobs.folder import Status, read_json
from rutile.jobs.home import Home
from rutile.jobs.launch import source_folder, supervise, supervisor_words
from rutile.jobs.settings import SlurmPlace
from rutile.jobs.supervisor import born
from rutile.jobs.tables import Job, User

CLOCK = 2.0
"""Two readings of when a process began differ by less (s)."""

NODES_GOOD = 15.0
"""Nodes of a cluster are asked for at most this often (s)."""


@dataclass(frozen=True)
class There:
    """What a place says about a job that has not ended."""

    alive: bool
    reason: str = ""
    """Why it waits."""
    number: str = ""
    """Of the job there, as `Place.start` said it."""


class Place(Protocol):
    """A place where jobs run."""

    def start(self, job: Job, folder: Path) -> str:
        """Start the supervisor of a prepared folder; its number there.

        Raises:
            ExecutorError, OSError: it cannot be started.
        """
        ...

    def look(self, jobs: Sequence[Job]) -> dict[int, There]:
        """What is known of jobs that should be there; nothing about a job: not known now."""
        ...

    def end(self, job: Job) -> None:
        """End a job by force."""
        ...

    def account_of(self, owner: User) -> Account | None:
        """The Unix account under which the jobs of a user run here; None: that of the server.

        Raises:
            SettingsError: they would need one, and have none.
        """
        ...

    def clear(self, job: Job, folder: Path) -> None:
        """Remove what a job left in a folder and the server may not remove."""
        ...


class Here:
    """This machine."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def start(self, job: Job, folder: Path) -> str:
        """Start the supervisor."""
        del job
        supervise(folder)
        return ""

    def look(self, jobs: Sequence[Job]) -> dict[int, There]:
        """Whether the processes that took the jobs are there."""
        return {job.id: There(self._alive(job)) for job in jobs}

    def _alive(self, job: Job) -> bool:
        began = read_json(self.home.job(job.id) / kept.BEGAN)
        if not began:
            return False
        return same_process(int(began["pid"]), float(began["born"]), str(began["host"]))

    def end(self, job: Job) -> None:
        """The supervisor ends it when it sees the file."""

    def account_of(self, owner: User) -> Account | None:
        """All jobs of this machine run under the account of the server."""
        del owner
        return None

    def clear(self, job: Job, folder: Path) -> None:
        """What a job of this machine made belongs to the server."""


def same_process(pid: int, begin: float, host: str) -> bool:
    """Whether a process is still there, and not another one that has its number."""
    found = born(pid) if host == socket.gethostname() else None
    return found is not None and abs(found - begin) < CLOCK


def supervised(status: Status) -> bool:
    """Whether the supervisor that wrote a status is still there."""
    return same_process(status.pid, status.born, status.host)


class Slurm:
    """A cluster, by sbatch, squeue and scancel."""

    def __init__(self, home: Home, settings: SlurmPlace) -> None:
        """A cluster that is reached from here.

        Raises:
            ExecutorError: there is no Slurm here, or no way to run jobs under the accounts of users.
        """
        self.settings = settings
        self.become = Become(settings.become) if settings.unix_accounts else None
        self._nodes: tuple[float, list[Node]] = (-NODES_GOOD, [])
        self.queue = SlurmQueue("rutile-" + hashlib.sha256(str(home.folder).encode()).hexdigest()[:8])

    def start(self, job: Job, folder: Path) -> str:
        """Submit the script of a job; under an account that the folder was shared with."""
        if self.become is not None and job.unix_account:
            self.become.check(account_named(job.unix_account), folder)
        return self.queue.submit(self.script(job, folder), self._before(job))

    def _before(self, job: Job) -> list[str]:
        """Words before the commands of Slurm for a job."""
        if self.become is None or not job.unix_account:
            return []
        return self.become.before(account_named(job.unix_account))

    def script(self, job: Job, folder: Path) -> str:
        """What Slurm runs: the same supervisor as here."""
        asked = self.settings
        lines = [
            f"--job-name={self.queue.name}", f"--comment={_comment(job)}", f"--cpus-per-task={job.cores}", "--ntasks=1",
            f"--output={shlex.quote(str(folder / 'slurm.txt'))}", "--open-mode=append", "--no-requeue",
            f"--chdir={shlex.quote(str(folder))}", "--signal=B:TERM@60", "--export=PATH,HOME",
        ]  # fmt: skip
        lines += [f"--partition={asked.partition}"] if asked.partition else []
        lines += [f"--account={asked.account}"] if asked.account else []
        lines += [f"--mem={int(1000 * job.memory)}M"] if asked.memory else []
        lines += [f"--gres={asked.gres}:{job.gpus}"] if job.gpus else []
        lines += [f"--time={max(1, round(job.wall_time / 60))}"] if job.wall_time else []
        head = [f"#SBATCH {line}" for line in [*lines, *asked.directives]]
        run = f"exec {shlex.join(supervisor_words(folder))}"
        return "\n".join(
            ["#!/bin/bash", *head, *asked.prologue, f"export PYTHONPATH={shlex.quote(source_folder())}", run, ""]
        )

    def look(self, jobs: Sequence[Job]) -> dict[int, There]:
        """What squeue lists; a job that it does not list any more has ended or was lost."""
        listed = self.queue.listing()
        if listed is None:
            return {}
        submitted = {entry.comment: number for number, entry in listed.items()}
        out = {}
        for job in jobs:
            number = job.native_id or submitted.get(_comment(job), "")  # we were killed before it was written down
            entry = listed.get(number)
            waits = f"waits in Slurm: {entry.reason}" if entry is not None and entry.state == "PENDING" else ""
            out[job.id] = There(entry is not None, waits, number)
        return out

    def nodes(self) -> list[Node]:
        """Its nodes, as sinfo said them not long ago; none where it does not answer."""
        said, nodes = self._nodes
        if time.monotonic() - said >= NODES_GOOD:
            nodes = self.queue.nodes(self.settings.partition, self.settings.gres) or []
            self._nodes = (time.monotonic(), nodes)
        return nodes

    def end(self, job: Job) -> None:
        """Cancel it in Slurm: one that waits there has no supervisor that could."""
        if job.native_id:
            self.queue.cancel([job.native_id], self._before(job))

    def account_of(self, owner: User) -> Account | None:
        """The account of a user, where jobs run under accounts of users."""
        if self.become is None:
            return None
        if not owner.unix_account:
            raise SettingsError(
                f"queue = {self.settings.name}: its jobs run under the Unix accounts of users, and {owner.name} has "
                "none: ask an administrator (page Administration, Accounts), or take another queue"
            )
        return account_named(owner.unix_account)

    def clear(self, job: Job, folder: Path) -> None:
        """Remove it as the account under which the job ran."""
        if self.become is not None and job.unix_account:
            with suppress(ExecutorError, SettingsError):  # who asked sees that it is still there
                self.become.run(account_named(job.unix_account), ["rm", "-rf", "--", str(folder)])


def _comment(job: Job) -> str:
    """By which Slurm's list tells the job."""
    return f"job-{job.id}"


def open_places(home: Home, clusters: Sequence[SlurmPlace]) -> dict[str, Place]:
    """All places by the names of their queues.

    Raises:
        ExecutorError: there is no Slurm here, or two queues have one name.
    """
    places: dict[str, Place] = {"local": Here(home)}
    for one in clusters:
        if one.name in places:
            raise ExecutorError(f"clusters: two queues are called {one.name!r}")
        places[one.name] = Slurm(home, one)
    return places
