"""Workers of Dask, which carries functions and results and says who is there; who does what is decided by `desk`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from rutile.core.executors.desk import Shift, share_out
from rutile.core.executors.events import Done, Event, Inbox, Raised
from rutile.core.executors.executor import Lost
from rutile.core.executors.pool import Hand, Pool
from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from distributed import Client, Future

A = TypeVar("A")
B = TypeVar("B")
NO_REST = 0.9
"""A process that shares out work and is at work more than this part of its time holds its workers up."""


class Sharing:
    """An executor with the workers of a pool, which are started when there is work for the first time.

    Args:
        pool: where the workers come from.
        reporter: told of those that are lost.
        put: takes events, called in Dask's thread; by default they are kept for `each`.
    """

    def __init__(self, pool: Pool, reporter: Reporter, put: Callable[[Event], None] | None = None) -> None:
        self.pool, self.reporter = pool, reporter
        self.shifts: dict[str, Shift] = {}
        self.lost = 0
        self.hands: dict[str, Hand] = {}
        self.client: Client | None = None
        self._events: Inbox[Event] = Inbox()
        self._put = put or self._events.put

    def each(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[int, B | Lost]]:
        """As `Executor`."""
        self._events.begin()
        yield from share_out(self, self._events.get, work, items)

    def start(self) -> None:
        """Start the workers, or ask for them."""
        if self.client is not None:
            return
        from rutile.core.executors.crew import Crew

        self.client = self.pool.start()
        assert self.client.cluster is not None
        scheduler = self.client.cluster.scheduler
        crew = Crew(self._put)
        scheduler.add_plugin(crew)
        for address in list(scheduler.workers):  # those that came before the plugin
            crew.add_worker(scheduler, address)

    def send(self, ticket: int, address: str, work: Callable[[Any], Any], item: Any) -> Callable[[], object]:
        """As `Carrier`."""
        client = self.client
        assert client is not None
        future = client.submit(perform, work, item, key=f"rutile-{ticket}", pure=False, workers=[address], retries=0)
        assert client.loop is not None
        client.loop.add_callback(self._follow, ticket, future)
        cancel: Callable[[], object] = future.cancel
        return cancel

    async def _follow(self, ticket: int, future: Future[Any]) -> None:
        """Bring the result when it is there; in Dask's thread."""
        try:
            value, began, ended = await future
        except Exception as error:
            self._put(Raised(ticket, error))
        else:
            self._put(Done(ticket, value, began, ended))

    @property
    def busy(self) -> float:
        """Part of their time that the workers were at work, each between its first piece of work and its last."""
        there = sum(s.until - s.since for s in self.shifts.values())
        return sum(s.busy for s in self.shifts.values()) / there if there > 0 else 1.0

    def close(self) -> None:
        """End the workers, and say what they did."""
        self.pool.close()
        self.client = None
        if self.lost:
            self.reporter.info(f"{self.lost} workers were lost at work; what they were doing was done again")
        if self.shifts:
            tasks = sum(s.tasks for s in self.shifts.values())
            many = f"{len(self.shifts)} workers did {tasks} tasks"
            self.reporter.info(f"{many} and were busy {self.busy:.0%} of their time{held_up(self._events.busy)}")


def held_up(driver: float) -> str:
    """What is said of the part of its time that the process that shares out work was at work."""
    said = f"; this process {driver:.0%}" if driver > 0 else ""
    return f"{said}: it could not keep up with them" if driver > NO_REST else said


def perform(work: Callable[[A], B], item: A) -> tuple[B, float, float]:
    """Result of a piece of work, and when it was begun and ended; runs in a worker."""
    began = time.time()
    return work(item), began, time.time()
