"""Which workers are there, as Dask's scheduler says: it runs in a thread of this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin

from rutile.core.executors.events import Came, Event, Gone


class Crew(SchedulerPlugin):
    """Tells of workers that come and go."""

    name = "rutile-crew"

    def __init__(self, put: Callable[[Event], None]) -> None:
        self.put = put

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """A worker is there."""
        self.put(Came(worker, str(scheduler.workers[worker].name)))

    def remove_worker(self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **kwargs: Any) -> None:
        """A worker is there no more, for whatever reason."""
        del scheduler, stimulus_id, kwargs
        self.put(Gone(worker))
