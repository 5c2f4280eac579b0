"""All executors by name; Dask is imported when one that needs it has work to do.

A task has two settings, `workers: int` (pieces of work at the same time) and `executor: ExecutorSettings =
ThreadsSettings()`, and opens what they say:

    with open_executor(settings.executor, settings.workers, reporter) as executor:
        Campaign(..., executor=executor, ...)
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from rutile.core.executors.desk import Desk
from rutile.core.executors.events import Event, Inbox
from rutile.core.executors.executor import Executor
from rutile.core.executors.settings import ExecutorSettings, SlurmSettings, ThreadsSettings
from rutile.core.executors.stations import SharedStations, Stations
from rutile.core.executors.threads import ThreadCarrier, Threads
from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from rutile.core.executors.sharing import Sharing


@contextmanager
def open_executor(settings: ExecutorSettings, workers: int, reporter: Reporter) -> Iterator[Executor]:
    """An executor, whose processes and jobs are ended afterwards; they are started when there is work.

    Args:
        settings: which one.
        workers: pieces of work at the same time.
        reporter: told of workers that are lost, and of jobs that wait.
    """
    if isinstance(settings, ThreadsSettings):
        yield Threads(workers)
        return
    executor = _dask(settings, workers, reporter)
    with told_to_end():
        try:
            yield executor
        finally:
            executor.close()


@contextmanager
def open_stations(
    kinds: Mapping[str, tuple[Callable[[Any], Any], ExecutorSettings, int]], reporter: Reporter
) -> Iterator[Stations]:
    """Workers of several kinds, which are ended afterwards; those of a kind are started when there is work for it.

    Args:
        kinds: for each its work (as in `Executor.each`), by whom, and how many pieces of work at the same time.
        reporter: told of workers that are lost, and of jobs that wait.
    """
    events: Inbox[tuple[str, Event]] = Inbox()

    def put(kind: str, event: Event) -> None:
        events.put((kind, event))

    carriers: dict[str, ThreadCarrier | Sharing] = {}
    for kind, (_, settings, workers) in kinds.items():
        to = partial(put, kind)
        threads = isinstance(settings, ThreadsSettings)
        carriers[kind] = ThreadCarrier(workers, reporter, to) if threads else _dask(settings, workers, reporter, to)

    def close() -> None:
        if carriers and events.lasted > 0:
            reporter.info(f"what shared out the work was busy {events.busy:.0%} of its time")
        while carriers:
            carriers.popitem()[1].close()

    desks = {kind: Desk(carriers[kind], work) for kind, (work, *_) in kinds.items()}
    with told_to_end():
        try:
            yield SharedStations(desks, events.get, close)
        finally:
            close()


def _dask(
    settings: ExecutorSettings, workers: int, reporter: Reporter, put: Callable[[Event], None] | None = None
) -> Sharing:
    """Processes here, or jobs."""
    from rutile.core.executors.sharing import Sharing

    if isinstance(settings, SlurmSettings):
        from rutile.core.executors.slurm import SlurmPool

        return Sharing(SlurmPool(settings, workers, reporter), reporter, put)
    from rutile.core.executors.local import LocalPool

    return Sharing(LocalPool(workers, reporter), reporter, put)


@contextmanager
def told_to_end() -> Iterator[None]:
    """SIGTERM leaves the block as an exception does, so that jobs and processes are ended; exit code 143."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: object) -> None:
    del frame
    sys.exit(128 + number)
