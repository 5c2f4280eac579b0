"""The reporter of a job of the platform: lines to its log, progress and metrics to files beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

import rutile
from rutile.cli.terminal import RichReporter, Row
from rutile.core import machine
from rutile.core.files import write_atomically
from rutile.jobs.folder import MADE_WITH, METRICS, PROGRESS, RESULT, write_json

T = TypeVar("T")
APART = 0.5
"""Seconds between two notes of progress."""


class JobReporter(RichReporter):
    """Reports into the folder of a job."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.levels: list[dict[str, Any]] = []
        """Pieces of work inside each other, the outermost first."""
        self._noted = 0.0
        self._began = time.time()

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items and note how far the work is."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        level: dict[str, Any] = {"label": label, "done": 0, "total": total}
        self.levels.append(level)
        try:
            for item in super().track(items, label, total):
                self._note()
                yield item
                level["done"] += 1
            self._note()
        finally:
            self.levels.remove(level)

    def metrics(self, row: Row) -> None:
        """A row of the table, also for the curves."""
        super().metrics(row)
        seconds = round(time.time() - self._began, 3)
        with suppress(OSError), (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"seconds": seconds, **row}) + "\n")

    def begins(self, settings: BaseModel) -> None:
        """Write down the programs that it runs with, and its seed."""
        seed = getattr(settings, "seed", None)
        with suppress(OSError):
            with_seed = {} if seed is None else {"seed": str(seed)}
            write_json(self.folder / MADE_WITH, {"rutile": rutile.__version__} | machine.programs() | with_seed)

    def keep(self, result: BaseModel) -> None:
        """Write down what the task returned.

        Raises:
            FileError: it cannot be written.
        """
        write_atomically(self.folder / RESULT, (result.model_dump_json(indent=1) + "\n").encode())

    def _note(self) -> None:
        now = time.monotonic()
        if now - self._noted > APART:
            self._noted = now
            with suppress(OSError):
                write_json(self.folder / PROGRESS, {"levels": self.levels})
