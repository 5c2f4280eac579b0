"""Rows of numbers that grow: read once each, and made few enough to be drawn without losing a peak."""

from __future__ import annotations

import itertools
import json
import math
import os
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rutile.jobs.safe_files import open_inside

LONGEST = 400_000_000
"""Bytes of a file that are read at once; of more, the last so many."""


class Growing:
    """A file of JSON lines that grows; each look reads only what is new. Several threads may look, one at a time.

    Args:
        path: of the file; one that does not exist, or is none, is empty.
        root: folder below which no link is followed; by default the one that the file lies in.
    """

    def __init__(self, path: Path, root: Path | None = None) -> None:
        self.path, self.root = path, root or path.parent
        self.lock = threading.Lock()
        self._begin(0)

    def begin(self) -> None:
        """Forget everything: what follows is another file."""
        raise NotImplementedError

    def take(self, row: dict[str, Any], place: int) -> None:
        """A row, and the byte at which it begins."""
        raise NotImplementedError

    def opened(self) -> BinaryIO:
        """The file, opened for reading.

        Raises:
            OSError: there is none.
        """
        return open_inside(self.root, self.path.relative_to(self.root).as_posix())

    def _begin(self, file: int) -> None:
        self._file, self._read = file, 0
        self.begin()

    def catch_up(self) -> None:
        """Read what is new; under the lock."""
        try:
            with self.opened() as file:
                self._add(file)
        except OSError:
            self._begin(0)

    def _add(self, file: BinaryIO) -> None:
        now = os.fstat(file.fileno())
        if now.st_ino != self._file or now.st_size < self._read:  # another file of this name
            self._begin(now.st_ino)
        if now.st_size - self._read > LONGEST:
            self._read = now.st_size - LONGEST
            file.seek(self._read)
            self._read += len(file.readline())
        file.seek(self._read)
        for line in file:
            if not line.endswith(b"\n"):
                return  # the rest of it is being written
            place = self._read
            self._read += len(line)
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                self.take(row, place)


class Columns(Growing):
    """Columns of numbers of a file of JSON lines that grows.

    Groups are opened ("rmse.energy"). Where a row has no such number a column has NaN.

    Args:
        path: of the file; one that does not exist is empty.
        most: columns are kept, the first ones.
    """

    def __init__(self, path: Path, most: int) -> None:
        self.most = most
        super().__init__(path)

    def begin(self) -> None:
        """Forget everything."""
        self._rows = 0
        self._columns: dict[str, array[float]] = {}

    def look(self) -> tuple[dict[str, np.ndarray], int]:
        """The columns as they are now, and the number of rows."""
        with self.lock:
            self.catch_up()
            for column in self._columns.values():
                column.extend(itertools.repeat(math.nan, self._rows - len(column)))
            return {name: np.array(column) for name, column in self._columns.items()}, self._rows

    def take(self, row: dict[str, Any], place: int) -> None:
        """The numbers of a row."""
        del place
        for name, value in _numbers(row):
            self._put(name, value)
        self._rows += 1

    def _put(self, name: str, value: float) -> None:
        """A number of the row that is read."""
        column = self._columns.get(name)
        if column is None:
            if len(self._columns) == self.most:
                return
            column = self._columns[name] = array("d")
        column.extend(itertools.repeat(math.nan, self._rows - len(column)))
        column.append(value)


def _numbers(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def thinned(columns: dict[str, np.ndarray], count: int, points: int) -> tuple[list[int], dict[str, list[Any]]]:
    """Columns with about so many rows: of each bucket the rows of the smallest and largest value of each column.

    Args:
        columns: of `count` rows each; NaN where there is no number.
        count: rows.
        points: rows to keep, about, for one column.

    Returns:
        The rows that are kept, and the columns with these rows only; None where there is no number.
    """
    places = np.arange(count)
    if count > points:
        edges = np.linspace(0, count, max(1, points // 2) + 1).astype(int)
        kept = [np.array([0, count - 1])]
        for column in columns.values():
            kept += [extremes(column, low, high) for low, high in itertools.pairwise(edges.tolist())]
        places = np.unique(np.concatenate(kept))
    return places.tolist(), {
        name: [None if math.isnan(x) else x for x in c[places].tolist()] for name, c in columns.items()
    }


Curve = dict[str, list[float | None]]


def banded(columns: dict[str, np.ndarray], count: int, points: int) -> tuple[list[int], Curve, Curve, Curve]:
    """Columns as means over equal pieces, with the smallest and the largest number of each.

    Args:
        columns: of `count` rows each; NaN where there is no number.
        count: rows, more than `points`.
        points: pieces.

    Returns:
        The row in the middle of each piece, and the means, the smallest and the largest numbers; None: it has none.
    """
    edges = np.linspace(0, count, points + 1).astype(int)
    middle = ((edges[:-1] + edges[1:] - 1) // 2).tolist()
    means, lows, highs = {}, {}, {}
    for name, column in columns.items():
        there = ~np.isnan(column)
        sums = np.add.reduceat(np.where(there, column, 0.0), edges[:-1])
        found = np.add.reduceat(there.astype(int), edges[:-1])
        low = np.minimum.reduceat(np.where(there, column, np.inf), edges[:-1])
        high = np.maximum.reduceat(np.where(there, column, -np.inf), edges[:-1])
        mean = sums / np.maximum(found, 1)
        means[name], lows[name], highs[name] = (
            [x if n else None for x, n in zip(part.tolist(), found.tolist(), strict=True)] for part in (mean, low, high)
        )
    return middle, means, lows, highs


def extremes(column: np.ndarray, low: int, high: int) -> np.ndarray:
    """Places of the smallest and the largest number between two places; none where there is no number."""
    part = column[low:high]
    there = np.flatnonzero(~np.isnan(part))
    if not len(there):
        return there
    return low + there[[part[there].argmin(), part[there].argmax()]]
