"""DeePMD's folders of NumPy arrays, one system (one list of atoms) in each.

    type.raw            element of each atom, as a number into
    type_map.raw        the element symbols
    nopbc               present if the system is not periodic
    set.000/coord.npy   [F, 3 N] (Angstrom)
    set.000/box.npy     [F, 9] cell vectors as rows (Angstrom)
    set.000/energy.npy  [F] (eV)
    set.000/force.npy   [F, 3 N] (eV/Angstrom)
    set.000/virial.npy  [F, 9] (eV); virial = -volume * stress
    set.000/real_atom_types.npy   [F, N], in the mixed layout: types by frame, -1 for padding

Arrays are memory-mapped and never unpickled. Source: https://docs.deepmodeling.com/projects/deepmd/en/stable/data/.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from rutile.core.errors import DataError, FileError
from rutile.structures.formats.common import BadFrame, Entry, attach, labels_of, text_lines

LABELS = ("energy", "force", "virial")


def read(
    path: Path, system: Path | None = None, folder: Path | None = None, first: int = 0, frames: int | None = None
) -> Iterator[Entry]:
    """Frames of a system, or of all systems in a folder, one at a time.

    Args:
        path: the folder.
        system: the only system to read; default: all.
        folder: the only set to read of that system; default: all.
        first: first frame to read of that set.
        frames: number of frames to read of it; default: to its end.

    Raises:
        FileError: files of a system are missing, damaged or do not fit together.
    """
    systems = sorted(p.parent for p in path.rglob("type.raw"))
    if not systems:
        raise FileError("no type.raw in this folder: not a DeePMD system")
    for one in systems if system is None else [system]:
        for part, kinds, elements, periodic in _sets(one):
            if folder is None or part == folder:
                yield from _read_set(part, kinds, elements, periodic, first, frames)


def places(path: Path, frames: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of the first frame, and arguments of `read`, for portions of so many frames of one set.

    A system that cannot be understood is one portion, the last.
    """
    systems, count = sorted(p.parent for p in path.rglob("type.raw")), 0
    if not systems:
        yield 0, {}
    for system in systems:
        try:
            for folder, kinds, _, _ in list(_sets(system)):
                coord = _load(folder / "coord.npy", 3 * len(kinds))
                if coord is None:
                    raise FileError(f"{folder}: no coord.npy")
                for first in range(0, len(coord), frames):
                    yield count + first, {"system": system, "folder": folder, "first": first, "frames": frames}
                count += len(coord)
        except FileError:
            yield count, {"system": system}
            return


def _sets(system: Path) -> Iterator[tuple[Path, np.ndarray, np.ndarray, bool]]:
    """Sets of a system, with the types of its atoms, their elements, and whether it is periodic."""
    types = _words(system / "type.raw")
    if not all(t.isdecimal() for t in types) or not types:
        raise FileError(f"{system / 'type.raw'}: numbers into type_map.raw expected, found {types[:5]}")
    if not (system / "type_map.raw").is_file():
        raise FileError(f"{system}: no type_map.raw, so the elements are unknown: write their symbols into this file")
    symbols = _words(system / "type_map.raw")
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) == 0:
            raise FileError(f"{system / 'type_map.raw'}: unknown element {symbol!r}")
    elements = np.array([atomic_numbers[s] for s in symbols])
    kinds = np.array([int(t) for t in types])
    sets = sorted(p for p in system.glob("set.*") if p.is_dir())
    if not sets:
        raise FileError(f"{system}: no folder set.000")
    for folder in sets:
        yield folder, kinds, elements, not (system / "nopbc").exists()


def _words(path: Path) -> list[str]:
    return [word for line in text_lines(path) for word in line.split()]


def _read_set(
    folder: Path, kinds: np.ndarray, elements: np.ndarray, periodic: bool, first: int, count: int | None
) -> Iterator[Entry]:
    n = len(kinds)
    coord = _load(folder / "coord.npy", 3 * n)
    if coord is None:
        raise FileError(f"{folder}: no coord.npy")
    frames = len(coord)
    box = _load(folder / "box.npy", 9, frames)
    if periodic and box is None:
        raise FileError(f"{folder}: no box.npy; a system without periodicity has a file 'nopbc'")
    energy, force = _load(folder / "energy.npy", 1, frames), _load(folder / "force.npy", 3 * n, frames)
    virial, mixed = _load(folder / "virial.npy", 9, frames), _load(folder / "real_atom_types.npy", n, frames)
    for k in range(first, frames if count is None else min(first + count, frames)):
        kind = kinds if mixed is None else np.asarray(mixed[k]).astype(int)
        real = kind >= 0
        if kind.max(initial=-1) >= len(elements):
            yield BadFrame(DataError(f"type {kind.max()} of an atom, but type_map.raw has {len(elements)} elements"))
            continue
        atoms = Atoms(
            elements[kind[real]],
            positions=np.array(coord[k], dtype=np.float64).reshape(-1, 3)[real],
            cell=None if box is None else np.array(box[k], dtype=np.float64).reshape(3, 3),
            pbc=periodic,
        )
        if virial is not None:
            atoms.info["virial"] = np.array(virial[k], dtype=np.float64).reshape(3, 3)
        forces = None if force is None else np.array(force[k], dtype=np.float64).reshape(-1, 3)[real]
        yield attach(atoms, None if energy is None else float(energy[k, 0]), forces, None)


