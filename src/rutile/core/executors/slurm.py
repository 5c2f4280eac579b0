"""Workers in jobs of Slurm: one for each job, which reports to this process over the network."""

from __future__ import annotations

import logging
import threading
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from rutile.core.errors import ExecutorError
from rutile.core.executors.pool import Hand
from rutile.core.executors.queue import SlurmQueue
from rutile.core.executors.scaler import Scaler
from rutile.core.executors.settings import SlurmSettings
from rutile.core.executors.trust import credentials, forget, in_files
from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from distributed import Client, LocalCluster, Security


class SlurmPool:
    """Some jobs."""

    sure = False
    ahead = 1

    def __init__(self, settings: SlurmSettings, workers: int, reporter: Reporter) -> None:
        self.settings, self.workers, self.reporter = settings, workers, reporter
        self.reserve = settings.reserve if settings.reserve is not None else settings.seconds / 10
        self.scaler: Scaler | None = None
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._rest: threading.Timer | None = None
        self._name = ""

    def start(self) -> Client:
        """Listen for workers; jobs are submitted by `look`.

        Raises:
            ExecutorError: no Slurm, no such network interface, or the folder for logs cannot be made.
        """
        self._name = f"rutile-{uuid.uuid4().hex[:8]}"
        queue = SlurmQueue(self._name)
        logs = self.settings.logs.absolute()
        from distributed import Client, LocalCluster

        security = credentials(self.reporter)
        try:
            logs.mkdir(parents=True, exist_ok=True)
            shown = in_files(security, logs, self._name) if security is not None else None
        except OSError as error:
            raise ExecutorError(
                f"executor slurm: cannot write in {logs}: {error.strerror}; choose other logs"
            ) from None
        try:
            self._cluster = LocalCluster(
                n_workers=0,
                host=address(self.settings.interface),
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # the page that shows nothing, on any port
                silence_logs=logging.CRITICAL,
                security=security,
            )
            self._client = Client(self._cluster, set_as_default=False)
        except (OSError, RuntimeError) as error:
            self.close()
            raise ExecutorError(f"executor slurm: cannot listen for workers: {error}") from None
        script = job_script(self.settings, self._name, self._cluster.scheduler_address, shown)
        pattern = str(logs / f"{self._name}-{{job}}.err")
        self.scaler = Scaler(queue, script, pattern, self.settings.patience, self.reporter)
        return self._client

    def look(self, hands: Mapping[str, Hand], wanted: int | None) -> None:
        """Replace jobs that ended, and end those that wait for the end of their wall time."""
        assert self.scaler is not None
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        many = self.workers if wanted is None else min(self.workers, wanted)
        self.scaler.look(many, {h.name for h in hands.values()})
        self.scaler.spare(many, {h.name for h in hands.values() if h.tickets}, self.settings.idle)
        assert self._client is not None
        over = [h.address for h in hands.values() if not h.tickets and not self.takes_work(h)]
        if over:
            with suppress(OSError):
                self._client.retire_workers(over, close_workers=True)

    def takes_work(self, hand: Hand) -> bool:
        """Whether enough of the wall time of its job is left."""
        assert self.scaler is not None
        return self.scaler.left(hand.name) > self.reserve

    def rest(self) -> None:
        """Give jobs back unless there is work soon."""
        if self.scaler is not None:
            self._rest = threading.Timer(self.settings.idle, self.scaler.give_back)
            self._rest.daemon = True
            self._rest.start()

    def close(self) -> None:
        """End the jobs."""
        if self._rest is not None:
            self._rest.cancel()
        if self.scaler is not None:
            self.scaler.give_back()
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        if self._name:
            forget(self.settings.logs.absolute(), self._name)
        self.scaler = self._client = self._cluster = None


def address(interface: str) -> str:
    """Address of this machine that other machines use.

    Raises:
        ExecutorError: there is no such interface.
    """
    from distributed.utils import get_ip, get_ip_interface

    if not interface:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # no route to the internet
            return str(get_ip())
    try:
        return str(get_ip_interface(interface))
    except ValueError as error:
        raise ExecutorError(f"executor slurm: executor.interface = {interface}: {error}") from None


def job_script(settings: SlurmSettings, name: str, scheduler: str, security: Security | None) -> str:
    """The script of a job, by dask-jobqueue.

    Args:
        settings: what is asked of Slurm.
        name: of the jobs.
        scheduler: address that workers report to.
        security: what they show to be let in, in files.
    """
    from dask_jobqueue.slurm import SLURMJob

    margin = min(30.0, settings.seconds / 10)
    arguments = [
        "--lifetime",
        f"{settings.seconds - margin:.0f}s",
        "--lifetime-stagger",
        f"{margin / 3:.0f}s",
        "--no-dashboard",
    ]
    if settings.memory is None:
        arguments += ["--memory-limit", "0"]
    job = SLURMJob(
        scheduler=scheduler,
        name="$SLURM_JOB_ID",
        job_name=name,
        queue=settings.partition or None,
        account=settings.account or None,
        walltime=settings.wall_time,
        cores=settings.cores,
        processes=1,
        job_cpu=settings.cores,
        memory=f"{settings.memory or 1.0}GB",
        interface=settings.interface or None,
        death_timeout=settings.death_timeout,
        worker_extra_args=["--nthreads", "1", *arguments],
        job_extra_directives=["--no-requeue", *settings.directives],
        job_script_prologue=settings.prologue or None,
        job_directives_skip=["--mem"] if settings.memory is None else [],
        log_directory=str(settings.logs.absolute()),
        security=security,
        python=settings.python or None,
    )
    return str(job.job_script())
