"""Rows of numbers that grow: read in one pass, and made few enough to be drawn without losing a peak."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST = 400_000_000
"""Bytes of a file that are read; of a longer one, the last so many."""


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a file of JSON lines; a line that is cut off is left out."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > LONGEST:
                file.seek(size - LONGEST)
                file.readline()
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    yield row
    except FileNotFoundError:
        return


def columns_of(path: Path) -> tuple[dict[str, list[float | None]], int]:
    """Columns of numbers of such a file, groups opened ("rmse.energy"), and the number of rows; gaps are None."""
    columns: dict[str, list[float | None]] = {}
    count = 0
    for row in rows_of(path):
        for name, value in _numbers(row):
            column = columns.setdefault(name, [])
            column.extend([None] * (count - len(column)))
            column.append(value)
        count += 1
    for column in columns.values():
        column.extend([None] * (count - len(column)))
    return columns, count


def _numbers(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def thinned(columns: dict[str, list[float | None]], count: int, points: int) -> tuple[list[int], dict[str, list[Any]]]:
    """Columns with about so many rows: of each bucket the rows of the smallest and largest value of each column.

    Args:
        columns: of `count` rows each.
        count: rows.
        points: rows to keep, about, for one column.

    Returns:
        The rows that are kept, and the columns with these rows only.
    """
    if count <= points:
        return list(range(count)), columns
    buckets = max(1, points // 2)
    kept: set[int] = {0, count - 1}
    edges = [b * count // buckets for b in range(buckets + 1)]
    for column in columns.values():
        for low, high in itertools.pairwise(edges):
            kept |= extremes(column, low, high)
    places = sorted(kept)
    return places, {name: [column[p] for p in places] for name, column in columns.items()}


def extremes(column: Sequence[float | None], low: int, high: int) -> set[int]:
    """Places of the smallest and the largest value between two places."""
    there = [(value, place) for place in range(low, high) if (value := column[place]) is not None]
    return {min(there)[1], max(there)[1]} if there else set()
