"""Random supercells: of new crystals that repeat a smaller cell, and of parents that get new elements.

Low structures of large cells often repeat a smaller one: A. O. Lyakhov, A. R. Oganov and M. Valle, Comput. Phys.
Commun. 181, 1623 (2010), doi:10.1016/j.cpc.2010.06.007.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce

CHOICES = 8
"""Random supercells of which the most compact is taken."""


def parts_of(units: int, rng: np.random.Generator) -> int:
    """How many smaller cells a cell of so many formula units repeats: a random divisor above 1, where there is one."""
    divisors = [m for m in range(2, units + 1) if units % m == 0]
    return int(rng.choice(divisors)) if divisors else 1


def compact_supercell(atoms: Atoms, times: int, rng: np.random.Generator) -> Atoms:
    """A supercell of so many cells, the most compact of a few random ones."""
    matrices = [hermite(times, rng) for _ in range(CHOICES)]
    longest = [_lengths(matrix @ atoms.cell.array).max() for matrix in matrices]
    made: Atoms = make_supercell(atoms, matrices[int(np.argmin(longest))])
    return made


def hermite(times: int, rng: np.random.Generator) -> np.ndarray:
    """A random matrix of integers in Hermite's normal form with this determinant, each as likely, [3, 3].

    Each stands for another supercell, and there are no others.
    """
    divisors = [d for d in range(1, times + 1) if times % d == 0]
    diagonals = [(a, b, times // (a * b)) for a in divisors for b in divisors if times % (a * b) == 0]
    many = np.array([a * a * b for a, b, _ in diagonals], dtype=float)
    first, second, third = diagonals[rng.choice(len(diagonals), p=many / many.sum())]
    matrix = np.diag([first, second, third])
    matrix[1, 0], matrix[2, 0], matrix[2, 1] = rng.integers(first), rng.integers(first), rng.integers(second)
    return matrix


def _lengths(cell: np.ndarray) -> np.ndarray:
    """Lengths of the vectors of the reduced cell (Angstrom), [3]."""
    reduced, _ = minkowski_reduce(cell)
    return np.asarray(np.linalg.norm(reduced, axis=1))
