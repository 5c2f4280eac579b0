"""The cell is strained at random, its volume stays; atoms follow and are shaken a little."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.linalg import expm

from rutile.search.operators.operator import Breed, Operator

SIZE = (0.05, 0.35)
"""Standard deviation of each strain is drawn between these."""
SHAKEN = 0.05
"""Standard deviation of the atoms' coordinates in units of the distance of neighbours."""


def strain(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """By exp(e) with a symmetric random e without trace."""
    child: Atoms = parents[0].copy()
    e = rng.normal(scale=rng.uniform(*SIZE), size=(3, 3))
    e = (e + e.T) / 2
    child.set_cell(child.cell.array @ expm(e - np.eye(3) * np.trace(e) / 3), scale_atoms=True)
    child.positions += rng.normal(scale=SHAKEN * breed.distance, size=(len(child), 3))
    return child


OPERATOR = Operator("strain", 1, strain)
