"""Structures of any file as memory-mapped arrays: the millionth is as near as the first, and opening reads nothing.

Layout (see `data.arrays`), F frames, N atoms in all: offsets [F+1], numbers [N], positions and forces [N, 3] (Angstrom,
eV/Angstrom), cell [F, 3, 3] (Angstrom), pbc [F, 3], energy [F] (eV), stress [F, 3, 3] (eV/Angstrom^3), composition [F]
(place in the manifest), group and mode [F] (places in the manifest), copy [F] (earlier frame of the same geometry and
energy, or -1), alone [F] (atoms without neighbours, or -1: not looked for), and what is drawn: energy_per_atom (eV),
fmax (eV/Angstrom), volume_per_atom (Angstrom^3), pressure (GPa), nearest (Angstrom), net_force (eV/Angstrom) [F]. NaN
where there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rutile.core.elements import formula_of, symbol
from rutile.core.units import GPA
from rutile.data.arrays import ArrayWriters, MappedArrays, new_folder, read_manifest

KIND, VERSION = "rutile-shelf", 2
DRAWN = {
    "energy_per_atom": "eV/atom", "fmax": "eV/Å", "atoms": "", "volume_per_atom": "Å³/atom", "pressure": "GPa",
    "nearest": "Å", "net_force": "eV/Å",
}  # fmt: skip
"""What can be drawn of every frame, with units."""
_ARRAYS: dict[str, tuple[type, tuple[int, ...]]] = {
    "offsets": (np.int64, ()), "numbers": (np.uint8, ()), "positions": (np.float64, (3,)), "forces": (np.float32, (3,)),
    "cell": (np.float64, (3, 3)), "pbc": (np.bool_, (3,)), "energy": (np.float64, ()), "stress": (np.float64, (3, 3)),
    "composition": (np.int32, ()), "energy_per_atom": (np.float64, ()), "fmax": (np.float64, ()),
    "volume_per_atom": (np.float64, ()), "pressure": (np.float64, ()), "nearest": (np.float64, ()),
    "net_force": (np.float64, ()), "group": (np.int32, ()), "mode": (np.int32, ()), "copy": (np.int64, ()),
    "alone": (np.int32, ()),
}  # fmt: skip
PLACES = ("group", "mode", "copy", "alone", "composition")
MOST_COMPOSITIONS = 100_000


@dataclass(frozen=True)
class Picture:
    """One structure with what is known about it."""

    numbers: np.ndarray
    """[N]."""
    positions: np.ndarray
    """[N, 3] (Angstrom)."""
    cell: np.ndarray
    """[3, 3], rows (Angstrom)."""
    pbc: np.ndarray
    """[3]."""
    energy: float | None = None
    """eV."""
    forces: np.ndarray | None = None
    """[N, 3] (eV/Angstrom)."""
    stress: np.ndarray | None = None
    """[3, 3] (eV/Angstrom^3)."""
    group: str = ""
    """Kind of structure."""
    mode: str = ""
    """Calc mode of the labels."""
    nearest: float | None = None
    """Smallest distance of two atoms (Angstrom); None: not looked for, or none is near."""
    alone: int = -1
    """Atoms without neighbours; -1: not looked for."""
    copy: int = -1
    """An earlier frame of the same geometry and energy; -1: none, or not looked for."""


@dataclass(frozen=True)
class Geometries:
    """Many structures without their atoms."""

    cell: np.ndarray
    """[K, 3, 3], rows (Angstrom)."""
    pbc: np.ndarray
    """[K, 3]."""
    energy: np.ndarray
    """eV; NaN where there is none, [K]."""
    start: np.ndarray
    """Place of the first atom in the file, [K]."""
    end: np.ndarray
    """One beyond that of the last atom, [K]."""


def write_shelf(pictures: Iterable[Picture], folder: Path, most_frames: int | None = None) -> int:
    """Write structures into a new folder, one at a time; their number.

    Args:
        pictures: read once.
        folder: appears when complete.
        most_frames: more are left out.

    Raises:
        FileError: the folder exists or cannot be written.
    """
    compositions: dict[tuple[tuple[int, int], ...], int] = {}
    frames_with: Counter[str] = Counter()
    names: dict[str, dict[str, int]] = {"group": {}, "mode": {}}
    labels: Counter[str] = Counter()
    count = atoms = 0
    with new_folder(folder) as temporary, ArrayWriters(temporary) as out:
        for name, (dtype, item) in _ARRAYS.items():
            out.add(name, dtype, item)
        out["offsets"].append(np.zeros(1, np.int64))
        for one in pictures:
            if most_frames is not None and count >= most_frames:
                break
            made_of = tuple(sorted(Counter(one.numbers.tolist()).items()))
            place = compositions.setdefault(made_of, len(compositions)) if len(compositions) < MOST_COMPOSITIONS else -1
            named = {what: known.setdefault(getattr(one, what), len(known)) for what, known in names.items()}
            frames_with.update(symbol(z) for z, _ in made_of)
            there = {"energy": one.energy, "forces": one.forces, "stress": one.stress}
            labels.update(name for name, value in there.items() if value is not None)
            count, atoms = count + 1, atoms + len(one.numbers)
            _append(out, one, atoms, named | {"composition": place})
        out.finish(
            {
                "format": KIND, "version": VERSION, "frames": count, "atoms": atoms, "elements": dict(frames_with),
                "labels": dict(labels), "compositions": [list(map(list, c)) for c in compositions],
                "groups": list(names["group"]), "modes": list(names["mode"]),
            }
        )  # fmt: skip
    return count


def _append(out: ArrayWriters, one: Picture, end: int, places: dict[str, int]) -> None:
    """One structure."""
    n, nan = max(1, len(one.numbers)), float("nan")
    stress = np.full((3, 3), nan) if one.stress is None else one.stress
    forces = np.full((len(one.numbers), 3), nan) if one.forces is None else one.forces
    energy = nan if one.energy is None else one.energy
    volume = abs(float(np.linalg.det(one.cell))) if np.all(one.pbc) else nan
    fmax = nan if one.forces is None or not len(one.numbers) else float(np.linalg.norm(forces, axis=1).max())
    row: dict[str, Any] = {
        **places, "offsets": end, "cell": one.cell, "pbc": one.pbc, "energy": energy, "stress": stress,
        "energy_per_atom": energy / n, "fmax": fmax, "volume_per_atom": volume / n,
        "pressure": -float(np.trace(stress)) / 3 / GPA, "nearest": nan if one.nearest is None else one.nearest,
        "net_force": float(np.linalg.norm(forces.sum(axis=0))), "alone": one.alone, "copy": one.copy,
    }  # fmt: skip
    for name, value in row.items():
        out[name].append(np.asarray(value, _ARRAYS[name][0])[None])
    out["numbers"].append(np.asarray(one.numbers, np.uint8))
    out["positions"].append(one.positions)
    out["forces"].append(forces.astype(np.float32))


class Shelf:
    """Structures that were written so."""

    def __init__(self, folder: Path) -> None:
        """Open a folder.

        Raises:
            FileError: it is none, or was altered.
        """
        manifest = read_manifest(folder, KIND, VERSION)
        self.folder = folder
        self._files = MappedArrays()
        self._arrays = {name: self._files.open(folder, manifest["arrays"][name]) for name in _ARRAYS}
        self.frames: int = manifest["frames"]
        self.atoms: int = manifest["atoms"]
        self.elements: dict[str, int] = manifest["elements"]
        self.labels: dict[str, int] = manifest["labels"]
        self.compositions: list[list[list[int]]] = manifest["compositions"]
        self.groups: list[str] = manifest["groups"]
        """Kinds of structures, by their places in the column `group`."""
        self.modes: list[str] = manifest["modes"]
        """Calc modes, by their places in the column `mode`."""

    def __len__(self) -> int:
        return self.frames

    @property
    def periodic(self) -> int:
        """How many frames repeat in all three directions: those that can have stress."""
        return int(self._arrays["pbc"].all(axis=1).sum())

    def frame(self, k: int) -> Picture:
        """One structure.

        Raises:
            IndexError: there is none of that number.
        """
        if not 0 <= k < self.frames:
            raise IndexError(f"frame {k} of {self.frames}")
        a = self._arrays
        start, end = a["offsets"][k : k + 2].tolist()
        energy, forces, stress = float(a["energy"][k]), a["forces"][start:end], a["stress"][k]
        return Picture(
            a["numbers"][start:end], a["positions"][start:end], a["cell"][k], a["pbc"][k],
            None if np.isnan(energy) else energy, None if np.isnan(forces).all() else forces,
            None if np.isnan(stress).all() else stress, self.groups[a["group"][k]], self.modes[a["mode"][k]],
        )  # fmt: skip

    def geometries(self, frames: np.ndarray) -> Geometries:
        """Cells, energies and places in the file of many structures at once.

        Args:
            frames: their numbers, [K].
        """
        a = self._arrays
        return Geometries(
            np.asarray(a["cell"][frames]), np.asarray(a["pbc"][frames]), np.asarray(a["energy"][frames]),
            np.asarray(a["offsets"][frames]), np.asarray(a["offsets"][frames + 1]),
        )  # fmt: skip

    def atoms_at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Atomic numbers and positions (Angstrom) of atoms at places of the file, of any shape [...] and [..., 3]."""
        return np.asarray(self._arrays["numbers"][places]), np.asarray(self._arrays["positions"][places])

    def column(self, name: str) -> np.ndarray:
        """A number of every frame, [F]: one of `DRAWN`, or group, mode, copy, alone, composition.

        Raises:
            KeyError: there is no such column.
        """
        if name == "atoms":
            return np.diff(self._arrays["offsets"])
        if name not in DRAWN and name not in PLACES:
            raise KeyError(name)
        return self._arrays[name]

    def of_elements(self, elements: Sequence[str], only: bool) -> np.ndarray:
        """Which frames hold all of these elements (`only`: and no others), [F] bool."""
        wanted = set(elements)
        fits = np.zeros(len(self.compositions) + 1, bool)  # the last one: too many compositions to be told apart
        for place, made_of in enumerate(self.compositions):
            there = {symbol(z) for z, _ in made_of}
            fits[place] = wanted == there if only else wanted <= there
        return np.asarray(fits[self._arrays["composition"]])

    def formula(self, k: int) -> str:
        """Of one frame."""
        place = int(self._arrays["composition"][k])
        made_of = self.compositions[place] if place >= 0 else []
        return formula_of({z: n for z, n in made_of})
