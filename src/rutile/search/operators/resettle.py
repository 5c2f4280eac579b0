"""The atoms on a slab with the fewest neighbours among those that are searched for fall onto other places.

The place is the one with most neighbours of some random ones, as in `relocate`, so that islands close their gaps.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.geometry import get_distances

from rutile.build.recipe import Refused
from rutile.search.individual import PART, PLACED
from rutile.search.operators.on_slab import put_back
from rutile.search.operators.operator import Breed, Operator
from rutile.search.slabs import fall

TOUCH = 1.25
"""Atoms nearer than this times the distance of neighbours touch."""
MOST = 0.3
"""At most this part of the atoms moves."""
PLACES = 12
"""Random places that are looked at."""


def resettle(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """One after another; ties are broken at random."""
    parent = parents[0]
    mine = parent.arrays[PART] == PLACED
    child = parent[mine]
    n, reach = len(child), TOUCH * breed.distance
    if n < 2:
        raise Refused("one atom only")
    d = _distances(child.positions, child.positions, parent)
    loose = np.argsort((d < reach).sum(1) + rng.uniform(0, 2, n))[
        : rng.integers(1, max(1, int(MOST * n)), endpoint=True)
    ]
    for k in loose:
        rest = np.delete(np.arange(n), k)
        floor = parent[~mine] + child[rest]
        tries = [_landed(child[[k]], floor, child.positions[rest], breed.distance, rng) for _ in range(PLACES)]
        landed = np.array([x for x in tries if x is not None])
        if not len(landed):
            raise Refused("no place to settle")
        touching = (_distances(landed, child.positions[rest], parent) < reach).sum(1)
        child.positions[k] = landed[np.argmax(touching + rng.uniform(0, 1.5, len(landed)))]
    return put_back(parent, child)


def _landed(
    atom: Atoms, floor: Atoms, others: np.ndarray, distance: float, rng: np.random.Generator
) -> np.ndarray | None:
    """Where an atom lands that falls beside one of the others, [3]; None: nowhere."""
    angle, far = rng.uniform(0, 2 * np.pi), distance * rng.uniform(0.8, 1.2)
    beside = others[rng.integers(len(others))] + [far * np.cos(angle), far * np.sin(angle), 0.0]
    one = Atoms(atom.numbers, positions=[[beside[0], beside[1], floor.positions[:, 2].max() + 2 * distance]])
    depth = fall(one, floor)
    return one.positions[0] - [0, 0, depth] if np.isfinite(depth) else None


def _distances(one: np.ndarray, other: np.ndarray, slab: Atoms) -> np.ndarray:
    """Of all pairs, with images in the plane, [N, M] (Angstrom)."""
    return np.asarray(get_distances(one, other, cell=slab.cell, pbc=[True, True, False])[1])


OPERATOR = Operator("resettle", 1, resettle)
