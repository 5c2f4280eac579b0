"""Ragged arrays that are kept in a file as they are made: the second time a frame is asked for, it is read.

A folder holds, for each process that writes (`NUMBER` 0, 1, ...; one file each, as long as the process holds its lock):

    rows-NUMBER.bin     one record for each frame that was made: the CRC-32 of what follows, its number, the rows of
                        each array (int64), the arrays
    index-NUMBER.npy    [F + 1, 2] int64: where the record of each frame begins and its bytes (0: not there), last its
                        whole length; written now and then

What is behind the length in the index is cut off when the file is opened: a killed process loses what it kept since.
"""

from __future__ import annotations

import fcntl
import io
import os
import threading
import time
import weakref
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rutile.core.errors import FileError
from rutile.core.files import write_atomically
from rutile.core.reporting import Reporter

SAFE_SECONDS = 60.0
"""Time between two moments at which the index is written."""
FILES = 1000
"""Processes that can write beside each other."""

Layout = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> dtype and shape of one row."""
Row = Mapping[str, np.ndarray]
"""The rows of one frame: name -> array [n, ...]."""


class GrowingRows:
    """Rows of frames in a file that grows; for several threads of one process.

    A disk that is full, or a file that cannot be read, costs nothing but time: a warning, and nothing more is kept.

    Args:
        folder: of the files; its name says what was computed from what.
        layout: of the arrays.
        frames: number of frames F.
        most: bytes of the file beyond which nothing is kept.
        reporter: hears when nothing more is kept.
    """

    def __init__(self, folder: Path, layout: Layout, frames: int, most: float, reporter: Reporter) -> None:
        self.folder, self._layout, self._most, self._reporter = Path(folder), layout, most, reporter
        self._lock = threading.Lock()
        self._index = np.zeros((frames + 1, 2), np.int64)
        self._file = -1
        self._open = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_a_file()
        except OSError as error:
            self._stop(f"{error.strerror or error}")
        self._saved = time.monotonic()

    def __len__(self) -> int:
        """Frames that are kept."""
        return int(np.count_nonzero(self._index[:-1, 1]))

    def _take_a_file(self) -> None:
        """The first file that no other process holds, with what it holds."""
        for number in range(FILES):
            self._path = self.folder / f"rows-{number}.bin"
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                os.close(self._file)
        else:
            raise OSError(f"{FILES} processes keep rows there")
        self._path_of_index = self.folder / f"index-{number}.npy"
        weakref.finalize(self, _close, self._file, self._path_of_index, self._index)
        try:
            found = np.load(self._path_of_index, allow_pickle=False)
            if found.shape == self._index.shape and found[-1, 0] <= os.fstat(self._file).st_size:
                self._index[:] = found
        except (OSError, ValueError, EOFError):
            pass  # not there yet, or damaged: begun again
        os.ftruncate(self._file, int(self._index[-1, 0]))

    def read(self, ids: np.ndarray) -> list[Row | None]:
        """The rows of some frames; None where they are not kept."""
        return [self._read(k, *self._index[k].tolist()) for k in ids.tolist()]

    def _read(self, frame: int, start: int, size: int) -> Row | None:
        if not size:
            return None
        try:
            record = os.pread(self._file, size, start)
        except OSError:
            record = b""
        head = 8 * (2 + len(self._layout))
        numbers = np.frombuffer(record[:head], np.int64).tolist() if len(record) == size >= head else []
        if numbers[:2] == [zlib.crc32(memoryview(record)[8:]), frame]:
            row = {}
            for (name, (dtype, item)), count in zip(self._layout.items(), numbers[2:], strict=True):
                n = count * int(np.prod(item))
                row[name] = np.frombuffer(record, dtype, n, head).reshape(count, *item)
                head += row[name].nbytes
            return row
        self._index[frame] = 0  # damaged: made again
        return None

    def add(self, ids: Sequence[int], rows: Sequence[Row]) -> None:
        """Keep the rows of some frames, as long as there is room."""
        records = [self._record(k, row) for k, row in zip(ids, rows, strict=True)]
        with self._lock:
            if not self._open:
                return
            start = int(self._index[-1, 0])
            data = b"".join(records)
            if start + len(data) > self._most:
                self._open = False
                limit = f"{self._most / 1e9:.3g} GB (cache_disk)"
                self._reporter.info(f"{self.folder}: no more rows are kept, as they would outgrow {limit}")
                return
            try:
                _write(self._file, data, start)
            except OSError as error:
                self._stop(error.strerror or str(error))
                return
            for k, record in zip(ids, records, strict=True):
                self._index[k] = start, len(record)
                start += len(record)
            self._index[-1, 0] = start
            if time.monotonic() - self._saved > SAFE_SECONDS:
                self._save()

    def _record(self, frame: int, row: Row) -> bytes:
        arrays = [np.ascontiguousarray(row[name], dtype) for name, (dtype, _) in self._layout.items()]
        head = np.array([frame, *map(len, arrays)], np.int64)
        record = b"".join([head.tobytes(), *(array.tobytes() for array in arrays)])
        return np.int64(zlib.crc32(record)).tobytes() + record

    def save(self) -> None:
        """Make what is kept safe on the disk."""
        with self._lock:
            if self._file >= 0:
                self._save()

    def _save(self) -> None:
        try:
            _save(self._file, self._path_of_index, self._index)
        except (OSError, FileError) as error:
            self._stop(str(getattr(error, "strerror", None) or error))
        self._saved = time.monotonic()

    def _stop(self, reason: str) -> None:
        self._open = False
        self._reporter.warn(
            f"{self.folder}: no more rows are kept ({reason}); the others are made when they are needed"
        )


def _write(file: int, data: bytes, start: int) -> None:
    """All of the data, which the system may take in parts."""
    left = memoryview(data)
    while left:
        done = os.pwrite(file, left, start)
        left, start = left[done:], start + done


def _save(file: int, path: Path, index: np.ndarray) -> None:
    """The rows, then the index that says how far they go."""
    os.fdatasync(file)
    buffer = io.BytesIO()
    np.save(buffer, index, allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _close(file: int, path: Path, index: np.ndarray) -> None:
    """At the end of the process: the index, if the folder is still there."""
    try:
        if path.parent.is_dir():
            _save(file, path, index)
        os.close(file)
    except (OSError, FileError):
        pass  # a full disk; the rows are made again
