"""Sharing out work to workers of Dask that may be lost at any time.

Dask carries functions and results and says who is there. Which worker does what is decided here: each is given one
piece of work at a time (two where they are short, so that it need not wait for the next), so that it is known what a
lost worker was doing, and so that ten thousand items are not sent before they are wanted.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rutile.core.executors.events import Came, Done, Event, Gone, Raised
from rutile.core.executors.executor import Lost
from rutile.core.executors.pool import Hand, Pool
from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from distributed import Client, Future

A = TypeVar("A")
B = TypeVar("B")
LOSSES = 3
"""An item on which so many workers were lost is given up."""
SHORT = 1.0
"""Pieces of work that take less on average (s) are given out one ahead."""
PAUSE = 0.5
"""Seconds between looks at the workers when nothing happens."""
TOLD = 3
"""Losses of workers that are told one by one."""


@dataclass
class Shift:
    """What a worker has done."""

    tasks: int = 0
    """Pieces of work."""
    busy: float = 0.0
    """Time at work (s)."""
    since: float = float("inf")
    """When the first began (s), by its clock."""
    until: float = float("-inf")
    """When the last ended (s)."""

    def add(self, began: float, ended: float) -> None:
        """One more piece of work."""
        self.tasks += 1
        self.busy += ended - began
        self.since, self.until = min(self.since, began), max(self.until, ended)


@dataclass(frozen=True)
class Try:
    """An item that was given to a worker."""

    number: int
    """Of the item."""
    item: Any
    address: str
    """Of the worker."""
    future: Future[Any]


class Sharing:
    """An executor with the workers of a pool, which are started when there is work for the first time."""

    def __init__(self, pool: Pool, reporter: Reporter) -> None:
        self.pool, self.reporter = pool, reporter
        self.shifts: dict[str, Shift] = {}
        """What each worker has done, by its name."""
        self.lost = 0
        """Workers lost while they were at work."""
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.hands: dict[str, Hand] = {}
        self.client: Client | None = None

    def each(self, work: Callable[[A], B], items: Iterable[A]) -> Iterator[tuple[int, B | Lost]]:
        """As `Executor`."""
        turn = Turn(self, work, enumerate(items), len(items) if isinstance(items, Sized) else None)
        if not turn.more():
            return
        try:
            if self.client is None:
                self.client = self._start()
            yield from turn.results(self.client)
        finally:
            turn.leave()
            self.pool.rest()

    def _start(self) -> Client:
        from rutile.core.executors.crew import Crew

        client = self.pool.start()
        assert client.cluster is not None
        scheduler = client.cluster.scheduler
        crew = Crew(self.events)
        scheduler.add_plugin(crew)
        for address in list(scheduler.workers):  # those that came before the plugin
            crew.add_worker(scheduler, address)
        return client

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
            self.reporter.info(f"{many} and were busy {self.busy:.0%} of their time")


class Turn:
    """One `each`."""

    _tickets = itertools.count()

    def __init__(
        self, sharing: Sharing, work: Callable[[Any], Any], items: Iterator[tuple[int, Any]], many: int | None
    ) -> None:
        self.sharing, self.work, self.items, self.many = sharing, work, items, many
        self.next: deque[tuple[int, Any]] = deque()
        """Items that are wanted next: one of those that come, or those that were lost."""
        self.tries: dict[int, Try] = {}
        """By ticket."""
        self.losses: Counter[int] = Counter()
        """Workers lost, by number of the item."""
        self.suspects: set[int] = set()
        """Items that a lost worker had: each is given to a worker that has nothing else, so that it is known which of
        them ends its worker."""
        self.spent, self.done = 0.0, 0

    def more(self) -> bool:
        """Whether there is an item that nobody has."""
        if not self.next:
            self.next.extend(itertools.islice(self.items, 1))
        return bool(self.next)

    def results(self, client: Client) -> Iterator[tuple[int, Any]]:
        """Numbers and results."""
        looked = 0.0
        while self.more() or self.tries:
            if time.monotonic() - looked > PAUSE:
                self.sharing.pool.look(self.sharing.hands, None if self.many is None else self.many - self.done)
                looked = time.monotonic()
            self._give_out(client)
            try:
                event = self.sharing.events.get(timeout=PAUSE)
            except queue.Empty:
                continue
            found = self._understand(event)
            if found is not None:
                self._give_out(client)  # workers go on while the result is looked at
                yield found

    def leave(self) -> None:
        """Take back what was given out."""
        for one in self.tries.values():
            one.future.cancel()
        self.tries.clear()
        for hand in self.sharing.hands.values():
            hand.tickets.clear()
            hand.alone = False

    def _give_out(self, client: Client) -> None:
        """Work for all who have none, then, where it is short, one piece ahead for each."""
        short = self.done > 0 and self.spent / self.done < SHORT
        for ahead in range(2 if short else 1):
            for hand in self.sharing.hands.values():
                if len(hand.tickets) > ahead or hand.alone or not self.sharing.pool.takes_work(hand):
                    continue
                if not self.more():
                    return
                suspect = self.next[0][0] in self.suspects
                if suspect and hand.tickets:
                    continue
                hand.alone = suspect
                self._give(client, hand, *self.next.popleft())

    def _give(self, client: Client, hand: Hand, number: int, item: Any) -> None:
        ticket = next(self._tickets)
        future = client.submit(
            perform, self.work, item, key=f"rutile-{ticket}", pure=False, workers=[hand.address], retries=0
        )
        self.tries[ticket] = Try(number, item, hand.address, future)
        hand.tickets.append(ticket)
        assert client.loop is not None
        client.loop.add_callback(self._follow, ticket, future)

    async def _follow(self, ticket: int, future: Future[Any]) -> None:
        """Bring the result when it is there; in Dask's thread."""
        try:
            value, began, ended = await future
        except Exception as error:
            self.sharing.events.put(Raised(ticket, error))
        else:
            self.sharing.events.put(Done(ticket, value, began, ended))

    def _understand(self, event: Event) -> tuple[int, Any] | None:
        """Keep the books; number and result if there is one.

        Raises:
            Exception: what the work raised.
        """
        if isinstance(event, Came):
            self.sharing.hands[event.address] = Hand(event.address, event.name)
            return None
        if isinstance(event, Gone):
            return self._gone(event)
        one = self.tries.pop(event.ticket, None)
        if one is None:  # was taken back
            return None
        hand = self.sharing.hands[one.address]
        hand.tickets.remove(event.ticket)
        hand.alone = False
        if isinstance(event, Raised):
            raise event.error
        self.spent, self.done = self.spent + event.ended - event.began, self.done + 1
        self.sharing.shifts.setdefault(hand.name, Shift()).add(event.began, event.ended)
        return one.number, event.value

    def _gone(self, event: Gone) -> tuple[int, Lost] | None:
        """A worker is gone: what it was doing counts as a loss, what waited behind that does not."""
        hand = self.sharing.hands.pop(event.address, None)
        if hand is None or not hand.tickets:
            return None
        tries = [self.tries.pop(t) for t in hand.tickets]
        for one in tries:
            one.future.cancel()
            self.suspects.add(one.number)
        self.next.extendleft((one.number, one.item) for one in reversed(tries[1:]))
        self.sharing.lost += 1
        self.losses[tries[0].number] += 1
        if self.losses[tries[0].number] >= LOSSES:
            return tries[0].number, Lost(
                f"{LOSSES} workers were lost at work on it (killed, out of memory, out of time)"
            )
        self.next.appendleft((tries[0].number, tries[0].item))
        if self.sharing.lost <= TOLD:
            self.sharing.reporter.warn(f"worker {hand.name} was lost; what it was doing is done again")
        return None


def perform(work: Callable[[A], B], item: A) -> tuple[B, float, float]:
    """Result of a piece of work, and when it was begun and ended; runs in a worker."""
    began = time.time()
    return work(item), began, time.time()
