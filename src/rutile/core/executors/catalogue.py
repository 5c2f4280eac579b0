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
from collections.abc import Iterator
from contextlib import contextmanager

from rutile.core.executors.executor import Executor
from rutile.core.executors.settings import ExecutorSettings, SlurmSettings, ThreadsSettings
from rutile.core.executors.threads import Threads
from rutile.core.reporting import Reporter


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
    from rutile.core.executors.sharing import Sharing

    if isinstance(settings, SlurmSettings):
        from rutile.core.executors.slurm import SlurmPool

        executor = Sharing(SlurmPool(settings, workers, reporter), reporter)
    else:
        from rutile.core.executors.local import LocalPool

        executor = Sharing(LocalPool(workers, reporter), reporter)
    with told_to_end():
        try:
            yield executor
        finally:
            executor.close()


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
