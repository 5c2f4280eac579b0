"""What the thread of Dask tells the thread that shares out work."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

E = TypeVar("E")


@dataclass(frozen=True)
class Came:
    """A worker is there."""

    address: str
    name: str
    """Stays the same when its process is replaced; a worker in a job of Slurm is named by the number of the job."""


@dataclass(frozen=True)
class Gone:
    """A worker is there no more."""

    address: str


@dataclass(frozen=True)
class Done:
    """A piece of work is done."""

    ticket: int
    """Number of the try."""
    value: Any
    """What came of it."""
    began: float
    """When, by the clock of the worker (s)."""
    ended: float
    """When, by the same clock (s)."""


@dataclass(frozen=True)
class Raised:
    """A piece of work raised an exception."""

    ticket: int
    error: BaseException


Event: TypeAlias = Came | Gone | Done | Raised


class Inbox(Generic[E]):
    """Events on their way to the thread that shares out work; it knows how much of its time that thread waits."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[E] = queue.SimpleQueue()
        self._since = time.monotonic()
        self.waited = 0.0
        """Seconds in which there was nothing to do."""
        self.lasted = 0.0
        """Seconds between beginnings and last events."""

    def put(self, event: E) -> None:
        """From any thread."""
        self._queue.put(event)

    def begin(self) -> None:
        """Time begins to count."""
        self._since = time.monotonic()

    def get(self, seconds: float) -> E:
        """The next event; `queue.Empty` if there is none for so long."""
        began = time.monotonic()
        try:
            return self._queue.get(timeout=seconds)
        finally:
            now = time.monotonic()
            self.waited, self.lasted, self._since = self.waited + now - began, self.lasted + now - self._since, now

    @property
    def busy(self) -> float:
        """Part of the time in which the thread was at work: near 1 it holds the workers up."""
        return 1 - self.waited / self.lasted if self.lasted > 0 else 0.0
