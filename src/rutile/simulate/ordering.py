"""Who lies where in an alloy: shells of a particle from the outside to the inside, and order of neighbours.

Warren and Cowley's parameter of shell m of neighbours is

    alpha^m_ij = 1 - p^m_ij / c_j,

with p^m_ij the part of j among the neighbours of i in that shell and c_j that among all atoms: 0 where the elements are
mixed at random, negative where i and j seek each other, positive where they avoid each other.

Source: J. M. Cowley, Phys. Rev. 77, 669 (1950), doi:10.1103/PhysRev.77.669. Letters of shapes: N atoms, E elements,
M shells of neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.structures.fingerprint import Pairs, pairs_within

BOUNDS = (0.0, 1.207, 1.573, 1.866)
"""Shells of neighbours in units of the bond length: half way between those of fcc (1, 1.41, 1.73, 2)."""
REACH = 8.0
"""Within which the bond length is looked for (Angstrom)."""
FEW = 11
"""Atoms with fewer neighbours of the first shell lie at the surface."""


@dataclass(frozen=True)
class Order:
    """What is counted in one structure; counts of several structures may be added."""

    shells: np.ndarray
    """Atoms by shell of the particle (outermost first) and element, [K, E]."""
    pairs: np.ndarray
    """Ordered pairs of neighbours by shell of neighbours and elements, [M, E, E]."""


def counted(atoms: Atoms, elements: np.ndarray) -> Order:
    """Counts of one structure.

    Args:
        atoms: a particle, or a crystal (which has no surface and one shell).
        elements: atomic numbers, [E].
    """
    pairs = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, REACH)
    bond = bond_length(len(atoms), pairs)
    i, j, d = pairs
    kind = np.searchsorted(elements, atoms.numbers)
    shell = peeled(len(atoms), (i, j, d), bond)
    of_shells = np.zeros((int(shell.max()) + 1, len(elements)))
    np.add.at(of_shells, (shell, kind), 1)
    counts = np.zeros((len(BOUNDS) - 1, len(elements), len(elements)))
    place = np.searchsorted(np.array(BOUNDS) * bond, d) - 1
    near = place < len(BOUNDS) - 1
    np.add.at(counts, (place[near], kind[i[near]], kind[j[near]]), 1)
    np.add.at(counts, (place[near], kind[j[near]], kind[i[near]]), 1)
    return Order(of_shells, counts)


def bond_length(n: int, pairs: Pairs) -> float:
    """Median over the atoms of the distance to their nearest neighbour (Angstrom)."""
    i, j, d = pairs
    nearest = np.full(n, np.inf)
    np.minimum.at(nearest, i, d)
    np.minimum.at(nearest, j, d)
    return float(np.median(nearest))


def peeled(n: int, pairs: Pairs, bond: float) -> np.ndarray:
    """Shell of each atom, [N]: 0 at the surface, 1 what would be there without these, and so on."""
    i, j, d = pairs
    near = d < BOUNDS[1] * bond
    i, j = i[near], j[near]
    out, left = np.full(n, -1), np.ones(n, dtype=bool)
    shell = 0
    while left.any():
        both = left[i] & left[j]
        neighbours = np.bincount(i[both], minlength=n) + np.bincount(j[both], minlength=n)
        outer = left & (neighbours < FEW)
        if not outer.any():
            outer = left
        out[outer] = shell
        left = left & ~outer
        shell += 1
    return out


def warren_cowley(pairs: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """alpha^m_ij, [M, E, E]; NaN where i has no neighbours in a shell.

    Args:
        pairs: counts of ordered pairs, [M, E, E].
        numbers: atoms of each element, [E].
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        p = pairs / pairs.sum(axis=2, keepdims=True)
        return np.asarray(1 - p / (numbers / numbers.sum()))
