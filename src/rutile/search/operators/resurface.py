"""The loosest atom moves to the free place with the most neighbours, again and again, as long as it gains some.

The dynamic lattice search of X. Shao, L. Cheng and W. Cai, J. Comput. Chem. 25, 1693 (2004), doi:10.1002/jcc.20096,
with numbers of neighbours in place of energies, so that it serves every potential: a rough surface becomes a closed one
in a single relaxation.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.relocate import TOUCH, free_places, neighbours

MOVES = 2
"""Moves of an atom at most, on average."""


def resurface(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Ties are broken at random, so that a parent has many such children."""
    child: Atoms = parents[0].copy()
    reach, moved = TOUCH * breed.distance, False
    for _ in range(MOVES * len(child)):
        many = neighbours(child.positions, reach)
        k = int(np.argmin(many + rng.uniform(0, 0.9, len(child))))
        stays = np.delete(child.positions, k, axis=0)
        places = free_places(stays, breed.distance)
        if not len(places):
            break
        touching = np.array([len(x) for x in cKDTree(stays).query_ball_point(places, reach)])
        best = int(np.argmax(touching + rng.uniform(0, 0.9, len(places))))
        if touching[best] <= many[k]:
            break
        child.positions[k], moved = places[best], True
    if not moved:
        raise Refused("no atom gains neighbours")
    return child


OPERATOR = Operator("resurface", 1, resurface)
