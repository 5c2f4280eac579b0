"""Dividing files into portions that can be read apart, by several processes: one after another they give the file.

Extended XYZ is looked through once for where frames begin, without parsing; rows of aselmdb and frames of DeePMD are
counted; files of other formats are one portion each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rutile.core.errors import FileError
from rutile.structures.io import FORMATS

DIVIDED = ("extxyz", "aselmdb", "deepmd")
"""Formats whose module has `places(path, frames)`: where portions begin."""


@dataclass(frozen=True)
class Portion:
    """Consecutive frames of one file."""

    path: Path
    """The file or folder."""
    format: str
    """Its format."""
    first: int
    """Number of the first frame in the file."""
    where: dict[str, Any]
    """What the reader of the format needs to find them; empty: the whole file."""


def portions(path: Path, format: str, frames: int) -> Iterator[Portion]:
    """The portions of a file, of at most `frames` frames where its format can be divided.

    A part of the file that cannot be understood is left to the reader, in the last portion.

    Raises:
        FileError: the file cannot be opened.
    """
    if format not in DIVIDED:
        yield Portion(path, format, 0, {})
        return
    finder: Callable[[Path, int], Iterator[tuple[int, Any]]] = import_module(FORMATS[format].module).places
    try:
        for first, where in finder(path, frames):
            yield Portion(path, format, first, where)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from None
