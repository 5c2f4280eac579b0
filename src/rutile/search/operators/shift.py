"""The upper slab of an interface slips along the lower one and comes to rest on what lies below it."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.search.individual import ABOVE, PART
from rutile.search.operators.operator import Breed, Operator
from rutile.search.slabs import fall

FAR = 20.0
"""Height (Angstrom) from which it comes down."""


def shift(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """By a random vector of the plane."""
    del breed
    child: Atoms = parents[0].copy()
    above = child.arrays[PART] == ABOVE
    child.positions[above] += np.append(rng.random(2) @ child.cell.array[:2, :2], 0.0)
    return lowered(child)


def lowered(atoms: Atoms) -> Atoms:
    """The same with its upper slab, moved as a whole, in touch with what lies below."""
    above = atoms.arrays[PART] == ABOVE
    atoms.positions[above, 2] += FAR
    depth = fall(atoms[above], atoms[~above])
    atoms.positions[above, 2] -= depth if np.isfinite(depth) else FAR
    return atoms


OPERATOR = Operator("shift", 1, shift)
