"""Cut and splice on a slab: atoms on one side of a plane along the normal from one parent, the rest from the other.

Source: D. M. Deaven and K. M. Ho, Phys. Rev. Lett. 75, 288 (1995), doi:10.1103/PhysRevLett.75.288; on surfaces
L. B. Vilhelmsen and B. Hammer, J. Chem. Phys. 141, 044711 (2014), doi:10.1063/1.4886337. The second parent may come in
any place that the symmetry of the slab makes equal.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.on_slab import placed, put_back
from rutile.search.operators.operator import Breed, Operator

LEAST = 0.2
"""Each parent gives at least this part of the atoms."""


def splice(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """The slabs are those of the first parent; the composition stays."""
    one, other = (placed(p) for p in parents)
    n = len(one)
    least = max(1, round(LEAST * n))
    if n < 2 * least:
        raise Refused("too few atoms to cut")
    other = moved(other, breed, rng)
    start = int(rng.integers(n))
    middle = one.positions[start, :2].copy()
    cell = one.cell.array[:2, :2]
    angle = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(angle), np.sin(angle)])
    sides = []
    for a in (one, other):
        parts = (a.positions[:, :2] - middle) @ np.linalg.inv(cell)
        a.positions[:, :2] = middle + (parts - np.round(parts)) @ cell
        sides.append((a.positions[:, :2] - middle) @ normal)
    upper = np.argsort(-sides[0])[: rng.integers(least, n - least, endpoint=True)]
    wanted = Counter(one.numbers.tolist()) - Counter(one.numbers[upper].tolist())
    lower = []
    for k in np.argsort(sides[1]):
        z = int(other.numbers[k])
        if wanted[z] > 0:
            wanted[z] -= 1
            lower.append(int(k))
    return put_back(parents[0], one[upper] + other[lower])


def moved(atoms: Atoms, breed: Breed, rng: np.random.Generator) -> Atoms:
    """Atoms where a random operation of the slab's symmetry takes them."""
    group = breed.plane
    if group is None:
        return atoms
    k = int(rng.integers(len(group.rotations)))
    x = atoms.positions @ np.linalg.inv(atoms.cell.array)
    x = x @ group.rotations[k].T + group.translations[k]
    return Atoms(atoms.numbers, scaled_positions=x, cell=atoms.cell, pbc=atoms.pbc)


OPERATOR = Operator("heredity", 2, splice)
