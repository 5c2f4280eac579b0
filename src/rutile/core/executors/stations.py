"""Workers of several kinds at once, each kind with its own work: relaxations on GPUs beside DFT on CPU nodes.

The caller decides what is done next, at the moment when a worker is free for it:

    kinds = {"search": (relaxer, LocalSettings(), 8), "label": (labeler, SlurmSettings(), 4)}
    with open_stations(kinds, reporter) as stations:
        while True:
            while stations.free("search"):
                stations.give("search", number, children)
            kind, number, outcome = stations.next()

Everything here happens in the thread of the caller.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from rutile.core.executors.desk import PAUSE, Desk
from rutile.core.executors.events import Event
from rutile.core.executors.executor import Lost


class Stations(Protocol):
    """Workers of several kinds."""

    def free(self, kind: str) -> bool:
        """Whether a worker of that kind waits for work. Ask only where there is some: more are asked for if not."""
        ...

    def give(self, kind: str, number: int, item: Any) -> None:
        """Begin an item; its number is the caller's choice, another for each that is not done."""
        ...

    def next(self) -> tuple[str, int, Any | Lost]:
        """Kind, number and outcome of the next item that is done; waits for it.

        Raises:
            Exception: what the work raised.
            ExecutorError: there are no workers, and none will come.
        """
        ...

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        ...


class SharedStations:
    """Stations of any carriers.

    Args:
        desks: one for each kind.
        get: the next event of any kind, or `queue.Empty` when there is none for so long (s).
        ends: called at the end.
        clock: the time (s).
    """

    def __init__(
        self,
        desks: Mapping[str, Desk],
        get: Callable[[float], tuple[str, Event]],
        ends: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.desks, self._get, self._ends, self._clock = desks, get, ends, clock
        self._short: set[str] = set()
        """Kinds whose workers were not enough since the last look."""
        self._started: set[str] = set()
        self._looked = float("-inf")
        self._found: deque[tuple[str, int, Any | Lost]] = deque()
        """What is done and was not asked for yet."""

    def free(self, kind: str) -> bool:
        """As `Stations`."""
        room = self.desks[kind].room()
        if not room:
            self._short.add(kind)
        return room

    def give(self, kind: str, number: int, item: Any) -> None:
        """As `Stations`; workers are started when they get work for the first time."""
        if kind not in self._started:
            self.desks[kind].carrier.start()
            self._started.add(kind)
        self.desks[kind].give(number, item)

    def next(self) -> tuple[str, int, Any | Lost]:
        """As `Stations`."""
        assert self._found or any(d.open for d in self.desks.values()), "nobody has anything to do"
        while True:
            with suppress(queue.Empty):
                while True:  # what is known already: who is there, before anybody is missed
                    self._read(0.0)
            self._look()
            if self._found:
                return self._found.popleft()
            with suppress(queue.Empty):
                self._read(PAUSE)

    def _read(self, seconds: float) -> None:
        kind, event = self._get(seconds)
        found = self.desks[kind].understand(event)
        if found is not None:
            self._found.append((kind, *found))

    def _look(self) -> None:
        """See that there are as many workers as can be used."""
        if self._clock() - self._looked <= PAUSE:
            return
        for kind in self._started:
            desk = self.desks[kind]
            desk.carrier.pool.look(desk.carrier.hands, None if kind in self._short else desk.open)
        self._short.clear()
        self._looked = self._clock()

    def close(self) -> None:
        """As `Stations`."""
        self._ends()
