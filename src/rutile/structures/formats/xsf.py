"""XSF as aenet writes it: one structure in a file, total energy in a comment, forces in three more columns.

    # total energy = -19960.69526834 eV

    CRYSTAL
    PRIMVEC
      5.934  0.0  0.0      (three rows, Angstrom)
    PRIMCOORD
      24 1                 (number of atoms)
    Ti  x y z  fx fy fz    (Angstrom, eV/Angstrom)

ATOMS instead of CRYSTAL ... PRIMCOORD is a structure without periodicity. Forces are in eV/Angstrom (aenet), not in
the Hartree/Angstrom of XCrySDen. Source: the aenet manual and http://www.xcrysden.org/doc/XSF.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from rutile.core.errors import DataError, FileError
from rutile.structures.formats.common import BadFrame, Entry, attach, floats, labels_of, text_lines

PERIODIC = {"CRYSTAL": (True, True, True), "SLAB": (True, True, False), "POLYMER": (True, False, False),
            "MOLECULE": (False, False, False)}  # fmt: skip
_ENERGY = re.compile(r"#\s*total energy\s*=\s*(\S+)\s*(\S*)", re.IGNORECASE)


def read(path: Path) -> Iterator[Entry]:
    """The one structure of an XSF file.

    Raises:
        FileError: not an XSF file.
    """
    lines = list(text_lines(path))
    try:
        yield _parse(lines)
    except DataError as error:
        yield BadFrame(error)


def _parse(lines: list[str]) -> Atoms:
    energy = _energy(lines)
    body = [line.split("#")[0].strip() for line in lines]
    body = [line for line in body if line]
    if any(line.startswith("ANIMSTEPS") for line in body):
        raise FileError("an animated XSF file (ANIMSTEPS) holds no labels: convert its frames to single XSF files")
    words = [line.split()[0].upper() for line in body]
    if "ATOMS" in words:
        return _with_labels(_atom_rows(body[words.index("ATOMS") + 1 :], None), np.zeros((3, 3)), (False,) * 3, energy)
    if "PRIMVEC" not in words or "PRIMCOORD" not in words:
        raise FileError("neither ATOMS nor PRIMVEC and PRIMCOORD: not an XSF structure, or truncated")
    k, start = words.index("PRIMVEC"), words.index("PRIMCOORD")
    cell = np.array([floats(line.split()[:3], "PRIMVEC") for line in body[k + 1 : k + 4] if len(line.split()) >= 3])
    if cell.shape != (3, 3) or start + 1 >= len(body):
        raise DataError("PRIMVEC has not three vectors, or PRIMCOORD no atoms: truncated")
    count = body[start + 1].split()[0]
    if not re.fullmatch(r"\d{1,15}", count):
        raise DataError(f"the number of atoms after PRIMCOORD is {count!r}")
    pbc = next((PERIODIC[w] for w in words if w in PERIODIC), (True, True, True))
    return _with_labels(_atom_rows(body[start + 2 :], int(count)), cell, pbc, energy)


def _energy(lines: list[str]) -> float | None:
    for line in lines:
        if found := _ENERGY.match(line.strip()):
            value, unit = found.groups()
            if unit not in ("", "eV"):
                raise DataError(f"the total energy is in {unit!r}: aenet's XSF files are in eV; rewrite the header")
            return float(floats([value], "total energy")[0])
    return None


def _atom_rows(lines: list[str], count: int | None) -> tuple[list[int], np.ndarray]:
    """Atomic numbers and the numeric columns [N, 3 or 6]."""
    rows = lines if count is None else lines[:count]
    if count is None:
        rows = [line for line in rows if not line.startswith(("BEGIN_", "END_"))]
    elif len(rows) < count:
        raise DataError(f"{count} atoms announced, {len(rows)} found: truncated, or a wrong number of atoms")
    if not rows:
        raise DataError("the frame has no atoms")
    numbers, columns = [], []
    for k, row in enumerate(rows):
        symbol, *rest = row.split()
        number = int(symbol) if symbol.isdecimal() else atomic_numbers.get(symbol.capitalize(), 0)
        if number == 0:
            raise DataError(f"atom {k}: unknown element {symbol!r}")
        if len(rest) not in (3, 6):
            raise DataError(f"atom {k}: 3 coordinates (and 3 forces) expected, found {len(rest)} numbers")
        numbers.append(number)
        columns.append(floats(rest, f"atom {k}"))
    if len({len(c) for c in columns}) > 1:
        raise DataError("some atoms have forces and others have none")
    return numbers, np.array(columns)


def _with_labels(
    rows: tuple[list[int], np.ndarray], cell: np.ndarray, pbc: tuple[bool, ...], energy: float | None
) -> Atoms:
    numbers, columns = rows
    if max(numbers) > 118:
        raise DataError(f"unknown element: atomic number {max(numbers)}")
    atoms = Atoms(numbers, positions=columns[:, :3], cell=cell, pbc=pbc)
    return attach(atoms, energy, columns[:, 3:] if columns.shape[1] == 6 else None, None)


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write one structure; raises DataError for a periodicity that XSF cannot say."""
    (atoms,) = frames
    energy, forces, _ = labels_of(atoms)
    lines = [] if energy is None else [f"# total energy = {energy!r} eV", ""]
    columns = atoms.positions if forces is None else np.hstack([atoms.positions, forces])
    rows = [
        f"{symbol:2s} " + " ".join(f"{x!r}" for x in row)
        for symbol, row in zip(atoms.get_chemical_symbols(), columns.tolist(), strict=True)
    ]
    if not atoms.pbc.any() and atoms.cell.rank == 0:
        lines += ["ATOMS", *rows]
    else:
        kind = next((name for name, pbc in PERIODIC.items() if list(pbc) == atoms.pbc.tolist()), None)
        if kind is None:
            raise DataError(f"XSF cannot hold the periodicity {atoms.pbc.tolist()}: turn the cell so that c is free")
        vectors = [" ".join(f"{x!r}" for x in row) for row in atoms.cell.array.tolist()]
        lines += [kind, "PRIMVEC", *vectors, "PRIMCOORD", f"{len(atoms)} 1", *rows]
    path.write_text("\n".join([*lines, ""]))
    return 1
