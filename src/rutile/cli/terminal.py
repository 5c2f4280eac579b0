"""Shows progress, messages and results: live on a terminal, as plain lines in a log.

Everything that is not the result goes to stderr, so that `rutile TASK --json > file` holds JSON only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from rutile.cli.columns import duration, readable

T = TypeVar("T")
Row = dict[str, float | int | str]
WIDE = 100
"""Width from which on the live table has room to spare."""
ROWS_SHOWN = 12
"""Rows of the live table of metrics."""
SECONDS_BETWEEN_LINES = 10.0
"""A log shows the progress of one piece of work at most this often."""
LINES_APART = 0.05
"""Part of the time that the work has taken so far between two such lines: long work does not fill the log."""


class RichReporter:
    """The reporter of the command line; use it as a context manager."""

    def __init__(self, stream: TextIO | None = None, console: Console | None = None) -> None:
        self.console = console or Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self.live: Live | None = None
        self.rows: list[Row] = []
        self.columns: list[str] = []
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )

    def __enter__(self) -> RichReporter:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live is not None:
            self.live.update(self._picture(), refresh=True)
            self.live.stop()
            self.live = None

    def info(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False)

    def warn(self, text: str) -> None:
        """One line that begins with `warning:`."""
        self.console.print(f"warning: {text}", markup=False, style="yellow")

    def track(self, items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
        """Yield the items under a progress bar; several may run inside each other."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        if not self.console.is_terminal:
            yield from self._track_in_log(items, label, total)
            return
        self._start_live()
        bar = self.progress.add_task(label, total=total)
        try:
            for item in items:
                yield item
                self.progress.advance(bar)
        finally:
            self.progress.remove_task(bar)

    def metrics(self, row: Row) -> None:
        """A row of the table; new columns start a new header."""
        row = readable(row)
        if self.console.is_terminal:
            if list(row) != self.columns:
                self.rows, self.columns = [], list(row)
            self.rows = [*self.rows[1 - ROWS_SHOWN :], row]
            self._start_live()
            assert self.live is not None
            self.live.update(self._picture())
            return
        if list(row) != self.columns:
            self.columns = list(row)
            self.info("  ".join(f"{name:>{_width(name)}}" for name in row))
        self.info("  ".join(f"{number(value):>{_width(name)}}" for name, value in row.items()))

    def _track_in_log(self, items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
        began = last = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if now - last > max(SECONDS_BETWEEN_LINES, LINES_APART * (now - began)):
                last = now
                left = f", {duration((now - began) * (total / done - 1))} left" if total else ""
                self.info(f"{label}: {done}" + (f" of {total}{left}" if total else ""))

    def _start_live(self) -> None:
        if self.live is None:
            self.live = Live(self._picture(), console=self.console, refresh_per_second=8)
            self.live.start()

    def _gap(self) -> int:
        """Columns lie closer together on a narrow terminal."""
        return 2 if self.console.width >= WIDE else 1

    def _picture(self) -> Group:
        parts: list[Table | Progress] = [_table(self.columns, self.rows, gap=self._gap())] if self.rows else []
        return Group(*parts, self.progress)


def _table(columns: list[str], rows: Iterable[Mapping[str, Any]], title: str | None = None, gap: int = 2) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, gap, 0, 0))
    rows = list(rows)
    for name in columns:
        text = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", " "), justify="left" if text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(number(row.get(name, "")) for name in columns))
    return table


def _side_by_side(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which every mapping has become a column for each of its keys."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        inner = value if isinstance(value, dict) else {name: value}
        out |= {f"{name} {key}" if key in row and key != name else key: v for key, v in inner.items()}
    return out


def _width(name: str) -> int:
    return max(len(name), 9)


def number(value: Any) -> str:
    """A value in few characters: floats with 5 significant digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}: {number(v)}" for k, v in value.items())
    return "" if value is None else str(value)


def show(result: BaseModel, stream: TextIO | None = None) -> None:
    """Print a result: one line for each value, one table for each list of rows, without fields of `repr=False`."""
    console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    for name in type(result).model_fields:
        value = getattr(result, name)
        if isinstance(value, list | tuple) and value and all(isinstance(v, BaseModel) for v in value):
            rows = [_side_by_side(v.model_dump(mode="json")) for v in value]
            hidden = {field for field, info in type(value[0]).model_fields.items() if not info.repr}
            columns = [c for c in rows[0] if c not in hidden and any(r.get(c) is not None for r in rows)]
            console.print(_table(columns, rows, name), markup=False)
        elif isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
            console.print(f"{name}:", *(f"  {v}" for v in value), sep="\n", markup=False)
        elif isinstance(value, BaseModel):
            console.print(f"{name}:", markup=False)
            show(value, stream)
        elif value is not None and value not in ([], {}, ()):
            console.print(f"{name}: {number(value)}", markup=False)
