"""One process at a time in a folder: a lock that the kernel takes back when its holder ends, however it ends.

The lock is flock(2) on a file `.lock` in the folder, which says who holds it. A file that a killed process left behind
locks nothing. On file systems without locks (Lustre mounted without `flock`, some network mounts) the work goes on
with a warning; where locks hold for one host only (Lustre `localflock`), so does this one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from rutile.core.errors import FileError
from rutile.core.reporting import Reporter

LOCK_FILE = ".lock"
"""Inside the folder."""


@contextlib.contextmanager
def alone_in(folder: Path, reporter: Reporter) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder that exists.

    Args:
        folder: to be alone in.
        reporter: is warned where the file system has no locks.

    Raises:
        FileError: another process is at work there (names host, process and time), or the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        handle = _take(path, reporter)
    except OSError as error:
        raise FileError(
            f"cannot write {path}: {error.strerror or error}; make room there, or choose another place"
        ) from None
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.truncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {_now()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _take(path: Path, reporter: Reporter) -> int:
    """An open, locked file."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 500).decode(errors="replace") or "another process"
            os.close(handle)
            raise FileError(
                f"{path.parent}: {holder} is at work here: wait for it, end it, or choose another folder"
            ) from None
        except OSError as error:
            reporter.warn(
                f"{path.parent}: this file system has no locks ({error.strerror}): see to it that no other process "
                "trains in this folder"
            )
            return handle
        if _is(handle, path):
            return handle
        os.close(handle)  # its holder ended, and removed it, between our opening and locking it


def _is(handle: int, path: Path) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z")
