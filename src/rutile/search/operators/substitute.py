"""Variable composition: some atoms become other elements, as many as it takes to an allowed composition nearby."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.sizes import enlarged, resized


def substitute(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Random atoms of the parent, or of a supercell of it; the cell gets the volume that they need."""
    allowed = breed.mixture
    child = enlarged(parents[0], allowed.most, rng)
    before = child.numbers.copy()
    counts = allowed.counts(before)
    wanted = allowed.near(counts, 0, rng)
    if wanted is None:
        raise Refused("no other composition with as many atoms")
    change = wanted - counts
    leaving = [
        rng.choice(np.flatnonzero(before == allowed.elements[k]), -change[k], False) for k in np.flatnonzero(change < 0)
    ]
    coming = np.repeat(allowed.elements, np.maximum(change, 0))
    child.numbers[np.concatenate(leaving)] = rng.permutation(coming)
    return resized(child, before)


OPERATOR = Operator("substitute", 1, substitute)
