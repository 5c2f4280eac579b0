"""Shows progress, messages and results: live on a terminal, as plain lines in a log.

Everything that is not the result goes to stderr, so that `rutile TASK --json > file` holds JSON only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from rutile.cli.columns import duration, readable
from rutile.cli.tables import columns_of, fitted, number
from rutile.core.describe import units_of

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

    def _picture(self) -> Group:
        if not self.rows:
            return Group(self.progress)
        columns = columns_of(self.columns, self.rows, {})
        table, _ = fitted(columns, self.console.width, gap(self.console), stack=False)
        return Group(table, self.progress)


def _side_by_side(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which every mapping has become a column for each of its keys."""
    out: dict[str, Any] = {}
    for name, value in row.items():
        inner = value if isinstance(value, dict) else {name: value}
        out |= {f"{name} {key}" if key in row and key != name else key: v for key, v in inner.items()}
    return out


def _width(name: str) -> int:
    return max(len(name), 9)


def show(result: BaseModel, stream: TextIO | None = None) -> None:
    """Print a result: one line for each value, one table for each list of rows, without fields of `repr=False`."""
    console = Console(file=stream or sys.stdout, highlight=False, soft_wrap=True)
    units = units_of(type(result))
    shown = [(name, getattr(result, name)) for name, info in type(result).model_fields.items() if info.repr]
    for name, value in sorted(shown, key=lambda field: not _has_rows(field[1])):
        if _has_rows(value):
            _show_rows(name, value, console, _file_of(value, result))
        elif isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
            console.print(f"{name}:", *(f"  {v}" for v in value), sep="\n", markup=False)
        elif isinstance(value, BaseModel):
            console.print(f"{name}:", markup=False)
            show(value, stream)
        elif value is not None and value not in ([], {}, ()):
            console.print(f"{name}: {number(value)} {units.get(name, '')}".rstrip(), markup=False)


def _has_rows(value: Any) -> bool:
    """Whether a value is shown as a table."""
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, BaseModel) for v in value)


def _file_of(rows: Sequence[BaseModel], result: BaseModel) -> Path | None:
    """Where all columns of rows lie: the table that has their units, else the result as a whole; None: in no file."""
    table: Path | None = getattr(result, "table", None)
    files: Mapping[str, Mapping[str, str]] = getattr(result, "units", {})
    name = next((name for name, units in files.items() if units == units_of(type(rows[0]))), "result.json")
    return table.with_name(name) if table and files else table


def _show_rows(name: str, values: Sequence[BaseModel], console: Console, file: Path | None) -> None:
    """A list of rows as a table."""
    rows = [_side_by_side(v.model_dump(mode="json")) for v in values]
    hidden = {field for field, info in type(values[0]).model_fields.items() if not info.repr}
    names = [c for c in rows[0] if c not in hidden and any(r.get(c) not in (None, "") for r in rows)]
    where = f"all are in {file}" if file else "--json has all"
    table, told = fitted(columns_of(names, rows, units_of(type(values[0]))), console.width, gap(console), where)
    console.print(f"{name}:", markup=False)
    console.print(table, markup=False)
    if told:
        console.print(f"  {told}", markup=False)


def gap(console: Console) -> int:
    """Columns lie closer together on a narrow terminal."""
    return 2 if console.width >= WIDE else 1
