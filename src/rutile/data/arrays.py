"""Plain binary arrays on disk: written by streaming, hashed on the way, memory-mapped when read.

A folder of arrays holds one raw little-endian file for each array (C order, no header) and `manifest.json`, which
gives dtype, shape, size and SHA-256 of each. A folder is written under a temporary name and renamed when complete:
a reader never meets half of one. Used by `data.store` and `data.ragged`.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from rutile.core.errors import FileError
from rutile.core.files import UNFINISHED, flush_folder

MANIFEST = "manifest.json"
_BLOCK = 1 << 20
FEW_ROWS = 100
"""Rows of a frame below which one index for each row is faster than one slice for each frame."""


class ArrayWriter:
    """Appends rows to one array file; memory stays bounded whatever the length.

    Args:
        path: the file to create.
        dtype: NumPy dtype of the elements; stored little-endian.
        item: shape of one row, () for a one-dimensional array.
        rows: rows of the file that are there already and stay; what follows them is cut off.

    Raises:
        FileError: the file holds fewer rows.
    """

    def __init__(self, path: Path, dtype: np.dtype | type, item: tuple[int, ...] = (), rows: int = 0) -> None:
        self.path, self.item, self.rows = path, item, rows
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._hash = hashlib.sha256()
        self._file = path.open("r+b" if rows else "wb", buffering=_BLOCK)
        left = rows * self._row_bytes
        while left:
            block = self._file.read(min(left, _BLOCK))
            if not block:
                raise FileError(f"{path}: shorter than when it was last written; remove its folder and begin again")
            self._hash.update(block)
            left -= len(block)
        self._file.seek(rows * self._row_bytes)
        self._file.truncate()

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.item))

    def append(self, rows: np.ndarray) -> None:
        """Add rows, [n, *item]."""
        block = np.ascontiguousarray(rows, dtype=self.dtype)
        if block.shape[1:] != self.item:
            raise ValueError(f"{self.path.name}: rows of shape {block.shape[1:]}, expected {self.item}")
        data = block.reshape(-1).view(np.uint8).data
        self._file.write(data)
        self._hash.update(data)
        self.rows += len(block)

    def close(self) -> None:
        """Close the file, whether complete or not."""
        self._file.close()

    def flush(self) -> None:
        """Flush to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> dict[str, Any]:
        """Flush to the disk and return the entry of the manifest."""
        self.flush()
        self._file.close()
        return {
            "file": self.path.name,
            "dtype": self.dtype.str,
            "shape": [self.rows, *self.item],
            "bytes": self.rows * self._row_bytes,
            "sha256": self._hash.hexdigest(),
        }


