"""Some molecules turn about their centres, far or a little."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from rutile.search.molecules import apart_of, joined, randomly_turned, turned
from rutile.search.operators.operator import Breed, Operator

SMALL = 0.5
"""Standard deviation of each component of the small rotations (rad)."""


def turn(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """One to half of them."""
    del breed
    molecules = apart_of(parents[0])
    many = int(rng.integers(1, max(1, len(molecules) // 2), endpoint=True))
    far = rng.random() < 0.5
    for k in rng.choice(len(molecules), many, replace=False):
        small = Rotation.from_rotvec(rng.normal(scale=SMALL, size=3)).as_matrix()
        molecules[k] = randomly_turned(molecules[k], rng) if far else turned(molecules[k], small)
    return joined(molecules, parents[0].cell.array if parents[0].pbc.all() else None)


OPERATOR = Operator("turn", 1, turn)
