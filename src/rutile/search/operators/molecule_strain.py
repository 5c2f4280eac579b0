"""The cell of a molecular crystal is strained at random, its volume stays; molecules follow as they are."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.linalg import expm

from rutile.search.molecules import apart_of, centres, joined
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.strain import SIZE


def strain(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """By exp(e) with a symmetric random e without trace."""
    del breed
    parent = parents[0]
    e = rng.normal(scale=rng.uniform(*SIZE), size=(3, 3))
    e = (e + e.T) / 2
    deform = expm(e - np.eye(3) * np.trace(e) / 3)
    molecules = apart_of(parent)
    for m, c in zip(molecules, centres(parent), strict=True):
        m.positions += c @ deform - c
    return joined(molecules, parent.cell.array @ deform)


OPERATOR = Operator("strain", 1, strain)