class ArrayWriters:
    """A set of `ArrayWriter` in one folder, closed together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, ArrayWriter] = {}

    def add(self, name: str, dtype: np.dtype | type, item: tuple[int, ...] = (), rows: int = 0) -> ArrayWriter:
        """Create the array `name`, or go on behind `rows` rows of it."""
        writer = self._writers[name] = ArrayWriter(self.folder / f"{name}.bin", dtype, item, rows)
        return writer

    def flush(self) -> None:
        """Flush all files to the disk."""
        for writer in self._writers.values():
            writer.flush()

    def __contains__(self, name: str) -> bool:
        return name in self._writers

    def __getitem__(self, name: str) -> ArrayWriter:
        return self._writers[name]

    def __enter__(self) -> ArrayWriters:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for writer in self._writers.values():
            with suppress(OSError):  # what counts was written by `finish`; on a full disk closing fails once more
                writer.close()

    def finish(self, head: Mapping[str, Any]) -> str:
        """Write the manifest: `head`, the arrays, and the SHA-256 of the whole content, which is returned."""
        manifest = {**head, "arrays": {name: w.finish() for name, w in sorted(self._writers.items())}}
        manifest["content_sha256"] = content_hash(manifest)
        path = self.folder / MANIFEST
        with path.open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        return str(manifest["content_sha256"])


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, renamed to it at the end; removed when anything fails.

    Raises:
        FileError: `folder` exists, or cannot be written (no space, no permission).
    """
    folder = Path(folder)
    if folder.exists():
        raise FileError(f"{folder}: exists already; remove it or choose another name")
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=UNFINISHED, dir=folder.parent))
        yield temporary
        temporary.chmod(0o755)
        flush_folder(temporary)
        temporary.rename(folder)
        flush_folder(folder.parent)
    except OSError as error:
        place = f"{folder}" if error.filename is None else f"{folder} ({error.filename})"
        raise FileError(
            f"{place}: cannot be written: {error.strerror or error}; make room there, or choose another place"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def read_manifest(folder: Path, kind: str, version: int) -> dict[str, Any]:
    """The manifest of a folder of arrays, checked for its kind, version and own hash.

    Raises:
        FileError: absent, not JSON, of another kind or a newer version, or altered.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError(f"{folder}: no {kind} here ({MANIFEST} is missing)") from error
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise FileError(f"{path}: not the manifest of a {kind}")
    if manifest.get("version") != version:
        raise FileError(f"{path}: version {manifest.get('version')} of {kind}; this program reads version {version}")
    if manifest.get("content_sha256") != content_hash(manifest):
        raise FileError(f"{path}: altered since it was written (its SHA-256 does not match); build it again")
    return manifest


def content_hash(manifest: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of everything in a manifest, hence of every array, except this hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "content_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class MappedArrays:
    """Memory-mapped, read-only arrays of a folder.

    Reading a mapped file behind its end kills the process (SIGBUS), without a word. A file that has become shorter is
    therefore looked for before arrays are read (`check`); only what happens in that very moment is not seen.
    """

    def __init__(self) -> None:
        self._files: list[tuple[Path, mmap.mmap, int]] = []

    def open(self, folder: Path, entry: Mapping[str, Any]) -> np.ndarray:
        """Map one array, after checking its size.

        Raises:
            FileError: missing, unreadable or of the wrong size.
        """
        path = Path(folder) / entry["file"]
        try:
            size = path.stat().st_size
            if size != entry["bytes"]:
                raise FileError(
                    f"{path}: {size} bytes, the manifest says {entry['bytes']}: truncated or altered; build it again"
                )
            shape, dtype = tuple(entry["shape"]), np.dtype(entry["dtype"])
            if size == 0:
                return np.zeros(shape, dtype)
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise FileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        self._files.append((path, mapped, size))
        return np.frombuffer(mapped, dtype).reshape(shape)

    def check(self) -> None:
        """Look whether all files are as long as they were.

        Raises:
            FileError: names one that is not, or that can no longer be reached.
        """
        for path, mapped, size in self._files:
            try:
                now = mapped.size()
            except OSError as error:
                raise FileError(f"{path}: can no longer be read: {error.strerror or error}") from error
            if now != size:
                raise FileError(
                    f"{path}: {now} bytes, but {size} when it was opened: truncated or altered while in use; build it "
                    "again"
                )


def verify_array(folder: Path, entry: Mapping[str, Any]) -> None:
    """Compare the SHA-256 of one array file with the manifest.

    Raises:
        FileError: it differs, or the file cannot be read.
    """
    path = Path(folder) / entry["file"]
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if digest.hexdigest() != entry["sha256"]:
        raise FileError(f"{path}: altered since it was written (its SHA-256 does not match); build it again")


def gather(array: np.ndarray, offsets: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Rows of several frames of a ragged array, one after another: array[offsets[k]:offsets[k+1]] for k in ids."""
    if len(ids) == 0:
        return array[:0].copy()
    starts, ends = offsets[ids], offsets[ids + 1]
    if ids[-1] - ids[0] == len(ids) - 1 and (np.diff(ids) == 1).all():
        return np.array(array[starts[0] : ends[-1]])
    sizes = ends - starts
    total = int(sizes.sum())
    if total < FEW_ROWS * len(ids):
        return np.asarray(array[np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(total)])
    return np.concatenate([array[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
