"""Atoms are shaken."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.search.operators.operator import Breed, Operator

SIZE = (0.1, 0.5)
"""Standard deviation of each coordinate, in units of the distance of neighbours, is drawn between these."""
PART = (0.2, 1.0)
"""Part of the atoms that is shaken is drawn between these."""


def rattle(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """A random part of the atoms by normal numbers of a random size; few atoms far, or many a little."""
    child: Atoms = parents[0].copy()
    part = rng.uniform(*PART)
    size = breed.distance * SIZE[0] * (SIZE[1] / SIZE[0]) ** rng.random()
    moved = rng.random(len(child)) < part
    moved[rng.integers(len(child))] = True
    child.positions[moved] += rng.normal(scale=size, size=(int(moved.sum()), 3))
    return child


OPERATOR = Operator("rattle", 1, rattle)
