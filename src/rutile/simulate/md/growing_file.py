"""Files that grow while a run goes on, and that a run which goes on cuts back to what its checkpoint knows."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from rutile.core.errors import FileError


class GrowingFile:
    """Whole records, one after another; a record that cannot be written leaves nothing behind.

    A process that is killed while it writes may leave half a record at the end; opening with `size` removes it.

    Args:
        path: of the file.
        size: bytes to keep of a file that exists; None: begin anew.

    Raises:
        FileError: it cannot be written; or it is shorter than `size`: it was changed.
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        self.path, self.size = path, size or 0
        try:
            if size is None:
                path.unlink(missing_ok=True)
            elif (path.stat().st_size if path.exists() else 0) < size:
                raise FileError(f"{path} is shorter than when the run stopped: put it back, or begin in another folder")
            elif path.exists():
                os.truncate(path, size)
        except OSError as error:
            raise self._failed(error) from None

    def add(self, text: str) -> None:
        """Append one record.

        Raises:
            FileError: the disk is full, or the file cannot be written; what was there stays readable.
        """
        data = text.encode()
        try:
            with self.path.open("ab", buffering=0) as file:
                while data:
                    data = data[file.write(data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self.path, self.size)
            raise self._failed(error) from None
        self.size += len(text.encode())

    def flush(self) -> None:
        """See that all is on the disk."""
        if not self.size:
            return
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> FileError:
        return FileError(
            f"cannot write {self.path}: {error.strerror or error}; what is there stays readable; make room, "
            "and run the same command again to go on"
        )
