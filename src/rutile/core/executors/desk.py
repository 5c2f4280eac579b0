"""Who does what, where workers may be lost at any time: the same for threads, processes, jobs, and in simulations.

Each worker is given one piece of work at a time (one more where they are short, so that it need not wait for the next),
so that it is known what a lost worker was doing, and so that ten thousand items are not sent before they are wanted.
"""

from __future__ import annotations

import itertools
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, Protocol

from rutile.core.executors.events import Came, Event, Gone, Raised
from rutile.core.executors.executor import Lost
from rutile.core.executors.pool import Hand, Staff
from rutile.core.reporting import Reporter

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


class Carrier(Protocol):
    """Brings work to workers; what comes of it, and who comes and goes, it says in events."""

    reporter: Reporter
    hands: dict[str, Hand]
    """The workers that are there, by address; the desk keeps this book."""
    shifts: dict[str, Shift]
    """What each worker has done, by its name; the desk keeps this book."""
    lost: int
    """Workers lost while they were at work."""

    @property
    def pool(self) -> Staff:
        """The workers."""
        ...

    def start(self) -> None:
        """Start the workers, or ask for them; nothing the second time."""
        ...

    def send(self, ticket: int, address: str, work: Callable[[Any], Any], item: Any) -> Callable[[], object]:
        """Have a worker do something after what it has; gives what takes it back where it has not begun."""
        ...


@dataclass(frozen=True)
class Try:
    """An item that was given to a worker."""

    number: int
    """Of the item."""
    item: Any
    address: str
    """Of the worker."""
    cancel: Callable[[], object]
    """Takes it back."""


class Desk:
    """Shares out one kind of work to the workers of one carrier."""

    _tickets = itertools.count()

    def __init__(self, carrier: Carrier, work: Callable[[Any], Any]) -> None:
        self.carrier, self.work = carrier, work
        self.next: deque[tuple[int, Any]] = deque()
        """Items that wait for a worker: new ones, or those that were lost."""
        self.tries: dict[int, Try] = {}
        """By ticket."""
        self.losses: Counter[int] = Counter()
        """Workers lost, by number of the item."""
        self.suspects: set[int] = set()
        """Items that a lost worker had: each is given to a worker that has nothing else, so that it is known which of
        them ends its worker."""
        self.spent, self.done = 0.0, 0

    @property
    def open(self) -> int:
        """Items that are not done yet."""
        return len(self.next) + len(self.tries)

    def room(self) -> bool:
        """Whether a worker would begin another item now, or where work is short, soon."""
        pool = self.carrier.pool
        depth = self._depth()
        places = pool.workers - len(self.carrier.hands) if pool.sure else not self.open
        if len(self.next) < places:
            return True
        for hand in self.carrier.hands.values():
            if not hand.alone and len(hand.tickets) < depth and pool.takes_work(hand):
                places += depth - len(hand.tickets)
                if len(self.next) < places:
                    return True
        return False

    def give(self, number: int, item: Any) -> None:
        """One more item; a worker that is free begins it."""
        self.next.append((number, item))
        self._give_out()

    def understand(self, event: Event) -> tuple[int, Any] | None:
        """Keep the books; number and result if there is one.

        Raises:
            Exception: what the work raised.
        """
        found = self._read(event)
        self._give_out()
        return found

    def leave(self) -> None:
        """Take back what was given out."""
        for one in self.tries.values():
            one.cancel()
        self.tries.clear()
        self.next.clear()
        for hand in self.carrier.hands.values():
            hand.tickets.clear()
            hand.alone = False

    def _depth(self) -> int:
        """Pieces of work that a worker may have."""
        short = self.done > 0 and self.spent / self.done < SHORT
        return 1 + self.carrier.pool.ahead if short else 1

    def _give_out(self) -> None:
        """What waits to all who have nothing, then, where work is short, one piece ahead for each."""
        for ahead in range(self._depth()):
            if not self.next:
                return
            for hand in self.carrier.hands.values():
                if len(hand.tickets) > ahead or hand.alone or not self.carrier.pool.takes_work(hand):
                    continue
                suspect = self.next[0][0] in self.suspects
                if suspect and hand.tickets:
                    continue
                hand.alone = suspect
                self._give(hand, *self.next.popleft())
                if not self.next:
                    return

    def _give(self, hand: Hand, number: int, item: Any) -> None:
        ticket = next(self._tickets)
        hand.tickets.append(ticket)
        cancel = self.carrier.send(ticket, hand.address, self.work, item)
        self.tries[ticket] = Try(number, item, hand.address, cancel)

    def _read(self, event: Event) -> tuple[int, Any] | None:
        if isinstance(event, Came):
            self.carrier.hands[event.address] = Hand(event.address, event.name)
            return None
        if isinstance(event, Gone):
            return self._gone(event)
        one = self.tries.pop(event.ticket, None)
        if one is None:  # was taken back
            return None
        hand = self.carrier.hands[one.address]
        hand.tickets.remove(event.ticket)
        hand.alone = False
        if isinstance(event, Raised):
            raise event.error
        self.spent, self.done = self.spent + event.ended - event.began, self.done + 1
        self.carrier.shifts.setdefault(hand.name, Shift()).add(event.began, event.ended)
        self._forget(one.number)
        return one.number, event.value

    def _gone(self, event: Gone) -> tuple[int, Lost] | None:
        """A worker is gone: what it was doing counts as a loss, what waited behind that does not."""
        hand = self.carrier.hands.pop(event.address, None)
        if hand is None or not hand.tickets:
            return None
        tries = [self.tries.pop(t) for t in hand.tickets]
        for one in tries:
            one.cancel()
            self.suspects.add(one.number)
        self.next.extendleft((one.number, one.item) for one in reversed(tries[1:]))
        self.carrier.lost += 1
        number = tries[0].number
        self.losses[number] += 1
        if self.losses[number] >= LOSSES:
            self._forget(number)
            return number, Lost(f"{LOSSES} workers were lost at work on it (killed, out of memory, out of time)")
        self.next.appendleft((number, tries[0].item))
        if self.carrier.lost <= TOLD:
            self.carrier.reporter.warn(f"worker {hand.name} was lost; what it was doing is done again")
        return None

    def _forget(self, number: int) -> None:
        self.losses.pop(number, None)
        self.suspects.discard(number)


def share_out(
    carrier: Carrier, get: Callable[[float], Event], work: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[tuple[int, Any]]:
    """`Executor.each` with the workers of a carrier, which are started when there is an item.

    Args:
        carrier: of the work.
        get: the next event, or `queue.Empty` when there is none for so long (s).
        work: what is done.
        items: with what; drawn as they are wanted.
    """
    numbered, many = enumerate(items), len(items) if isinstance(items, Sized) else None
    first = next(numbered, None)
    if first is None:
        return
    desk = Desk(carrier, work)
    done, looked = 0, float("-inf")

    def fill() -> None:
        while desk.room() and (one := next(numbered, None)) is not None:
            desk.give(*one)

    try:
        carrier.start()
        desk.give(*first)
        fill()
        while desk.open:
            if time.monotonic() - looked > PAUSE:
                carrier.pool.look(carrier.hands, None if many is None else many - done)
                looked = time.monotonic()
            try:
                event = get(PAUSE)
            except queue.Empty:
                continue
            found = desk.understand(event)
            fill()  # workers go on while the result is looked at
            if found is not None:
                done += 1
                yield found
    finally:
        desk.leave()
        carrier.pool.rest()
