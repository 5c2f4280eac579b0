"""Crystals that repeat a smaller cell: low structures of large cells often have such translations.

As in A. O. Lyakhov, A. R. Oganov and M. Valle, Comput. Phys. Commun. 181, 1623 (2010), doi:10.1016/j.cpc.2010.06.007.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import make_supercell

TRIES = 4
"""Supercells of which the most compact is taken."""


def parts_of(units: int, rng: np.random.Generator) -> int:
    """How many smaller cells a cell of so many formula units repeats: a random divisor above 1, where there is one."""
    divisors = [m for m in range(2, units + 1) if units % m == 0]
    return int(rng.choice(divisors)) if divisors else 1


def repeated(atoms: Atoms, many: int, rng: np.random.Generator) -> Atoms:
    """A supercell of so many cells, one of all there are that is rather compact."""
    choices = [hermite(many, rng) for _ in range(TRIES)]
    longest = [np.linalg.norm(_reduced(h @ atoms.cell.array), axis=1).max() for h in choices]
    out: Atoms = make_supercell(atoms, choices[int(np.argmin(longest))])
    return out


def hermite(size: int, rng: np.random.Generator) -> np.ndarray:
    """A random matrix [3, 3] of integers with this determinant, in Hermite's normal form: one for each supercell."""
    a = _divisor(size, rng)
    b = _divisor(size // a, rng)
    c = size // (a * b)
    out = np.diag([a, b, c])
    out[1, 0], out[2, 0], out[2, 1] = rng.integers(a), rng.integers(a), rng.integers(b)
    return out


def _divisor(size: int, rng: np.random.Generator) -> int:
    return int(rng.choice([m for m in range(1, size + 1) if size % m == 0]))


def _reduced(cell: np.ndarray) -> np.ndarray:
    """Shorter vectors of the same lattice."""
    from ase.geometry import minkowski_reduce

    return np.asarray(minkowski_reduce(cell)[0])
