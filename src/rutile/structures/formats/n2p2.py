"""n2p2 (RuNNer) `input.data`: Bohr and Hartree by convention; converted to Angstrom and eV here.

    begin
    comment any text
    lattice ax ay az                                (three lines, or none without periodicity)
    atom x y z Symbol charge n fx fy fz             (n is unused)
    energy E
    charge Q
    end

Every atom line must hold forces and every frame an energy, so frames without them are refused on writing: a zero in
their place would be trained on. Source: https://compphysvienna.github.io/n2p2/topics/cfg_file.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_dict_to_str, key_val_str_to_dict

from rutile.core.errors import DataError, FileError
from rutile.core.units import BOHR, HARTREE
from rutile.structures.formats.common import BadFrame, Entry, attach, floats, labels_of, text_lines

KEYWORDS = ("comment", "lattice", "atom", "energy", "charge")


def read(path: Path) -> Iterator[Entry]:
    """Frames of an `input.data` file, one at a time.

    Raises:
        FileError: text outside of begin ... end, or a last frame without end.
    """
    block: list[tuple[int, str]] | None = None
    for number, line in enumerate(text_lines(path), 1):
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if block is None:
            if word == "begin":
                block = []
            elif word:
                raise FileError(f"line {number}: 'begin' expected, found {word[:30]!r}: not an n2p2 data file")
        elif word == "end":
            try:
                yield _parse(block)
            except DataError as error:
                yield BadFrame(error)
            block = None
        elif word == "begin":
            raise FileError(f"line {number}: 'begin' inside a frame: the frame before has no 'end'")
        elif word:
            block.append((number, line))
    if block is not None:
        raise FileError("the file ends in the middle of a frame (no 'end'): truncated")


def _parse(block: list[tuple[int, str]]) -> Atoms:
    found: dict[str, list[list[str]]] = {word: [] for word in KEYWORDS}
    for number, line in block:
        word, *rest = line.split()
        if word not in found:
            raise DataError(f"line {number}: unknown keyword {word[:30]!r} (known: {', '.join(KEYWORDS)})")
        found[word].append(line.split(maxsplit=1)[1:] if word == "comment" else rest)
    rows = found["atom"]
    if not rows:
        raise DataError("the frame has no atoms")
    if any(len(row) != 9 for row in rows):
        k = next(k for k, row in enumerate(rows) if len(row) != 9)
        raise DataError(f"atom {k}: 9 words expected (x y z symbol charge n fx fy fz), found {len(rows[k])}")
    symbols = [row[3].capitalize() for row in rows]
    for k, symbol in enumerate(symbols):
        if atomic_numbers.get(symbol, 0) == 0:
            raise DataError(f"atom {k}: unknown element {rows[k][3]!r}")
    table = np.array([floats([*row[:3], row[4], *row[6:]], f"atom {k}") for k, row in enumerate(rows)])
    if [len(row) for row in found["lattice"]] not in ([], [3, 3, 3]):
        raise DataError(f"3 lattice lines of 3 numbers expected, found {found['lattice']}")
    cell = np.array([floats(row, "lattice") for row in found["lattice"]])
    periodic = len(cell) == 3
    atoms = Atoms(
        symbols,
        positions=table[:, :3] * BOHR,
        cell=cell * BOHR if periodic else None,
        pbc=periodic,
        charges=table[:, 3],
    )
    for words in found["comment"]:
        atoms.info |= _comment(words)
    if charge := _one(found["charge"], "charge"):
        atoms.info["charge"] = charge
    energy = _one(found["energy"], "energy")
    return attach(atoms, None if energy is None else energy * HARTREE, table[:, 4:] * (HARTREE / BOHR), None)


def _one(lines: list[list[str]], what: str) -> float | None:
    if not lines:
        return None
    if len(lines) > 1 or len(lines[0]) != 1:
        raise DataError(f"one {what} line with one number expected, found {lines[:3]}")
    return float(floats(lines[0], what)[0])


def _comment(words: list[str]) -> dict[str, str]:
    """A comment; what this writer put there as key=value pairs comes back as such."""
    text = words[0].strip() if words else ""
    if text.startswith("rutile "):
        pairs = key_val_str_to_dict(text.removeprefix("rutile "))
        return {k: v if isinstance(v, str) else str(v) for k, v in pairs.items()}
    return {"comment": text} if text else {}


def write(path: Path, frames: Iterable[Atoms]) -> int:
    """Write frames in Bohr and Hartree.

    Raises:
        DataError: a frame without energy or forces, or with mixed periodicity.
    """
    count = 0
    with path.open("w") as handle:
        for atoms in frames:
            handle.write(_format(atoms, count))
            count += 1
    return count


def _format(atoms: Atoms, number: int) -> str:
    energy, forces, _ = labels_of(atoms)
    if energy is None or forces is None:
        missing = "energy" if energy is None else "forces"
        raise DataError(f"frame {number} has no {missing}, and an n2p2 file cannot leave them out")
    if atoms.pbc.any() and not atoms.pbc.all():
        raise DataError(f"frame {number}: n2p2 cannot hold the periodicity {atoms.pbc.tolist()} (all or none)")
    texts = {k: v for k, v in atoms.info.items() if isinstance(v, str) and k != "comment"}
    lines = ["begin"]
    if texts:
        lines.append("comment rutile " + key_val_dict_to_str(texts))
    if "comment" in atoms.info:
        lines.append("comment " + " ".join(str(atoms.info["comment"]).split()))
    if atoms.pbc.all():
        lines += ["lattice " + " ".join(map(repr, row)) for row in (atoms.cell.array / BOHR).tolist()]
    charges = atoms.get_initial_charges().tolist()
    rows = np.hstack([atoms.positions / BOHR, forces * (BOHR / HARTREE)]).tolist()
    for symbol, q, (x, y, z, fx, fy, fz) in zip(atoms.get_chemical_symbols(), charges, rows, strict=True):
        lines.append(f"atom {x!r} {y!r} {z!r} {symbol} {q!r} 0.0 {fx!r} {fy!r} {fz!r}")
    total = float(atoms.info.get("charge", sum(charges)))
    lines += [f"energy {energy / HARTREE!r}", f"charge {total!r}", "end", ""]
    return "\n".join(lines)
