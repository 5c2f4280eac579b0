"""Worker processes on this machine: each has a nanny (a thread here) that replaces it when it is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rutile.core.errors import ExecutorError
from rutile.core.executors.pool import Hand
from rutile.core.executors.trust import credentials
from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

PATIENCE = 120.0
"""Seconds without any worker after which something must be wrong."""


GONE = 2.0
"""Seconds without a process after which a nanny has given up."""


class LocalPool:
    """Some processes."""

    sure = True
    ahead = 1

    def __init__(self, workers: int, reporter: Reporter) -> None:
        self.workers, self.reporter = workers, reporter
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._seen = 0.0
        self._without: dict[object, float] = {}

    def start(self) -> Client:
        """Start them.

        Raises:
            ExecutorError: they cannot be started.
        """
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"distributed.worker.profile.enabled": False})  # it costs 2 % of each core
        try:
            self._cluster = LocalCluster(
                n_workers=self.workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # the page that shows nothing, on any port
                silence_logs=logging.CRITICAL,
                security=credentials(self.reporter),
            )
            self._client = Client(self._cluster, set_as_default=False)
        except (OSError, RuntimeError) as error:
            self.close()
            raise ExecutorError(f"executor local: no worker can be started: {str(error).splitlines()[0]}") from None
        self._seen = time.monotonic()
        return self._client

    def look(self, hands: Mapping[str, Hand], wanted: int | None) -> None:
        """See that somebody is there.

        Raises:
            ExecutorError: nobody has been for a long time.
        """
        del wanted
        self._replace()
        if hands:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > PATIENCE:
            raise ExecutorError(f"executor local: all workers ended, and none came back within {PATIENCE:g} s")

    def _replace(self) -> None:
        """Replace nannies without a process: they give up where one is lost while it starts."""
        assert self._cluster is not None
        now = time.monotonic()
        without = [name for name, nanny in list(self._cluster.workers.items()) if nanny.pid is None]
        self._without = {name: self._without.get(name, now) for name in without}
        dead = [name for name, since in self._without.items() if now - since > GONE]
        for name in dead:
            self._cluster.worker_spec.pop(name, None)
        if dead or len(self._cluster.workers) < self.workers:
            self._cluster.scale(self.workers)

    def takes_work(self, hand: Hand) -> bool:
        """Every worker does."""
        del hand
        return True

    def rest(self) -> None:
        """They wait."""

    def close(self) -> None:
        """End them, whatever they are doing."""
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()
        self._client = self._cluster = None
