"""Runs an adaptive search: workers are given what it wants, and it receives what they bring."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rutile.core.executors.executor import Lost
from rutile.core.executors.stations import Stations
from rutile.search.adaptive import Adaptive
from rutile.search.adaptive_items import KINDS, Item, Kind, Outcome
from rutile.search.adaptive_log import AdaptiveLog


class Serial:
    """Does all work here, one after another in the order in which it was given: the same search every time.

    Args:
        work: what is done with an item of each kind.
        workers: items of a kind that are taken at a time; default: one.
    """

    def __init__(self, work: Mapping[str, Callable[[Any], Any]], workers: Mapping[str, int] | None = None) -> None:
        self.work, self.workers = work, dict.fromkeys(work, 1) | dict(workers or {})
        self._given: deque[tuple[str, int, Any]] = deque()

    def free(self, kind: str) -> bool:
        """Whether more of that kind are taken."""
        return sum(k == kind for k, _, _ in self._given) < self.workers[kind]

    def give(self, kind: str, number: int, item: Any) -> None:
        """To be done when its turn comes."""
        self._given.append((kind, number, item))

    def next(self) -> tuple[str, int, Any]:
        """Do what was given first."""
        kind, number, item = self._given.popleft()
        return kind, number, self.work[kind](item)

    def close(self) -> None:
        """Forget what was not begun."""
        self._given.clear()


def drive(
    search: Adaptive,
    stations: Stations,
    log: AdaptiveLog,
    told: Callable[[Kind, Item, Outcome | Lost], None] = lambda kind, item, outcome: None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Go on with a search until it is done, or nothing more can be done.

    Args:
        search: where its log left it.
        stations: who does the work; the caller closes them.
        log: all events go here before anybody acts on them.
        told: hears of each event after the search does.
        clock: seconds, for the times in the log.
    """
    busy = 0
    while not search.done:
        for kind in KINDS:
            while search.wants(kind) and stations.free(kind):
                work = search.wanted(kind)
                assert work is not None
                number, item = work
                log.gave(kind, number, item, clock())
                stations.give(kind, number, item)
                busy += 1
        if not busy:
            return
        name, number, outcome = stations.next()
        busy -= 1
        kind = next(k for k in KINDS if k == name)
        item = search.open[kind][number]
        log.came(kind, number, outcome, clock())
        search.receive(kind, number, outcome)
        told(kind, item, outcome)
