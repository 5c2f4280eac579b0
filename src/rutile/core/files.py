"""Writing files so that nobody ever sees half of one, and naming those that were meant."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rutile.core.errors import FileError

UNFINISHED = ".unfinished"
"""Ending of temporary names; what bears one was left behind by a process that was killed, or is being written."""


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed to the disk, then renamed over it.

    Raises:
        FileError: the folder does not exist or cannot be written, or the disk is full; an older file stays as it was.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED, delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror or error}; choose another place or make room there"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; a kill in the middle leaves none of that name.

    Raises:
        OSError: it cannot be removed.
    """
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=UNFINISHED, dir=folder.parent))
    folder.replace(aside)
    shutil.rmtree(aside)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left behind in a folder and below; for one who is alone in it (`core.lock`)."""
    for path in sorted(folder.rglob(f".*{UNFINISHED}")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def folder_for_results(folder: Path) -> Iterator[None]:
    """Make a folder for the results of a piece of work; one that this made goes again if the work fails before writing.

    Raises:
        FileError: the folder cannot be made or cannot be written into.
    """
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror or error}; choose another out=...") from None
    if not os.access(folder, os.W_OK):
        raise FileError(f"cannot write into {folder}; choose another out=...")
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: something was finished and stays
            for path in made:
                path.rmdir()
        raise


def flush_folder(folder: Path) -> None:
    """Make the rename itself durable (not every file system can)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """Permissions that this process withholds from new files."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def did_you_mean(path: Path, others: Iterable[str] = ()) -> str:
    """The name nearest to that of a path that does not exist, as the end of a message, or "".

    Args:
        path: what was given.
        others: names that would do, besides those of the files beside it.
    """
    try:
        beside = {p.name: str(p) for p in path.parent.iterdir() if not p.name.startswith(".")}
    except OSError:
        beside = {}
    known = beside | {name: name for name in others if path.parent == Path()}
    close = difflib.get_close_matches(path.name, known, n=1)
    return f" (did you mean {known[close[0]]}?)" if close else ""
