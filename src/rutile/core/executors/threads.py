"""Threads of this process, each of which waits for the programs that it starts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rutile.core.executors.executor import Lost

A = TypeVar("A")
B = TypeVar("B")


class Threads:
    """Some threads here. One: no thread at all."""

    def __init__(self, workers: int = 1) -> None:
        """So many pieces of work at once."""
        self.workers = workers

    def each(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[int, B | Lost]]:
        """As `Executor`: when the iteration is left early, running work is finished and the rest is left."""
        if self.workers == 1:
            yield from ((k, work(item)) for k, item in enumerate(items))
            return
        yield from self._in_threads(work, list(items))

    def _in_threads(self, work: Callable[[A], B], items: list[A]) -> Iterator[tuple[int, B]]:
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, B | None, BaseException | None]] = queue.SimpleQueue()
        stop = threading.Event()
        for k in range(len(items)):
            todo.put(k)

        def turn() -> None:
            while not stop.is_set():
                try:
                    k = todo.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((k, work(items[k]), None))
                except BaseException as error:
                    done.put((k, None, error))

        threads = [threading.Thread(target=turn, daemon=True) for _ in range(min(self.workers, len(items)))]
        for thread in threads:
            thread.start()
        try:
            for _ in items:
                k, result, error = done.get()
                if error is not None:
                    raise error
                yield k, result  # type: ignore[misc]
        finally:
            stop.set()
