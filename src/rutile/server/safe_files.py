"""Files of a folder by number, never by path: walked component by component without following a link."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

MOST = 20_000
"""Files of a folder that are listed."""
DEEPEST = 12


@dataclass(frozen=True)
class Entry:
    """A file or folder that a job wrote."""

    id: str
    """Stands for its place; nothing else can be asked for."""
    path: str
    """Within the folder, with slashes."""
    folder: bool
    size: int
    changed: float


def identity(path: str) -> str:
    """The id of a path within a folder."""
    return hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:20]


def listing(root: Path) -> list[Entry]:
    """Folders and regular files below a folder, in order; what is hidden, a link or a device is not there."""
    found: list[Entry] = []
    with suppress(FileNotFoundError, NotADirectoryError):
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for entry in _walk(handle, "", 0):
                found.append(entry)
                if len(found) >= MOST:
                    break
        finally:
            os.close(handle)
    return found


def _walk(handle: int, prefix: str, depth: int) -> Iterator[Entry]:
    with os.scandir(handle) as entries:
        names = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries if not e.name.startswith("."))
    for name, is_folder in names:
        path = f"{prefix}{name}"
        try:
            info = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except OSError:
            continue
        if is_folder and depth < DEEPEST:
            yield Entry(identity(path), path, True, 0, info.st_mtime)
            with suppress(OSError):
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
                try:
                    yield from _walk(inner, f"{path}/", depth + 1)
                finally:
                    os.close(inner)
        elif stat.S_ISREG(info.st_mode):
            yield Entry(identity(path), path, False, info.st_size, info.st_mtime)


def find(root: Path, id: str) -> Entry | None:
    """The entry with an id; None where there is none."""
    return next((e for e in listing(root) if e.id == id), None)


def open_inside(root: Path, path: str) -> BinaryIO:
    """Open a regular file below a folder for reading; every component is opened in the one before, no link is followed.

    Raises:
        OSError: there is none, or something on the way is a link or no folder.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise FileNotFoundError(path)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        file = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    finally:
        os.close(handle)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(path)
    return os.fdopen(file, "rb")
