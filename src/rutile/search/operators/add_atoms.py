"""Variable composition: atoms come into the largest holes, as many as it takes to an allowed composition nearby."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.crystal_heredity import nearest_of
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.sizes import resized

POINTS = 40
"""Random places of which the one with most room is taken."""


def add(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """One by one, in random order; the cell gets the volume that all need."""
    allowed, parent = breed.mixture, parents[0]
    counts = allowed.counts(parent.numbers)
    wanted = allowed.near(counts, 1, rng)
    if wanted is None:
        raise Refused("no larger composition")
    places, cell = parent.get_scaled_positions(), parent.cell.array
    coming = rng.permutation(np.repeat(allowed.elements, wanted - counts))
    for _ in coming:
        tried = rng.random((POINTS, 3))
        places = np.vstack([places, tried[nearest_of(tried, places, cell, own=False).argmax()]])
    child = Atoms([*parent.numbers, *coming], scaled_positions=places, cell=cell, pbc=True)
    return resized(child, parent.numbers)


OPERATOR = Operator("add", 1, add)
