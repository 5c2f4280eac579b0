"""Formats that ASE reads and writes: CIF, trajectories and databases.

Labels of trajectories and databases are in ASE's calculator slot. None of these readers unpickles: trajectories
are JSON and arrays, database rows JSON in SQLite.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.db.core import check
from ase.db.row import AtomsRow
from ase.io.cif import parse_cif
from ase.io.trajectory import TrajectoryReader, TrajectoryWriter

from rutile.core.errors import DataError, FileError
from rutile.structures.formats.common import BadFrame, Entry, attach, decode, labels_of

LABEL_NAMES = ("REF_energy", "REF_forces", "REF_stress")


def calculated(atoms: Atoms) -> Atoms:
    """A copy whose labels are in the calculator slot and nowhere else."""
    energy, forces, stress = labels_of(atoms)
    copy: Atoms = atoms.copy()
    for name in LABEL_NAMES:
        copy.info.pop(name, None)
        copy.arrays.pop(name, None)
    return attach(copy, energy, forces, stress)


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _require_text(path: Path) -> None:
    with path.open("rb") as handle:
        for number, line in enumerate(handle):
            decode(line, number)


def read_cif(path: Path) -> Iterator[Entry]:
    """Structures of the data blocks of a CIF file that hold one.

    Raises:
        FileError: not a CIF file, or no structure in it.
    """
    _require_text(path)
    try:
        blocks = [b for b in parse_cif(str(path)) if b.has_structure()]
    except Exception as error:
        raise FileError(f"not a CIF file ({_brief(error)})") from None
    if not blocks:
        raise FileError("no structure in this CIF file")
    for block in blocks:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # ASE warns of unusual space-group settings
                atoms = block.get_atoms()
        except Exception as error:
            yield BadFrame(DataError(f"data block {block.name!r}: {_brief(error)}"))
            continue
        occupancy = block.get("_atom_site_occupancy")
        if occupancy is not None and any(_partial(x) for x in occupancy):
            yield BadFrame(DataError(f"data block {block.name!r} has partly occupied sites: give an ordered structure"))
            continue
        atoms.info = {"comment": block.name}
        for name in ("spacegroup_kinds",):
            atoms.arrays.pop(name, None)
        yield atoms


def _partial(value: Any) -> bool:
    return isinstance(value, float | int) and abs(float(value) - 1.0) > 1e-6


def write_cif(path: Path, frames: Iterable[Atoms]) -> int:
    """Write structures in P1 with all digits, one data block each. CIF keeps the cell's shape, not its orientation.

    Raises:
        DataError: a structure that is not periodic in three directions.
    """
    count = 0
    with path.open("w") as handle:
        for atoms in frames:
            if not atoms.pbc.all() or atoms.cell.rank < 3:
                raise DataError(f"frame {count}: CIF holds crystals only, and this is not periodic in 3 directions")
            handle.write(_cif(atoms, count))
            count += 1
    return count


def _cif(atoms: Atoms, number: int) -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"data_image{number}"]
    lines += [f"_cell_{n} {float(x)!r}" for n, x in zip(names, atoms.cell.cellpar(), strict=True)]
    lines += [
        "_space_group_name_H-M_alt 'P 1'",
        "_space_group_IT_number 1",
        "loop_",
        "_space_group_symop_operation_xyz",
    ]
    lines += ["'x, y, z'", "loop_", "_atom_site_type_symbol", "_atom_site_label"]
    lines += [f"_atom_site_fract_{x}" for x in "xyz"] + ["_atom_site_occupancy"]
    scaled = atoms.get_scaled_positions(wrap=False).tolist()
    for k, (symbol, (x, y, z)) in enumerate(zip(atoms.get_chemical_symbols(), scaled, strict=True), 1):
        lines.append(f"{symbol} {symbol}{k} {x!r} {y!r} {z!r} 1.0")
    return "\n".join([*lines, "", ""])


def read_traj(path: Path) -> Iterator[Entry]:
    """Frames of an ASE trajectory, one at a time.

    Raises:
        FileError: not a trajectory of this kind.
    """
    with path.open("rb") as handle:
        try:
            reader = TrajectoryReader(handle)
        except Exception as error:
            raise FileError(f"not an ASE trajectory, or truncated ({_brief(error)})") from None
        for k in range(len(reader)):
            try:
                atoms = reader[k]
                atoms.set_constraint()
            except Exception as error:
                yield BadFrame(DataError(f"damaged frame ({_brief(error)})"))
                continue
            yield atoms


def write_traj(path: Path, frames: Iterable[Atoms]) -> int:
    """Write frames with labels in the calculator slot; arrays other than forces are not kept by this format."""
    count = 0
    writer = TrajectoryWriter(str(path), "w")
    try:
        for atoms in frames:
            writer.write(calculated(atoms))
            count += 1
    finally:
        writer.close()
    return count


def read_db(path: Path) -> Iterator[Entry]:
    """Rows of an ASE database (SQLite), one at a time, in order of their ids.

    Raises:
        FileError: not an ASE database.
    """
    try:
        with connect(str(path), type="db", use_lock_file=False) as database:
            for row in database.select(sort="id"):
                yield from_row(row)
    except (GeneratorExit, FileError):
        raise
    except Exception as error:
        raise FileError(f"not an ASE database, or damaged ({_brief(error)})") from None


def from_row(row: AtomsRow) -> Entry:
    """Atoms of a database row; key-value pairs and data become info entries and arrays."""
    try:
        atoms = row.toatoms()
        atoms.set_constraint()
        atoms.info |= dict(row.get("key_value_pairs", {}))
        for key, value in dict(row.get("data", {})).items():
            array = np.asarray(value) if isinstance(value, list | np.ndarray) else None
            if array is not None and array.dtype.kind in "fi" and array.shape[:1] == (len(atoms),) and key != "stress":
                atoms.arrays.setdefault(key, array)
            else:
                atoms.info.setdefault(key, value)
    except Exception as error:
        return BadFrame(DataError(f"damaged row ({_brief(error)})"))
    result: Atoms = atoms
    return result


def split_info(atoms: Atoms) -> tuple[dict[str, Any], dict[str, Any]]:
    """Key-value pairs and data in which a database keeps the info entries and arrays of atoms."""
    pairs: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for key, value in atoms.info.items():
        (pairs if _is_pair(key, value) else data)[key] = value
    own = {"numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges"}
    data |= {k: v for k, v in atoms.arrays.items() if k not in own}
    return pairs, data


def _is_pair(key: str, value: Any) -> bool:
    """Whether a database takes an entry as a key-value pair, which can be searched."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a key that is a formula
        try:
            check({key: value})
        except (ValueError, Warning):
            return False
    return True


def write_db(path: Path, frames: Iterable[Atoms]) -> int:
    """Write rows with labels in their calculator fields."""
    count = 0
    try:
        with connect(str(path), type="db", use_lock_file=False, append=False) as database:
            for atoms in frames:
                labelled = calculated(atoms)
                pairs, data = split_info(labelled)
                labelled.info = {}
                database.write(labelled, pairs, data=data)
                count += 1
    except sqlite3.Error as error:
        raise FileError(f"cannot be written: {error}") from None
    return count
