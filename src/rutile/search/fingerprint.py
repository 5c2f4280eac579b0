"""What a structure is like: distances of its pairs of elements, whatever cell, order of atoms or orientation it is in.

    f_AB(r) = 1/N sum over pairs of an A and a B of exp(-(r - d)^2 / 2 s^2) / d^2 (1 - (d/R)^2)^2

on a grid of r up to R, one piece for each pair of elements; in the spirit of A. R. Oganov and M. Valle, J. Chem. Phys.
130, 104504 (2009), doi:10.1063/1.3079326. It is the same for a supercell, and smooth in positions and cell.

Of structures on a slab only pairs count in which an atom is one of those that are searched for, or whose atoms belong
to two slabs; N is then the number of the former (at least 1). Of molecules only pairs of different ones count, or of a
molecule and its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms

from rutile.search.individual import MOLECULE, PART, PLACED
from rutile.search.molecules import between_molecules
from rutile.structures.fingerprint import pairs_within

REACH = 3.2
"""R in units of the usual distance of neighbours."""
WIDTH = 0.04
"""s in the same units."""
POINTS = 120
"""Of the grid."""


def fingerprint(atoms: Atoms, distance: float, elements: Sequence[int] = ()) -> np.ndarray:
    """The fingerprint, [pairs of elements x POINTS] (Angstrom^-2).

    Args:
        atoms: crystal, slab or cluster.
        distance: usual distance of neighbours (Angstrom); the same for all that shall be compared.
        elements: atomic numbers of all that shall be compared; default: those of the atoms.
    """
    reach, width = REACH * distance, WIDTH * distance
    i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    count = len(atoms)
    if PART in atoms.arrays:
        part = atoms.arrays[PART]
        counts = (part[i] != part[j]) | (part[i] == PLACED)
        i, j, d, count = i[counts], j[counts], d[counts], max(1, int((part == PLACED).sum()))
    if MOLECULE in atoms.arrays:
        counts = between_molecules(atoms, i, j, d)
        i, j, d = i[counts], j[counts], d[counts]
    weight = (1 - (d / reach) ** 2) ** 2 / d**2
    grid = np.linspace(0.4 * distance, reach, POINTS)
    z = atoms.numbers
    low, high = np.minimum(z[i], z[j]), np.maximum(z[i], z[j])
    out = []
    for a, b in combinations_with_replacement(np.unique([*z, *elements]), 2):
        mine = (low == a) & (high == b)
        bumps = np.exp(-0.5 * ((grid[:, None] - d[mine]) / width) ** 2)
        out.append(bumps @ weight[mine] / count)
    return np.concatenate(out)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two fingerprints relative to their length: 0 for the same, sqrt(2) for nothing in common."""
    size = np.sqrt((one @ one + other @ other) / 2)
    return float(np.linalg.norm(one - other) / size) if size > 0 else 0.0


class Marks:
    """Many fingerprints of one length, as the rows of an array that grows."""

    def __init__(self) -> None:
        self._rows, self._many = np.zeros((0, 0)), 0

    def __len__(self) -> int:
        return self._many

    def append(self, mark: np.ndarray) -> None:
        """One more."""
        if self._many == len(self._rows):
            more = np.zeros((max(64, 2 * self._many), len(mark)))
            more[: self._many] = self._rows[: self._many] if self._many else 0.0
            self._rows = more
        self._rows[self._many] = mark
        self._many += 1

    def __getitem__(self, which: int | slice) -> np.ndarray:
        """One of them, or several: [M, length]."""
        rows: np.ndarray = self._rows[: self._many][which]
        return rows


def apart_from(many: Sequence[np.ndarray] | np.ndarray, one: np.ndarray) -> np.ndarray:
    """Distances of one fingerprint to each of many of the same length, as `apart`: [M]."""
    if not len(many):
        return np.zeros(0)
    others = np.asarray(many)
    size = np.sqrt((np.einsum("ij,ij->i", others, others) + one @ one) / 2)
    away = others - one
    out: np.ndarray = np.sqrt(np.einsum("ij,ij->i", away, away)) / np.where(size > 0, size, 1.0)
    return out
