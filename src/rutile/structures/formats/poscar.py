"""VASP's POSCAR and CONTCAR: one crystal in a file, no labels.

    comment
    1.0                       scale (negative: the volume of the cell)
    ax ay az                  three rows (Angstrom)
    Ti O                      elements (VASP 5; without this line, VASP 4, the comment must name them)
    24 48                     atoms of each
    Selective dynamics        optional
    Direct                    or Cartesian
    x y z

Source: https://www.vasp.at/wiki/POSCAR.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from rutile.core.elements import formula
from rutile.core.errors import DataError
from rutile.structures.formats.common import BadFrame, Entry, floats, text_lines


def read(path: Path) -> Iterator[Entry]:
    """The one structure of a file.

    Raises:
        FileError: not text.
    """
    lines = [line.split("!")[0] for line in text_lines(path)]
    try:
        with np.errstate(all="ignore"):  # absurd numbers give infinities, which the checks of a frame name
            atoms = _parse(lines)
    except DataError as error:
        yield BadFrame(error)
        return
    yield atoms


def _parse(lines: list[str]) -> Atoms:
    if len(lines) < 8:
        raise DataError(f"a POSCAR has at least 8 lines, this file has {len(lines)}: not a POSCAR, or truncated")
    scale = floats(lines[1].split(), "scale")
    cell = np.array([_three(line, "cell vector") for line in lines[2:5]])
    if scale.shape not in ((1,), (3,)):
        raise DataError(f"line 2 should be a scale (1 or 3 numbers), but is {lines[1].strip()[:40]!r}")
    if scale[0] < 0:
        volume = abs(np.linalg.det(cell))
        if volume == 0:
            raise DataError("the cell has no volume to be scaled")
        scale = np.cbrt(-scale / volume)
    symbols, at = _elements(lines)
    mode = lines[at].strip().lower() if at < len(lines) else ""
    if mode.startswith("s"):
        at += 1
        mode = lines[at].strip().lower() if at < len(lines) else ""
    if not mode:
        raise DataError("no line 'Direct' or 'Cartesian': truncated?")
    rows = lines[at + 1 : at + 1 + len(symbols)]
    if len(rows) < len(symbols):
        raise DataError(f"{len(symbols)} atoms announced, {len(rows)} found: truncated, or a wrong number of atoms")
    points = np.array([_three(row, f"atom {k}") for k, row in enumerate(rows)])
    cell = cell * scale
    positions = points * scale if mode[0] in "ck" else points @ cell
    atoms = Atoms(symbols, positions=positions, cell=cell, pbc=True)
    if comment := lines[0].strip():
        atoms.info["comment"] = comment
    return atoms


def _three(line: str, what: str) -> np.ndarray:
    words = line.split()[:3]
    if len(words) < 3:
        raise DataError(f"{what}: three numbers expected, found {line.strip()[:40]!r}")
    return floats(words, what)


def _elements(lines: list[str]) -> tuple[list[str], int]:
    """One symbol for each atom, and the number of the line behind the counts."""
    at = 5
    words = lines[at].split()
    if words and words[0].isdecimal():
        names = [w for w in lines[0].split() if w in atomic_numbers][: len(words)]
        if len(names) < len(words):
            raise DataError("no line of element symbols (VASP 4): add one above the numbers of atoms")
    else:
        names = [re.split(r"[_/]", w)[0] for w in words]
        at += 1
    counts = lines[at].split() if at < len(lines) else []
    if not counts or not all(re.fullmatch(r"\d{1,15}", c) for c in counts) or len(counts) != len(names):
        raise DataError(f"elements {names} but numbers of atoms {counts[:10]}")
    for name in names:
        if atomic_numbers.get(name, 0) == 0:
            raise DataError(f"unknown element {name!r}")
    total = sum(map(int, counts))
    if total == 0:
        raise DataError("the frame has no atoms")
    if total > len(lines):
        raise DataError(f"{total} atoms announced, but the file has {len(lines)} lines: truncated, or a wrong number")
    return [name for name, n in zip(names, counts, strict=True) for _ in range(int(n))], at + 1


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write one structure, Cartesian, with all digits; atoms keep their order.

    Raises:
        DataError: the structure is not periodic in three directions.
    """
    (atoms,) = frames
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise DataError("POSCAR holds crystals only, and this structure is not periodic in 3 directions")
    runs = [(symbol, len(list(group))) for symbol, group in groupby(atoms.get_chemical_symbols())]
    comment = " ".join(str(atoms.info.get("comment", atoms.info.get("config_type", ""))).split())
    lines = [comment or formula(atoms.numbers), "1.0"]
    lines += [" ".join(map(repr, row)) for row in atoms.cell.array.tolist()]
    lines += [" ".join(s for s, _ in runs), " ".join(str(n) for _, n in runs), "Cartesian"]
    lines += [" ".join(map(repr, row)) for row in atoms.positions.tolist()]
    path.write_text("\n".join([*lines, ""]))
    return 1
