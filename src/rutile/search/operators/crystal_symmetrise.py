"""A crystal that nearly has more symmetry gets it; or it is changed within its symmetry.

The space group of a parent is looked for with a random, wide tolerance. Half of the time the child is the refined
crystal; else cell and free coordinates of its sites are changed at random and the symmetry stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import spglib
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator

TOLERANCE = (0.02, 0.3)
"""In units of the distance of neighbours."""
CHANGED = 0.1
"""Standard deviation of the coordinates in units of the distance of neighbours."""
STRAINED = 0.08
"""Standard deviation of the strain."""


def symmetrise(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """See the module."""
    parent = parents[0]
    cell = (parent.cell.array, parent.get_scaled_positions(), parent.numbers)
    wide = breed.distance * TOLERANCE[0] * (TOLERANCE[1] / TOLERANCE[0]) ** rng.random()
    found: Any = spglib.get_symmetry(cell, symprec=wide)
    if found is None or len(found["rotations"]) < 2:
        raise Refused("no symmetry")
    turns, shifts = found["rotations"], found["translations"]
    x, metric = cell[1], parent.cell.array @ parent.cell.array.T
    if rng.random() < 0.5:
        x = x + rng.normal(scale=CHANGED * breed.distance, size=x.shape) @ np.linalg.inv(parent.cell.array)
        e = np.eye(3) + rng.normal(scale=STRAINED, size=(3, 3))
        changed = parent.cell.array @ e
        metric = changed @ changed.T
    metric = np.einsum("mki,kl,mlj->ij", turns, metric, turns) / len(turns)
    moved = np.zeros_like(x)
    for w, t in zip(turns, shifts, strict=True):
        apart = (cell[1] @ w.T + t)[:, None] - cell[1][None]
        image = np.abs(apart - np.round(apart)).max(2).argmin(1)  # atom k goes to image[k]
        to = x @ w.T + t
        moved[image] += to - cell[1][image] - np.round(to - cell[1][image])
    return Atoms(
        parent.numbers, scaled_positions=cell[1] + moved / len(turns), cell=np.linalg.cholesky(metric), pbc=True
    )


OPERATOR = Operator("symmetrise", 1, symmetrise)
