"""Some molecules move as they are, without turning: far, or many a little."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.search.molecules import apart_of, joined
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.rattle import PART, SIZE


def move(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """As `rattle` does it with atoms."""
    molecules = apart_of(parents[0])
    size = breed.distance * SIZE[0] * (SIZE[1] / SIZE[0]) ** rng.random()
    moved = rng.random(len(molecules)) < rng.uniform(*PART)
    moved[rng.integers(len(molecules))] = True
    for k in np.flatnonzero(moved):
        molecules[k].positions += rng.normal(scale=size, size=3)
    return joined(molecules, parents[0].cell.array if parents[0].pbc.all() else None)


OPERATOR = Operator("rattle", 1, move)
