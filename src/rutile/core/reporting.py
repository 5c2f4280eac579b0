"""How long work tells its progress without knowing who listens: a terminal, a job's log, or nobody.

Drivers and tasks take a `Reporter` and never print.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reporter(Protocol):
    """Receives messages, progress and metrics of one piece of work."""

    def info(self, text: str) -> None:
        """A fact that the user will want to have seen."""

    def warn(self, text: str) -> None:
        """Something that the user should look at; the work goes on."""

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items and show how far the work is."""
        ...

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """One row of a live table, for example one epoch of training."""


class SilentReporter:
    """Reports to nobody; keeps warnings for tests and for results."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def info(self, text: str) -> None:
        """Keep the message."""
        self.messages.append(text)

    def warn(self, text: str) -> None:
        """Keep the warning."""
        self.warnings.append(text)

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items."""
        del label, total
        yield from items

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """Forget the row."""


class PartReporter:
    """Reports from one part of longer work: progress and new warnings go on with its name, the rest into a log."""

    def __init__(self, whole: Reporter, log: Path) -> None:
        self.whole = whole
        self.log = log
        self.part = ""
        """Name of the part at work."""
        self._said: set[str] = set()

    def info(self, text: str) -> None:
        """A line in the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.part}: {text}\n")

    def warn(self, text: str) -> None:
        """A line in the log, and a warning where there was none like it."""
        self.info(f"warning: {text}")
        if text not in self._said:
            self._said.add(text)
            self.whole.warn(f"{self.part}: {text}")

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items under the name of the part."""
        yield from self.whole.track(items, f"{self.part}: {label}", total)

    def metrics(self, row: dict[str, float | int | str]) -> None:
        """Rows of a part are not shown: its own files have them."""
