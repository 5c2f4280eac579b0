"""What all formats share: the entry that a reader yields, labels on ASE Atoms, guarded reading of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from rutile.core.errors import DataError, FileError, RutileError

MAX_LINE = 1 << 24
"""Longest line of text accepted (bytes); a longer one is not a text file of structures."""


@dataclass(frozen=True)
class BadFrame:
    """A frame that could not be read; the reader goes on behind it where it can."""

    problem: RutileError
    """What is wrong, without file and frame number."""


Entry = Atoms | BadFrame
"""What a reader yields for each frame, in order."""


def text_lines(path: Path) -> Iterator[str]:
    """Lines of a text file without their ends, one at a time.

    Raises:
        FileError: not text, or a line longer than any structure file has.
    """
    with path.open("rb") as handle:
        number = 0
        while line := handle.readline(MAX_LINE):
            yield decode(line, number)
            number += 1


def decode(line: bytes, number: int) -> str:
    """A line of a text file as a string without its end; `number` is 0-based and only for the message.

    Raises:
        FileError: binary data.
    """
    if len(line) >= MAX_LINE:
        raise FileError(f"line {number + 1} is longer than {MAX_LINE} bytes: this is not a text file of structures")
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise FileError(f"line {number + 1} is not text (byte {error.start} of the line): binary or damaged") from None
    if "\0" in text:
        raise FileError(f"line {number + 1} is not text (it holds a zero byte): binary or damaged")
    return text.rstrip("\r\n")


def floats(words: list[str], what: str) -> np.ndarray:
    """Words as float64.

    Raises:
        DataError: a word is not a number.
    """
    try:
        return np.array(words, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{what}: {error}") from None


def attach(atoms: Atoms, energy: float | None, forces: np.ndarray | None, stress: np.ndarray | None) -> Atoms:
    """Put labels (eV, eV/Angstrom, 3x3 eV/Angstrom^3) into ASE's calculator slot; returns the same atoms."""
    results: dict[str, Any] = {}
    if energy is not None:
        results["energy"] = float(energy)
    if forces is not None:
        results["forces"] = forces
    if stress is not None:
        results["stress"] = voigt(stress)
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def labels_of(atoms: Atoms) -> tuple[float | None, np.ndarray | None, np.ndarray | None]:
    """Energy, forces [N, 3] and stress [3, 3] of atoms to be written: REF_* first, then the calculator's."""
    results = atoms.calc.results if atoms.calc is not None else {}
    energy = atoms.info.get("REF_energy", results.get("energy"))
    forces = atoms.arrays.get("REF_forces", results.get("forces"))
    stress = atoms.info.get("REF_stress", results.get("stress"))
    return (
        None if energy is None else float(energy),
        None if forces is None else np.asarray(forces, dtype=np.float64),
        None if stress is None else full(np.asarray(stress, dtype=np.float64)),
    )


def voigt(stress: np.ndarray) -> np.ndarray:
    """[3, 3] -> (xx, yy, zz, yz, xz, xy), of the symmetric part."""
    s = (stress + stress.T) / 2
    return np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])


def full(stress: np.ndarray) -> np.ndarray:
    """Voigt (xx, yy, zz, yz, xz, xy), nine numbers or [3, 3] -> symmetric [3, 3].

    Raises:
        DataError: neither six nor nine numbers.
    """
    if stress.size == 6:
        xx, yy, zz, yz, xz, xy = stress.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    if stress.size == 9:
        matrix = stress.reshape(3, 3)
        return np.asarray((matrix + matrix.T) / 2)
    raise DataError(f"a stress has 6 (Voigt) or 9 numbers, not {stress.size}")
