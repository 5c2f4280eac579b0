"""Molecules of different kinds change places."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.molecules import apart_of, joined
from rutile.search.operators.operator import Breed, Operator


def swap(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """One pair or two."""
    del breed
    molecules = apart_of(parents[0])
    kinds = [tuple(m.numbers.tolist()) for m in molecules]
    if len(set(kinds)) < 2:
        raise Refused("one kind only")
    for _ in range(int(rng.integers(1, 3))):
        a = int(rng.integers(len(molecules)))
        b = int(rng.choice([k for k, kind in enumerate(kinds) if kind != kinds[a]]))
        step = molecules[b].positions.mean(0) - molecules[a].positions.mean(0)
        molecules[a].positions += step
        molecules[b].positions -= step
    return joined(molecules, parents[0].cell.array if parents[0].pbc.all() else None)


OPERATOR = Operator("permutation", 1, swap)
