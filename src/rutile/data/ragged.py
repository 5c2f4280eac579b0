"""Ragged arrays for each frame of a store: cached neighbour lists, descriptors and their derivatives.

A cache folder (see `data.arrays`) holds, for each name, `NAME.bin` with the rows of all frames one after another and
`NAME.offsets.bin` [F+1], plus a manifest with the key that says what was computed from what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rutile.core.errors import FileError
from rutile.core.files import remove_folder
from rutile.core.reporting import Reporter, SilentReporter
from rutile.data.arrays import ArrayWriters, MappedArrays, gather, new_folder, read_manifest, verify_array

KIND, VERSION = "rutile-ragged", 1
Row = Mapping[str, np.ndarray]
"""What one frame adds: name -> array [n, ...], n free; dtype and trailing shape the same in every frame."""


class RaggedStore:
    """Named ragged arrays of every frame, memory-mapped; `RaggedStore.open(folder)`."""

    folder: Path
    """Where it lies."""
    key: str
    """Says what was computed from what (a hash of the store and of the settings)."""
    names: tuple[str, ...]
    """Names of the arrays."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        entries, self._files = manifest["arrays"], MappedArrays()
        self.folder, self.key, self.names = folder, manifest["key"], tuple(manifest["names"])
        self._entries, self._length = entries, int(manifest["frames"])
        self._rows = {name: self._files.open(folder, entries[name]) for name in self.names}
        self._offsets = {name: self._files.open(folder, entries[f"{name}.offsets"]) for name in self.names}

    @staticmethod
    def open(folder: Path, key: str | None = None, *, verify: bool = False) -> RaggedStore:
        """Open a cache; sizes of all files are checked, their SHA-256 too if `verify`.

        Raises:
            FileError: no cache, truncated, altered, or its key is not `key`.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, KIND, VERSION)
        if key is not None and manifest["key"] != key:
            raise FileError(f"{folder}: cached for other data or settings (key {manifest['key']}, wanted {key})")
        if verify:
            for entry in manifest["arrays"].values():
                verify_array(folder, entry)
        return RaggedStore(folder, manifest)

    def __reduce__(self) -> tuple[Callable[..., RaggedStore], tuple[Path, str]]:
        return RaggedStore.open, (self.folder, self.key)  # to another process: opened there, not copied

    def __len__(self) -> int:
        """Number of frames."""
        return self._length

    def sizes(self, name: str) -> np.ndarray:
        """Rows of each frame, [F] int64."""
        return np.diff(self._offsets[name])

    def get(self, name: str, ids: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of some frames one after another [sum of sizes, ...], a copy, and the rows of each, [len(ids)].

        Raises:
            IndexError: an id is not a frame.
            FileError: a file was truncated since the cache was opened.
        """
        ids = np.asarray(ids, dtype=np.int64).reshape(-1)
        if len(ids) and not (ids.min() >= 0 and ids.max() < self._length):
            raise IndexError(f"frame {ids[(ids < 0) | (ids >= self._length)][0]} of a cache of {self._length} frames")
        self._files.check()
        offsets = self._offsets[name]
        return gather(self._rows[name], offsets, ids), offsets[ids + 1] - offsets[ids]


def build_ragged(
    rows: Iterable[Row],
    folder: Path,
    key: str,
    reporter: Reporter | None = None,
    *,
    label: str,
    total: int | None = None,
) -> RaggedStore:
    """Write one row of arrays for each frame into a new cache, by streaming, and open it.

    Raises:
        FileError: the folder exists or cannot be written.
        ValueError: a row has other names, dtypes or trailing shapes than the first.
    """
    reporter = reporter or SilentReporter()
    folder = Path(folder)
    ends: dict[str, int] = {}
    n = 0
    with new_folder(folder) as temporary, ArrayWriters(temporary) as out:
        for n, row in enumerate(reporter.track(rows, label, total), start=1):
            if n == 1:
                ends = dict.fromkeys(row, 0)
                _begin(out, row)
            _append(out, row, ends)
        out.finish({"format": KIND, "version": VERSION, "key": key, "frames": n, "names": list(ends)})
    return RaggedStore.open(folder, key)


def open_or_build(
    folder: Path,
    key: str,
    rows: Callable[[], Iterable[Row]],
    reporter: Reporter | None = None,
    *,
    label: str,
    total: int | None = None,
) -> RaggedStore:
    """The cache `folder/KEY`, built with `rows()` if it is not there yet, or damaged.

    Raises:
        FileError: the cache cannot be written.
    """
    place, reporter = Path(folder) / key, reporter or SilentReporter()
    if (found := opened(place, key, reporter)) is not None:
        return found
    return build_ragged(rows(), place, key, reporter, label=label, total=total)


def opened(place: Path, key: str, reporter: Reporter) -> RaggedStore | None:
    """A cache that is there and whole; a damaged one is removed, with a warning.

    Raises:
        FileError: it cannot be removed.
    """
    if not place.exists():
        return None
    try:
        return RaggedStore.open(place, key)
    except FileError as error:
        reporter.warn(f"{error} (done now)")
    try:
        remove_folder(place)
    except OSError as error:
        raise FileError(f"{place}: damaged, and cannot be removed: {error.strerror or error}; remove it") from None
    return None


def _begin(out: ArrayWriters, row: Row) -> None:
    for name, array in row.items():
        out.add(name, array.dtype, array.shape[1:])
        out.add(f"{name}.offsets", np.int64).append(np.zeros(1))


def _append(out: ArrayWriters, row: Row, ends: dict[str, int]) -> None:
    if row.keys() != ends.keys():
        raise ValueError(f"arrays {sorted(row)}, the first frame had {sorted(ends)}")
    for name, array in row.items():
        if array.dtype.newbyteorder("<") != out[name].dtype:
            raise ValueError(f"{name}: dtype {array.dtype}, the first frame had {out[name].dtype}")
        out[name].append(array)
        ends[name] += len(array)
        out[f"{name}.offsets"].append(np.array([ends[name]]))
