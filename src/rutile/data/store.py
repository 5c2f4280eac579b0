"""The store: labelled frames on disk as concatenated, memory-mapped arrays; may be larger than memory.

Layout of a store folder (version 1; every file raw little-endian, see `data.arrays`), F frames, N atoms in all:

    manifest.json   format, version, F, N, elements, names of groups and calc modes, dtype/shape/SHA-256 of each array
    offsets [F+1]   frame k holds the atoms offsets[k]:offsets[k+1]
    numbers [N] uint8, positions [N, 3], forces [N, 3]
    cell [F, 3, 3], pbc [F, 3] bool, energy [F], stress [F, 3, 3], weight [F]
    has_energy, has_forces, has_stress [F] bool; an absent label is NaN in its array
    group, mode [F] int32: index into the names in the manifest
    source [bytes] uint8 UTF-8, source_offsets [F+1]

Floats are float64 in eV, Angstrom, eV/Angstrom, eV/Angstrom^3. `docs/store.md` describes it for other programs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rutile.core.reporting import Reporter, SilentReporter
from rutile.data.arrays import MANIFEST, ArrayWriters, MappedArrays, gather, new_folder, read_manifest, verify_array
from rutile.data.frames import Frame, Labelled
from rutile.data.writer import ARRAYS, KIND, VERSION, StoreWriter, blocks_of
from rutile.structures.structures import Structures


def is_store(path: Path) -> bool:
    """Whether a path is the folder of a store, of any version."""
    try:
        return f'"{KIND}"' in (Path(path) / MANIFEST).read_text(encoding="utf-8")[:200]
    except (OSError, UnicodeDecodeError):
        return False


class Store:
    """Labelled frames of one data set, read on demand; `Store.open(folder)`."""

    folder: Path
    """Where it lies."""
    hash: str
    """SHA-256 (hex) of the content: same frames in the same order, same hash."""
    elements: tuple[int, ...]
    """Atomic numbers that occur, ascending."""
    sizes: np.ndarray
    """Atoms of each frame, [F] int64."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.hash, self._entries, self._files = (
            folder,
            manifest["content_sha256"],
            manifest,
            MappedArrays(),
        )
        self._arrays = {name: self._files.open(folder, manifest["arrays"][name]) for name in ARRAYS}
        self.elements = tuple(manifest["elements"])
        self.sizes = np.diff(self._arrays["offsets"])
        self._group_names, self._mode_names = manifest["groups"], manifest["modes"]

    @staticmethod
    def open(folder: Path, *, verify: bool = False) -> Store:
        """Open a store; sizes of all files are checked, their SHA-256 too if `verify`.

        Raises:
            FileError: no store, of another version, or a file is missing, truncated or altered; says which.
        """
        folder = Path(folder)
        store = Store(folder, read_manifest(folder, KIND, VERSION))
        if verify:
            store.verify()
        return store

    def verify(self) -> None:
        """Read every file and compare its SHA-256 with the manifest.

        Raises:
            FileError: a file differs; names it.
        """
        for entry in self._entries["arrays"].values():
            verify_array(self.folder, entry)

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Path]]:
        return Store.open, (self.folder,)  # to another process: opened there, not copied

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Frame]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> Frame:
        """Frame k as it was put in; labels that were absent are None.

        Raises:
            IndexError: there is no such frame.
            FileError: a file was truncated since the store was opened.
        """
        k = operator.index(k)
        if not -len(self) <= k < len(self):
            raise IndexError(f"frame {k} of a store of {len(self)} frames")
        k %= len(self)
        self._files.check()
        a, (start, end) = self._arrays, self._arrays["offsets"][k : k + 2].tolist()
        return Frame(
            numbers=a["numbers"][start:end].astype(np.int64),
            positions=a["positions"][start:end].copy(),
            cell=a["cell"][k].copy(),
            pbc=a["pbc"][k].copy(),
            energy=float(a["energy"][k]) if a["has_energy"][k] else None,
            forces=a["forces"][start:end].copy() if a["has_forces"][k] else None,
            stress=a["stress"][k].copy() if a["has_stress"][k] else None,
            group=self._group_names[a["group"][k]],
            calc_mode=self._mode_names[a["mode"][k]],
            weight=float(a["weight"][k]),
            source=self.source(k),
        )

    def batch(self, ids: Sequence[int] | np.ndarray) -> Labelled:
        """Frames as one float64 CPU batch; `index` of the batch holds `ids`.

        Raises:
            IndexError: an id is not a frame of the store.
            FileError: a file was truncated since the store was opened.
        """
        ids = self._checked(ids)
        self._files.check()
        a = self._arrays
        frames = {name: torch.from_numpy(a[name][ids]) for name in _PER_FRAME}
        atoms = {name: torch.from_numpy(gather(a[name], a["offsets"], ids)) for name in ("positions", "forces")}
        numbers = torch.from_numpy(gather(a["numbers"], a["offsets"], ids).astype(np.int64))
        system = torch.from_numpy(np.repeat(np.arange(len(ids)), self.sizes[ids]))
        return Labelled(
            Structures(numbers, atoms["positions"], frames["cell"], frames["pbc"], system),
            energy=frames["energy"],
            forces=atoms["forces"],
            stress=frames["stress"],
            has_energy=frames["has_energy"],
            has_forces=frames["has_forces"],
            has_stress=frames["has_stress"],
            weight=frames["weight"],
            index=torch.from_numpy(ids),
        )

    def structures(self, ids: Sequence[int] | np.ndarray) -> Structures:
        """The structures of some frames as one batch."""
        return self.batch(ids).structures

    def array(self, name: str) -> np.ndarray:
        """One array of the layout above, read-only and memory-mapped."""
        return self._arrays[name]

    def source(self, k: int) -> str:
        """Where frame k came from: "file.extxyz#12"."""
        start, end = self._arrays["source_offsets"][k : k + 2].tolist()
        return self._arrays["source"][start:end].tobytes().decode("utf-8")

    @property
    def n_atoms(self) -> int:
        """Atoms in all frames together."""
        return len(self._arrays["numbers"])

    @property
    def groups(self) -> np.ndarray:
        """Group name of each frame, [F] str."""
        names: np.ndarray = np.array(self._group_names, dtype=np.str_)
        return np.asarray(names[self._arrays["group"]])

    @property
    def calc_modes(self) -> tuple[str, ...]:
        """Names of the calc modes that occur, in order of appearance."""
        return tuple(self._mode_names)

    def _checked(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        out = np.array(ids, dtype=np.int64).reshape(-1)
        if len(out) and not (out.min() >= 0 and out.max() < len(self)):
            bad = out[(out < 0) | (out >= len(self))][0]
            raise IndexError(f"frame {bad} of a store of {len(self)} frames")
        return out


_PER_FRAME = ("cell", "pbc", "energy", "stress", "weight", "has_energy", "has_forces", "has_stress")


def build_store(
    frames: Iterable[Frame], folder: Path, reporter: Reporter | None = None, *, total: int | None = None
) -> Store:
    """Write frames into a new store, some at a time (bounded memory), and open it.

    Args:
        frames: read once; may be a generator over files larger than memory.
        folder: of the new store; appears only when complete.
        reporter: shows progress.
        total: number of frames if known, for the progress bar.

    Raises:
        DataError: a frame is empty, has wrong shapes, numbers that are not finite or elements outside 1..118,
            or there is no frame at all.
        LabelError: a label is not finite.
        FileError: the folder exists or cannot be written.
    """
    reporter = reporter or SilentReporter()
    with new_folder(Path(folder)) as temporary, ArrayWriters(temporary) as out:
        writer = StoreWriter(out)
        for block in blocks_of(reporter.track(frames, "building the store", total)):
            writer.add(block)
        writer.finish()
    return Store.open(folder)
