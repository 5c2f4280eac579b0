"""Threads of this process, each of which waits for the programs that it starts."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from rutile.core.executors.desk import Shift, share_out
from rutile.core.executors.events import Came, Done, Event, Inbox, Raised
from rutile.core.executors.executor import Lost
from rutile.core.executors.pool import Hand
from rutile.core.reporting import Reporter, SilentReporter

A = TypeVar("A")
B = TypeVar("B")
Job = tuple[int, Callable[[Any], Any], Any]


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
        events: Inbox[Event] = Inbox()
        carrier = ThreadCarrier(self.workers, SilentReporter(), events.put)
        try:
            yield from share_out(carrier, events.get, work, items)
        finally:
            carrier.close()


class ThreadPool:
    """Threads need no care."""

    sure = True
    ahead = 0

    def __init__(self, workers: int) -> None:
        """So many."""
        self.workers = workers

    def look(self, hands: Mapping[str, Hand], wanted: int | None) -> None:
        """They are there."""

    def takes_work(self, hand: Hand) -> bool:
        """Every one does."""
        del hand
        return True

    def rest(self) -> None:
        """They wait."""


class ThreadCarrier:
    """Some threads, as `Carrier`."""

    def __init__(self, workers: int, reporter: Reporter, put: Callable[[Event], None]) -> None:
        self.pool, self.reporter, self.put = ThreadPool(workers), reporter, put
        self.hands: dict[str, Hand] = {}
        self.shifts: dict[str, Shift] = {}
        self.lost = 0
        self._todo: dict[str, queue.SimpleQueue[Job | None]] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Start the threads."""
        for k in range(self.pool.workers - len(self._todo)):
            name = f"thread-{k}"
            self._todo[name] = queue.SimpleQueue()
            threading.Thread(target=self._turn, args=(self._todo[name],), daemon=True).start()
            self.put(Came(name, name))

    def send(self, ticket: int, address: str, work: Callable[[Any], Any], item: Any) -> Callable[[], object]:
        """As `Carrier`."""
        self._todo[address].put((ticket, work, item))
        return lambda: None

    def _turn(self, todo: queue.SimpleQueue[Job | None]) -> None:
        while (given := todo.get()) is not None and not self._stop.is_set():
            ticket, work, item = given
            began = time.time()
            try:
                value = work(item)
            except BaseException as error:
                self.put(Raised(ticket, error))
            else:
                self.put(Done(ticket, value, began, time.time()))

    def close(self) -> None:
        """What runs goes on until the process ends, the rest is left."""
        self._stop.set()
        for todo in self._todo.values():
            todo.put(None)
