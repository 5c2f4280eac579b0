"""Who does the work: a function of one item, many items, results in any order.

The work on an item is a picklable function of a picklable item, and doing it twice does no harm, so that the same
labelling runs in this process, or anywhere.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Executor(Protocol):
    """Something that does many pieces of work."""

    def each(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[int, B]]:
        """Number of each item and what came of it, as they are done.

        Raises:
            Exception: what `work` raised; work that has not begun is left.
        """
        ...


class Threads:
    """Some threads here, each of which waits for the engines that it starts. One: no thread at all."""

    def __init__(self, workers: int = 1) -> None:
        """So many pieces of work at once."""
        self.workers = workers

    def each(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[int, B]]:
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
