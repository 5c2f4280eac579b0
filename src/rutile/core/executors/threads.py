"""Threads of this process, each of which waits for the programs that it starts."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
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
        yield from self._in_threads(work, enumerate(items))

    def _in_threads(self, work: Callable[[A], B], items: Iterator[tuple[int, A]]) -> Iterator[tuple[int, B]]:
        """An item is taken when a thread is free for it."""
        todo: queue.SimpleQueue[tuple[int, A] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, B | None, BaseException | None]] = queue.SimpleQueue()
        stop = threading.Event()

        def turn() -> None:
            while (given := todo.get()) is not None and not stop.is_set():
                try:
                    done.put((given[0], work(given[1]), None))
                except BaseException as error:
                    done.put((given[0], None, error))

        threads = [threading.Thread(target=turn, daemon=True) for _ in range(self.workers)]
        for thread in threads:
            thread.start()
        busy = 0
        try:
            while busy := busy + _put(todo, items, self.workers - busy):
                k, result, error = done.get()
                if error is not None:
                    raise error
                busy += _put(todo, items, 1) - 1  # threads go on while the result is looked at
                yield k, result  # type: ignore[misc]
        finally:
            stop.set()
            for _ in threads:
                todo.put(None)


def _put(todo: queue.SimpleQueue[tuple[int, A] | None], items: Iterator[tuple[int, A]], most: int) -> int:
    """Take up to so many items; says how many there were."""
    given = list(islice(items, most))
    for one in given:
        todo.put(one)
    return len(given)
