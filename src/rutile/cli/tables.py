"""Tables of results on a terminal: units in the headings, numbers never cut or folded, at any width.

A table that is too wide is stacked (a line for each column, the rows side by side) where that fits; otherwise the last
columns are left out, and a line says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

FILES = ("structure", "slab", "path", "trajectory", "frame")
"""Columns that name files."""
SPREADS = ("_std", "_error")
"""Endings of columns that are shown behind the value they belong to."""
LEAST_TEXT = 14
"""Text is not folded into narrower columns than this where it is longer."""
MOST_STACKED = 4
"""Rows that are stacked at most."""


@dataclass(frozen=True)
class Column:
    """A column as it is shown."""

    name: str
    """Words of its heading."""
    unit: str
    """Symbol; "": none."""
    cells: list[str]
    """One for each row."""
    text: bool
    """Whether it holds words, which may be folded, and is set to the left."""

    @property
    def heading(self) -> str:
        """A line for each word, the unit last."""
        return "\n".join([*self.name.split(), *([f"({self.unit})"] if self.unit else [])])

    @property
    def widest(self) -> int:
        """Characters that hold every cell and every word of the heading."""
        return max(len(line) for text in (self.heading, *self.cells) for line in (text.split("\n") or [""]))

    @property
    def narrowest(self) -> int:
        """Characters that are needed at least: text may be folded."""
        head = max(map(len, self.heading.split("\n")))
        return max(head, min(self.widest, LEAST_TEXT)) if self.text else self.widest


def number(value: Any) -> str:
    """A value in few characters: floats with 5 significant digits."""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}: {number(v)}" for k, v in value.items())
    return "" if value is None else str(value)


def columns_of(names: Sequence[str], rows: Sequence[Mapping[str, Any]], units: Mapping[str, str]) -> list[Column]:
    """Columns as they are shown: a spread behind its value, files without the folder that all of them are in.

    Args:
        names: of the columns, in order.
        rows: values by name.
        units: symbols by name; names without one have none.
    """
    behind = {n.removesuffix(e): n for n in names for e in SPREADS if n.endswith(e) and n.removesuffix(e) in names}
    out = []
    for name in names:
        if name in behind.values():
            continue
        values = [row.get(name) for row in rows]
        text = any(isinstance(value, str) for value in values)
        cells = [number(value) for value in values]
        if name in behind:
            spreads = [number(row.get(behind[name])) for row in rows]
            cells = [f"{cell} ± {s}" if cell and s else cell for cell, s in zip(cells, spreads, strict=True)]
        cells = _without_folder(cells) if text and name in FILES else cells
        out.append(Column(name.replace("_", " "), units.get(name, ""), cells, text))
    return out


def _without_folder(cells: list[str]) -> list[str]:
    """Names of files without the folder that all of them share."""
    folders = {cell.rpartition("/")[0] for cell in cells}
    return [cell.rpartition("/")[2] for cell in cells] if len(folders) == 1 else cells


def fitted(
    columns: Sequence[Column], width: int, gap: int, where: str = "", *, stack: bool = True
) -> tuple[Table, str]:
    """The columns as a table that fits, and a line about those that were left out, or "".

    Args:
        columns: at least one.
        width: of the terminal.
        gap: spaces between columns.
        where: where the others are, for that line.
        stack: whether few rows may be stacked.
    """
    rows = len(columns[0].cells)
    if stack and _needed(columns, gap) > width and rows <= MOST_STACKED:
        lines = _stacked(columns)
        if _needed(lines, gap) <= width:
            return _table(lines, width, gap, heads=False), ""
    shown = list(columns)
    while len(shown) > 1 and _needed(shown, gap) > width:
        shown.pop()
    left = [c.name for c in columns if c not in shown]
    told = f"left out for want of width: {', '.join(left)}{f' ({where})' if where else ''}" if left else ""
    return _table(shown, width, gap, heads=True), told


def _needed(columns: Sequence[Column], gap: int) -> int:
    """Least width of a table."""
    return sum(c.narrowest for c in columns) + gap * (len(columns) - 1)


def _stacked(columns: Sequence[Column]) -> list[Column]:
    """A column of names with units, and one for each row."""
    names = [f"{c.name} ({c.unit})" if c.unit else c.name for c in columns]
    rows = zip(*(c.cells for c in columns), strict=True)
    return [Column("", "", names, text=False), *(Column("", "", list(row), text=True) for row in rows)]


def _table(columns: Sequence[Column], width: int, gap: int, *, heads: bool) -> Table:
    """The table; what width is to spare goes to the text."""
    spare = width - _needed(columns, gap)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=heads)
    for column in columns:
        more = min(spare, column.widest - column.narrowest)
        spare -= more
        left = column.text or not heads
        table.add_column(
            column.heading, justify="left" if left else "right", width=column.narrowest + more, no_wrap=not column.text,
            overflow="fold", vertical="top",
        )  # fmt: skip
    for cells in zip(*(c.cells for c in columns), strict=True):
        table.add_row(*cells)
    return table