def _load(path: Path, columns: int, frames: int | None = None) -> np.ndarray | None:
    """A memory-mapped [F, columns] array, or None where the file is absent.

    Raises:
        FileError: damaged, pickled, or another shape.
    """
    if not path.is_file():
        return None
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise FileError(f"{path}: not a NumPy array, or truncated ({str(error)[:100]})") from None
    if array.dtype.kind not in "fiu":
        raise FileError(f"{path}: numbers expected, found {array.dtype}")
    rows = len(array) if array.ndim else 0
    if array.size != rows * columns or (frames is not None and rows != frames):
        want = "F" if frames is None else str(frames)
        raise FileError(f"{path}: shape [{want}, {columns}] expected, found {list(array.shape)}")
    return array.reshape(rows, columns)


@dataclass
class _System:
    """Frames of one list of atoms on their way to a folder: raw doubles, appended frame by frame."""

    folder: Path
    numbers: np.ndarray
    periodic: bool
    frames: int = 0
    columns: dict[str, int] = field(default_factory=dict)

    def add(self, arrays: dict[str, np.ndarray]) -> None:
        for name, values in arrays.items():
            self.columns[name] = values.size
            with (self.folder / f"{name}.part").open("ab") as handle:
                handle.write(np.ascontiguousarray(values, dtype="<f8").tobytes())
        self.frames += 1

    def finish(self, elements: list[int]) -> None:
        """Put headers before the raw numbers; through files, as a full disk kills who writes through a memory map."""
        target = self.folder / "set.000"
        target.mkdir()
        for name, columns in self.columns.items():
            part = self.folder / f"{name}.part"
            shape = (self.frames,) if name == "energy" else (self.frames, columns)
            header = {"descr": "<f8", "fortran_order": False, "shape": shape}
            with (target / f"{name}.npy").open("wb") as out, part.open("rb") as raw:
                np.lib.format.write_array_header_1_0(out, header)
                shutil.copyfileobj(raw, out)
            part.unlink()
        kinds = [elements.index(int(z)) for z in self.numbers]
        (self.folder / "type.raw").write_text("\n".join(map(str, kinds)) + "\n")
        (self.folder / "type_map.raw").write_text("\n".join(chemical_symbols[z] for z in elements) + "\n")
        if not self.periodic:
            (self.folder / "nopbc").touch()


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write one system folder for each composition (a single one is the folder itself); atoms are sorted by element.

    Frames that lack a label which others of their composition have go to a folder of their own.

    Raises:
        DataError: mixed periodicity.
    """
    systems: dict[tuple[bytes, bool, tuple[str, ...]], _System] = {}
    names: dict[str, int] = {}
    path.mkdir()
    count = 0
    for atoms in frames:
        if atoms.pbc.any() and not atoms.pbc.all():
            raise DataError(f"frame {count}: DeePMD cannot hold the periodicity {atoms.pbc.tolist()} (all or none)")
        order = np.argsort(atoms.numbers, kind="stable")
        numbers, arrays = atoms.numbers[order], _arrays(atoms, order)
        key = (numbers.tobytes(), bool(atoms.pbc.all()), tuple(arrays))
        if key not in systems:
            formula = atoms.get_chemical_formula()
            names[formula] = names.get(formula, 0) + 1
            folder = path / (formula if names[formula] == 1 else f"{formula}_{names[formula]}")
            folder.mkdir()
            systems[key] = _System(folder, numbers, key[1])
        systems[key].add(arrays)
        count += 1
    elements = sorted({int(z) for s in systems.values() for z in s.numbers})
    for system in systems.values():
        system.finish(elements)
    if len(systems) == 1:
        (only,) = systems.values()
        for inside in only.folder.iterdir():
            shutil.move(inside, path / inside.name)
        only.folder.rmdir()
    return count


def _arrays(atoms: Atoms, order: np.ndarray) -> dict[str, np.ndarray]:
    """What goes into the .npy files for one frame; labels that it lacks are left out."""
    energy, forces, stress = labels_of(atoms)
    arrays = {"coord": atoms.positions[order].ravel()}
    if atoms.pbc.all():
        arrays["box"] = atoms.cell.array.ravel()
    if energy is not None:
        arrays["energy"] = np.array([energy])
    if forces is not None:
        arrays["force"] = forces[order].ravel()
    if stress is not None and atoms.cell.rank == 3:
        arrays["virial"] = (-atoms.cell.volume * stress).ravel()
    return arrays
