"""Files in folders that others write: by number, never by path; no link is followed, and nothing but files is opened.

A job writes its folder, and may run under an account of its own: what lies there may be anything, at any moment.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import shutil
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
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
    with suppress(OSError), _folder(root) as handle, closing(_walk(handle, "", 0)) as entries:
        found += itertools.islice(entries, MOST)
    return found


def _walk(handle: int, prefix: str, depth: int) -> Generator[Entry]:
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
            with suppress(OSError), _folder(name, handle) as inner:
                yield from _walk(inner, f"{path}/", depth + 1)
        elif stat.S_ISREG(info.st_mode):
            yield Entry(identity(path), path, False, info.st_size, info.st_mtime)


def everything(root: Path, deepest: int = 100) -> Iterator[tuple[str, os.stat_result]]:
    """All that lies below a folder: paths within it, with sizes and times; no link is followed.

    Args:
        root: the folder; nothing lies below one that is a link, or none.
        deepest: what lies in so many folders is left out.
    """
    with suppress(OSError), _folder(root) as handle:
        yield from _everything(handle, "", deepest)


def _everything(handle: int, prefix: str, deepest: int) -> Iterator[tuple[str, os.stat_result]]:
    for name in sorted(os.listdir(handle)):
        with suppress(OSError):
            info = os.stat(name, dir_fd=handle, follow_symlinks=False)
            yield f"{prefix}{name}", info
            if stat.S_ISDIR(info.st_mode) and deepest:
                with _folder(name, handle) as inner:
                    yield from _everything(inner, f"{prefix}{name}/", deepest - 1)


def find(root: Path, id: str) -> Entry | None:
    """The entry with an id; None where there is none."""
    return next((e for e in listing(root) if e.id == id), None)


def open_inside(root: Path, path: str) -> BinaryIO:
    """Open a regular file below a folder for reading; every component is opened in the one before, no link is followed.

    Args:
        root: a folder; whoever may change what lies in it may not change the way to it.
        path: within it, with slashes.

    Raises:
        OSError: there is none, or something on the way is a link or no folder.
    """
    with _parent(root, path) as (handle, name):
        return os.fdopen(_regular(name, handle), "rb")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file of a folder for reading; neither a link nor a pipe.

    Raises:
        OSError: there is none.
    """
    return open_inside(path.parent, path.name)


def copy_inside(root: Path, path: str, target: Path) -> None:
    """Copy a file, or a folder with all regular files and folders in it, for nobody else's eyes.

    Args:
        root: as of `open_inside`.
        path: within it.
        target: a name that is free.

    Raises:
        OSError: there is none, or it cannot be read or written.
    """
    with _parent(root, path) as (handle, name):
        _copy(handle, name, target)


def _copy(handle: int, name: str, target: Path) -> None:
    mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        target.mkdir(mode=0o700)
        with _folder(name, handle) as inner:
            for one in os.listdir(inner):  # noqa: PTH208 - of an open folder
                with suppress(FileNotFoundError):  # neither file nor folder, or gone by now
                    _copy(inner, one, target / one)
        return
    with os.fdopen(_regular(name, handle), "rb") as file:
        fresh = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fresh, "wb") as out:
            shutil.copyfileobj(file, out, 1 << 20)


@contextmanager
def _folder(name: Path | str, handle: int | None = None) -> Iterator[int]:
    """A folder that is no link, opened."""
    inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
    try:
        yield inner
    finally:
        os.close(inner)


@contextmanager
def _parent(root: Path, path: str) -> Iterator[tuple[int, str]]:
    """The folder in which the last component of a path lies, opened, and the name of that component."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise FileNotFoundError(path)
    with ExitStack() as opened:
        handle = opened.enter_context(_folder(root))
        for part in parts[:-1]:
            handle = opened.enter_context(_folder(part, handle))
        yield handle, parts[-1]


def _regular(name: str, handle: int) -> int:
    """A regular file in an open folder, opened; a pipe that nobody writes keeps nobody waiting."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=handle)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise FileNotFoundError(name) from None
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(name)
    return file
