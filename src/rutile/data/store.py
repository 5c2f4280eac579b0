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
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rutile.core.elements import MAX_Z
from rutile.core.errors import DataError, LabelError
from rutile.core.reporting import Reporter, SilentReporter
from rutile.data.arrays import ArrayWriters, gather, new_folder, open_array, read_manifest, verify_array
from rutile.data.frames import Frame, Labelled
from rutile.structures.structures import Structures

KIND, VERSION = "rutile-store", 1
_ARRAYS: dict[str, tuple[type, tuple[int, ...]]] = {
    "offsets": (np.int64, ()),
    "numbers": (np.uint8, ()),
    "positions": (np.float64, (3,)),
    "forces": (np.float64, (3,)),
    "cell": (np.float64, (3, 3)),
    "pbc": (np.bool_, (3,)),
    "energy": (np.float64, ()),
    "stress": (np.float64, (3, 3)),
    "weight": (np.float64, ()),
    "has_energy": (np.bool_, ()),
    "has_forces": (np.bool_, ()),
    "has_stress": (np.bool_, ()),
    "group": (np.int32, ()),
    "mode": (np.int32, ()),
    "source": (np.uint8, ()),
    "source_offsets": (np.int64, ()),
}
"""Name -> (dtype, shape of one row)."""


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

    def __init__(self, folder: Path, manifest: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.folder, self.hash, self._arrays, self._entries = folder, manifest["content_sha256"], arrays, manifest
        self.elements = tuple(manifest["elements"])
        self.sizes = np.diff(arrays["offsets"])
        self._group_names, self._mode_names = manifest["groups"], manifest["modes"]

    @staticmethod
    def open(folder: Path, *, verify: bool = False) -> Store:
        """Open a store; sizes of all files are checked, their SHA-256 too if `verify`.

        Raises:
            FileError: no store, of another version, or a file is missing, truncated or altered; says which.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, KIND, VERSION)
        entries = manifest["arrays"]
        arrays = {name: open_array(folder, entries[name]) for name in _ARRAYS}
        store = Store(folder, manifest, arrays)
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

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Frame]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> Frame:
        """Frame k as it was put in; labels that were absent are None."""
        k = operator.index(k)
        if not -len(self) <= k < len(self):
            raise IndexError(f"frame {k} of a store of {len(self)} frames")
        k %= len(self)
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
        """
        ids = self._checked(ids)
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
    """Write frames into a new store, one at a time (bounded memory), and open it.

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
    folder = Path(folder)
    groups: dict[str, int] = {}
    modes: dict[str, int] = {}
    present = np.zeros(MAX_Z + 1, dtype=bool)
    n_frames = n_atoms = n_text = 0
    with new_folder(folder) as temporary, ArrayWriters(temporary) as out:
        for name, (dtype, item) in _ARRAYS.items():
            out.add(name, dtype, item)
        out["offsets"].append(np.zeros(1))
        out["source_offsets"].append(np.zeros(1))
        for frame in reporter.track(frames, "building the store", total):
            check_frame(frame, n_frames)
            text = frame.source.encode()
            n_frames, n_atoms, n_text = n_frames + 1, n_atoms + len(frame.numbers), n_text + len(text)
            present[np.unique(frame.numbers)] = True
            row = _row(frame)
            row["group"] = np.array([groups.setdefault(frame.group, len(groups))])
            row["mode"] = np.array([modes.setdefault(frame.calc_mode, len(modes))])
            row["offsets"], row["source_offsets"] = np.array([n_atoms]), np.array([n_text])
            row["source"] = np.frombuffer(text, dtype=np.uint8)
            for name, rows in row.items():
                out[name].append(rows)
        if n_frames == 0:
            raise DataError(f"no frames to put into {folder}: the files are empty or every frame was refused")
        head = {"format": KIND, "version": VERSION, "frames": n_frames, "atoms": n_atoms}
        names = {"elements": np.flatnonzero(present).tolist(), "groups": list(groups), "modes": list(modes)}
        out.finish({**head, **names})
    return Store.open(folder)


def check_frame(frame: Frame, k: int) -> None:
    """Refuse what no store should hold; `k` is the number of the frame, for the message.

    Raises:
        DataError: empty, wrong shapes, not finite, an atomic number outside 1..118, or periodic without a cell.
        LabelError: a label that is not finite.
    """
    place = f"frame {k}" + (f" ({frame.source})" if frame.source else "")
    n = len(frame.numbers)
    if n == 0:
        raise DataError(f"{place}: no atoms")
    if frame.numbers.min() < 1 or frame.numbers.max() > MAX_Z:
        bad = int(frame.numbers[(frame.numbers < 1) | (frame.numbers > MAX_Z)][0])
        raise DataError(f"{place}: atomic number {bad} is not an element (1 to {MAX_Z})")
    geometry = (("positions", frame.positions, (n, 3)), ("cell", frame.cell, (3, 3)), ("pbc", frame.pbc, (3,)))
    labels = (("forces", frame.forces, (n, 3)), ("stress", frame.stress, (3, 3)), ("energy", frame.energy, ()))
    for error, items in ((DataError, (*geometry, ("weight", frame.weight, ()))), (LabelError, labels)):
        for name, value, shape in items:
            if value is None:
                continue
            if np.shape(value) != shape:
                raise error(f"{place}: {name} of shape {np.shape(value)}, expected {shape} for {n} atoms")
            if not np.isfinite(value).all():
                raise error(f"{place}: {name} holds NaN or infinity; repair or remove the frame")
    vectors = frame.cell[np.asarray(frame.pbc, bool)]
    gram = vectors @ vectors.T
    if np.linalg.det(gram) <= 1e-12 * np.prod(np.diag(gram)):
        raise DataError(f"{place}: the cell vectors of its periodic directions are zero or not independent")


def _row(frame: Frame) -> dict[str, np.ndarray]:
    """What one frame by itself adds to the arrays."""
    n, nan = len(frame.numbers), np.nan
    return {
        "numbers": frame.numbers,
        "positions": frame.positions,
        "forces": np.full((n, 3), nan) if frame.forces is None else frame.forces,
        "cell": np.asarray(frame.cell)[None],
        "pbc": np.asarray(frame.pbc)[None],
        "energy": np.array([nan if frame.energy is None else frame.energy]),
        "stress": (np.full((3, 3), nan) if frame.stress is None else np.asarray(frame.stress))[None],
        "weight": np.array([frame.weight]),
        "has_energy": np.array([frame.energy is not None]),
        "has_forces": np.array([frame.forces is not None]),
        "has_stress": np.array([frame.stress is not None]),
    }
