"""Variable composition: random atoms leave, as many as it takes to an allowed composition nearby."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.sizes import resized


def remove(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """The cell shrinks to the volume that the others need."""
    allowed, child = breed.mixture, parents[0].copy()
    before = child.numbers.copy()
    counts = allowed.counts(before)
    wanted = allowed.near(counts, -1, rng)
    if wanted is None:
        raise Refused("no smaller composition")
    for z, many in zip(allowed.elements, counts - wanted, strict=True):
        del child[rng.choice(np.flatnonzero(child.numbers == z), many, replace=False)]
    return resized(child, before)


OPERATOR = Operator("remove", 1, remove)
