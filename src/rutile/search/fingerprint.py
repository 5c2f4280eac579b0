"""What a structure is like: distances of its pairs of elements, whatever cell, order of atoms or orientation it is in.

    f_AB(r) = 1/N sum over pairs of an A and a B of exp(-(r - d)^2 / 2 s^2) / d^2 (1 - (d/R)^2)^2

on a grid of r up to R, one piece for each pair of elements; in the spirit of A. R. Oganov and M. Valle, J. Chem. Phys.
130, 104504 (2009), doi:10.1063/1.3079326. It is the same for a supercell, and smooth in positions and cell.

Of structures on a slab only pairs count in which an atom is one of those that are searched for, or whose atoms belong
to two slabs; N is then the number of the former (at least 1). Of molecules only pairs of different ones count, or of a
molecule and its image.
"""

from __future__ import annotations

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


def fingerprint(atoms: Atoms, distance: float) -> np.ndarray:
    """The fingerprint, [pairs of elements x POINTS] (Angstrom^-2).

    Args:
        atoms: crystal, slab or cluster.
        distance: usual distance of neighbours (Angstrom); the same for all that shall be compared.
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
    for a, b in combinations_with_replacement(np.unique(z), 2):
        mine = (low == a) & (high == b)
        bumps = np.exp(-0.5 * ((grid[:, None] - d[mine]) / width) ** 2)
        out.append(bumps @ weight[mine] / count)
    return np.concatenate(out)


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two fingerprints relative to their length: 0 for the same, sqrt(2) for nothing in common."""
    size = np.sqrt((one @ one + other @ other) / 2)
    return float(np.linalg.norm(one - other) / size) if size > 0 else 0.0
