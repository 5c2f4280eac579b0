"""Stations whose workers are simulated: a clock that jumps from event to event, under the code that real ones have.

The desk that shares out work, and the driver that uses it, are those of real runs; only workers and time are not.
The driver is one server more: the time that its own code takes is measured while it runs, and passes on the clock.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rutile.core.executors.desk import Desk, Shift
from rutile.core.executors.events import Came, Done, Event, Gone
from rutile.core.executors.pool import Hand
from rutile.core.executors.stations import SharedStations
from rutile.core.reporting import Reporter, SilentReporter


@dataclass(frozen=True)
class Simulated:
    """Workers of one kind."""

    work: Callable[[Any], Any]
    """What comes of an item; found at once, by no time of the clock."""
    seconds: Callable[[Any, np.random.Generator], float]
    """How long a worker takes for an item (s)."""
    workers: int
    """How many."""
    losses: float = 0.0
    """Of workers at work, for each hour of work."""
    start: float = 10.0
    """Until a worker is there, first or in the place of a lost one (s)."""
    give: float = 0.0
    """Time of the driver for each item given, beyond what its code takes here (s)."""
    take: float = 0.0
    """Time of the driver for each result, beyond what its code takes here (s)."""


class Clock:
    """Events in the order of their times.

    Args:
        speed: time of the driver's own code on the clock, for a second that it takes here.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.now, self.driver, self.speed = 0.0, 0.0, speed
        self._heap: list[tuple[float, int, str, Event, float]] = []
        self._order = itertools.count()
        self._since = time.thread_time()

    def at(self, when: float, kind: str, event: Event, take: float = 0.0) -> None:
        """Something will happen."""
        heapq.heappush(self._heap, (when, next(self._order), kind, event, take))

    def charge(self, seconds: float = 0.0) -> None:
        """The driver was at work: for so long, and since the last time that this was called."""
        spent = seconds + self.speed * (time.thread_time() - self._since)
        self.now, self.driver = self.now + spent, self.driver + spent
        self._since = time.thread_time()

    def stand(self) -> None:
        """What was done since the last `charge` took no time."""
        self._since = time.thread_time()

    def get(self, timeout: float) -> tuple[str, Event]:
        """The next event; `queue.Empty` if there is none for so long."""
        self.charge()
        if not self._heap or self._heap[0][0] > self.now + timeout:
            self.now += timeout
            raise queue.Empty
        when, _, kind, event, take = heapq.heappop(self._heap)
        self.now = max(self.now, when)
        self.charge(take)
        return kind, event


class Carrier:
    """Simulated workers of one kind, as `core.executors.desk.Carrier`."""

    sure = True
    ahead = 1

    def __init__(self, kind: str, how: Simulated, clock: Clock, rng: np.random.Generator, reporter: Reporter) -> None:
        self.kind, self.how, self.clock, self.rng, self.reporter = kind, how, clock, rng, reporter
        self.workers = how.workers
        self.hands: dict[str, Hand] = {}
        self.shifts: dict[str, Shift] = {}
        self.lost = 0
        self._ends: dict[str, float] = {}
        """When each worker has nothing more to do; infinite: it will be lost first."""
        self._places = itertools.count()

    @property
    def pool(self) -> Carrier:
        """The workers are here."""
        return self

    @property
    def busy(self) -> float:
        """Time at work, of all workers together (s)."""
        return sum(s.busy for s in self.shifts.values())

    def start(self) -> None:
        """They come after a while."""
        for place in range(self.workers):
            self._come(f"{self.kind}-{place}", self.clock.now)

    def _come(self, name: str, when: float) -> None:
        address = f"{name}/{next(self._places)}"
        self._ends[address] = 0.0
        self.clock.at(when + self.how.start, self.kind, Came(address, name))

    def send(self, ticket: int, address: str, work: Callable[[Any], Any], item: Any) -> Callable[[], object]:
        """The worker begins when it has ended what it has."""
        self.clock.charge(self.how.give)
        began = max(self.clock.now, self._ends[address])
        if began == np.inf:
            return lambda: None
        seconds = self.how.seconds(item, self.rng)
        lost = self.rng.exponential(3600 / self.how.losses) if self.how.losses else np.inf
        if lost < seconds:
            self._ends[address] = np.inf
            self.clock.at(began + lost, self.kind, Gone(address))
            self._come(address.split("/")[0], began + lost)
        else:
            self._ends[address] = began + seconds
            done = Done(ticket, work(item), began, began + seconds)
            self.clock.at(began + seconds, self.kind, done, self.how.take)
        self.clock.stand()
        return lambda: None

    def look(self, hands: Mapping[str, Hand], wanted: int | None) -> None:
        """All are there, or come."""

    def takes_work(self, hand: Hand) -> bool:
        """Every one does."""
        del hand
        return True

    def rest(self) -> None:
        """They wait."""


@dataclass(frozen=True)
class Simulation:
    """Stations, and what can be read off them."""

    stations: SharedStations
    clock: Clock
    carriers: dict[str, Carrier]


def simulate(kinds: Mapping[str, Simulated], seed: int, speed: float = 1.0) -> Simulation:
    """Simulated stations.

    Args:
        kinds: of work, with their workers.
        seed: of losses and times.
        speed: see `Clock`.
    """
    clock, reporter = Clock(speed), SilentReporter()
    carriers = {
        kind: Carrier(kind, how, clock, np.random.default_rng([seed, k]), reporter)
        for k, (kind, how) in enumerate(kinds.items())
    }
    desks = {kind: Desk(carriers[kind], how.work) for kind, how in kinds.items()}
    stations = SharedStations(desks, clock.get, lambda: None, lambda: clock.now)
    return Simulation(stations, clock, carriers)
