"""What lies on a slab turns as a whole about the normal and slips along the slab."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.search.operators.on_slab import gathered, placed, put_back
from rutile.search.operators.operator import Breed, Operator


def turn(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """By a random angle and vector."""
    del breed
    atoms = placed(parents[0])
    x = gathered(atoms, rng)
    angle = rng.uniform(0, 2 * np.pi)
    c, s = np.cos(angle), np.sin(angle)
    x[:, :2] = x[:, :2] @ np.array([[c, s], [-s, c]]) + rng.random(2) @ atoms.cell.array[:2, :2]
    return put_back(parents[0], Atoms(atoms.numbers, positions=x))


OPERATOR = Operator("turn", 1, turn)
