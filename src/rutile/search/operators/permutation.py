"""Atoms of different elements change places."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator


def permute(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """One to a quarter of the possible pairs."""
    del breed
    child: Atoms = parents[0].copy()
    kinds, counts = np.unique(child.numbers, return_counts=True)
    if len(kinds) < 2:
        raise Refused("one element only")
    most = max(1, int(np.sort(counts)[:-1].sum()) // 4)
    for _ in range(int(rng.integers(1, most, endpoint=True))):
        a = int(rng.integers(len(child)))
        b = int(rng.choice(np.flatnonzero(child.numbers != child.numbers[a])))
        child.numbers[[a, b]] = child.numbers[[b, a]]
    return child


OPERATOR = Operator("permutation", 1, permute)
