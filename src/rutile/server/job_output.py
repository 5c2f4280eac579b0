"""What a job writes while it is at work: its log in pieces, lines that are searched for, and its curves."""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterator
from pathlib import Path

from rutile.core.settings import Result
from rutile.jobs.series import Columns, thinned

BLOCK = 4_000_000
"""Bytes of a log that are searched at a time."""
MOST_COLUMNS = 200
"""Of a curve: what comes after them is left out."""


class LogPiece(Result):
    """A piece of a log."""

    text: str
    """What it says."""
    offset: int
    """Where the piece begins (bytes)."""
    next: int
    """Where to go on."""
    size: int
    """Bytes of the whole log so far."""


class Hit(Result):
    """A line that was searched for."""

    line: int
    """Number of the line; the first one is 1."""
    offset: int
    """Where it begins (bytes)."""
    text: str
    """The line."""


class Hits(Result):
    """Lines that were searched for."""

    hits: list[Hit]
    """The first ones."""
    more: bool
    """Whether there are others."""


class Series(Result):
    """Columns of numbers over the rows that a job wrote."""

    rows: int
    """Rows that there are."""
    index: list[int]
    """Which of them these are: of every bucket those with the smallest and largest values."""
    columns: dict[str, list[float | None]]
    """Name -> value in each of these rows."""


def log_piece(path: Path, offset: int, limit: int) -> LogPiece:
    """A piece of a text file, cut between signs.

    Args:
        path: of the file; one that does not exist is empty.
        offset: where to begin (bytes); negative: from the end.
        limit: bytes at most.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(start)
            data = file.read(limit)
    except FileNotFoundError:
        return LogPiece(text="", offset=0, next=0, size=0)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    left = len(decoder.getstate()[0])  # of a sign that goes on in the next piece
    return LogPiece(text=text, offset=start, next=start + len(data) - left, size=size)


def search_lines(path: Path, text: str, most: int) -> Hits:
    """Lines of a file that hold a text, upper or lower case; many lines at a time, so that a gigabyte takes seconds."""
    wanted = text.lower().encode()
    hits: list[Hit] = []
    number, offset = 1, 0
    for block in _whole_lines(path):
        low = block.lower()
        counted = place = 0
        while (at := low.find(wanted, place)) >= 0:
            if len(hits) == most:
                return Hits(hits=hits, more=True)
            start = low.rfind(b"\n", 0, at) + 1
            number, counted = number + low.count(b"\n", counted, start), start
            place = end if (end := low.find(b"\n", at)) >= 0 else len(low)
            shown = block[start : min(place, start + 1000)].decode(errors="replace")
            hits.append(Hit(line=number, offset=offset + start, text=shown))
        number, offset = number + low.count(b"\n", counted), offset + len(block)
    return Hits(hits=hits, more=False)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """A file in blocks that end with a line."""
    left = b""
    try:
        with path.open("rb") as file:
            while data := file.read(BLOCK):
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield left + data[:cut]
                    left = data[cut:]
                else:
                    left += data
    except FileNotFoundError:
        return
    if left:
        yield left


def series_of(path: Path, points: int) -> Series:
    """A file of JSON lines as columns that can be drawn."""
    columns, count = _columns(path).look()
    index, thin = thinned(columns, count, points)
    return Series(rows=count, index=index, columns=thin)


@functools.lru_cache(32)
def _columns(path: Path) -> Columns:
    """What has been read of a file stays, and only what is new is read."""
    return Columns(path, MOST_COLUMNS)
