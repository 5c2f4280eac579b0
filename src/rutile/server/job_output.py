"""What a job writes while it is at work: its log in pieces, lines that are searched for, and its curves."""

from __future__ import annotations

import codecs
import functools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rutile.core.settings import Result
from rutile.jobs.safe_files import open_regular
from rutile.jobs.series import Columns, banded, thinned
from rutile.server.log_levels import Level, Wanted, counts, level_of, stems

BLOCK = 4_000_000
"""Bytes of a log that are searched at a time."""
MOST_READ = 256_000_000
"""Bytes that one answer of a search looks through; the next one goes on."""
MOST_SHOWN = 1000
"""Bytes of a line that are told."""
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
    level: Level
    """error, warning or neither."""


class Hits(Result):
    """Lines that were searched for."""

    hits: list[Hit]
    """The first ones, or the last ones, of what was looked through."""
    found: int
    """Lines that fit in what was looked through."""
    more: bool
    """Whether the log goes on behind it."""
    next: int
    """Where to go on (bytes): a line that is not whole yet is looked at again."""
    line: int
    """Number of the line that begins there."""
    size: int
    """Bytes of the whole log so far."""


@dataclass(frozen=True)
class Search:
    """Lines that are asked for."""

    text: str = ""
    """They hold it, upper or lower case."""
    level: Wanted = "all"
    """What they tell."""
    most: int = 100
    """Lines that are told."""
    last: bool = False
    """The last of them; else the search ends with the first."""
    offset: int = 0
    """Begin of a line (bytes), where to begin."""
    line: int = 1
    """Number of that line."""


class Series(Result):
    """Columns of numbers over the rows that a job wrote."""

    rows: int
    """Rows that there are."""
    index: list[int]
    """Which of them these are: of every bucket those with the smallest and largest values."""
    columns: dict[str, list[float | None]]
    """Name -> value in each of these rows; of bands the mean of the piece."""
    low: dict[str, list[float | None]] = {}
    """Of bands: name -> smallest value of each piece."""
    high: dict[str, list[float | None]] = {}
    """Of bands: name -> largest value of each piece."""


def log_piece(path: Path, offset: int, limit: int) -> LogPiece:
    """A piece of a text file, cut between signs.

    Args:
        path: of the file; one that does not exist is empty.
        offset: where to begin (bytes); negative: from the end.
        limit: bytes at most.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(start)
            data = file.read(limit)
    except OSError:
        return LogPiece(text="", offset=0, next=0, size=0)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    left = len(decoder.getstate()[0])  # of a sign that goes on in the next piece
    return LogPiece(text=text, offset=start, next=start + len(data) - left, size=size)


def search_lines(path: Path, wanted: Search) -> Hits:
    """Lines of a file that hold a text or tell of errors; many lines at a time, so that a gigabyte takes seconds.

    Args:
        path: of the file; one that does not exist is empty.
        wanted: which lines.
    """
    hits: deque[Hit] = deque(maxlen=wanted.most)
    number, offset, found = wanted.line, wanted.offset, 0
    for block in _whole_lines(path, wanted.offset):
        low = block.lower()
        counted = 0
        for start, end in _candidates(low, wanted):
            shown = block[start : min(end, start + MOST_SHOWN)].decode(errors="replace")
            if not counts(shown, wanted.level):
                continue
            number, counted = number + low.count(b"\n", counted, start), start
            if len(hits) == wanted.most and not wanted.last:
                return Hits(hits=[*hits], found=found, more=True, next=offset + start, line=number, size=_size(path))
            hits.append(Hit(line=number, offset=offset + start, text=shown, level=level_of(shown)))
            found += 1
        whole = block.rfind(b"\n") + 1
        number, offset = number + low.count(b"\n", counted), offset + whole
        if offset - wanted.offset >= MOST_READ:
            break
    size = _size(path)
    return Hits(
        hits=[*hits], found=found, more=offset - wanted.offset >= MOST_READ, next=offset, line=number, size=size
    )


def _candidates(low: bytes, wanted: Search) -> Iterator[tuple[int, int]]:
    """Begin and end of lines, in lower case, that hold the text, or else a word of the levels that are asked for."""
    words = [wanted.text.lower().encode()] if wanted.text else stems(wanted.level)
    next_of = {word: low.find(word) for word in words}
    while places := {word: at for word, at in next_of.items() if at >= 0}:
        at = min(places.values())
        end = found if (found := low.find(b"\n", at)) >= 0 else len(low)
        yield low.rfind(b"\n", 0, at) + 1, end
        next_of = {word: low.find(word, end) if at < end else at for word, at in places.items()}


def _whole_lines(path: Path, offset: int) -> Iterator[bytes]:
    """A file from a place on in blocks that end with a line, but for the last."""
    left = b""
    try:
        with open_regular(path) as file:
            file.seek(offset)
            while data := file.read(BLOCK):
                cut = data.rfind(b"\n") + 1
                if cut:
                    yield left + data[:cut]
                    left = data[cut:]
                else:
                    left += data
    except OSError:
        return
    if left:
        yield left


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def series_of(path: Path, points: int, bands: bool = False) -> Series:
    """A file of JSON lines as columns that can be drawn.

    Args:
        path: of the file.
        points: rows to keep, about; of fewer all are.
        bands: means of pieces with the smallest and largest value of each; else the rows of these values themselves.
    """
    columns, count = _columns(path).look()
    if bands and count > points:
        index, means, low, high = banded(columns, count, points)
        return Series(rows=count, index=index, columns=means, low=low, high=high)
    index, thin = thinned(columns, count, points)
    return Series(rows=count, index=index, columns=thin)


@functools.lru_cache(32)
def _columns(path: Path) -> Columns:
    """What has been read of a file stays, and only what is new is read."""
    return Columns(path, MOST_COLUMNS)
