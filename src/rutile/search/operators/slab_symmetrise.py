"""What lies on a slab gets a part of the symmetry of the slab: some of its atoms, and their images."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.random_crystal import orbit
from rutile.build.recipe import Refused
from rutile.search.operators.on_slab import placed, put_back
from rutile.search.operators.operator import Breed, Operator
from rutile.search.slabs import some_of

NEAR = 0.35
"""Atoms nearer than this times the distance of neighbours to what an operation leaves in place are put there."""


def symmetrise(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Atoms in random order, each with all its images, as long as the composition has room for whole orbits."""
    atoms = placed(parents[0])
    if breed.plane is None or len(breed.plane.rotations) < 2:
        raise Refused("no symmetry")
    group = some_of(breed.plane, rng)
    cell = atoms.cell.array
    x = atoms.positions @ np.linalg.inv(cell)
    left = {int(z): int(n) for z, n in zip(*np.unique(atoms.numbers, return_counts=True), strict=True)}
    places = np.zeros((0, 3))
    numbers: list[int] = []
    for k in rng.permutation(len(atoms)):
        z = int(atoms.numbers[k])
        images = x[k] @ group.rotations.transpose(0, 2, 1) + group.translations
        images = x[k] + (images - x[k] + 0.5) % 1.0 - 0.5
        near = np.linalg.norm((images - x[k]) @ cell, axis=1) < 2 * NEAR * breed.distance
        site = orbit(group, images[near].mean(0))
        apart = (site[:, None] - places[None] + 0.5) % 1.0 - 0.5
        far = np.linalg.norm(apart @ cell, axis=2).min(initial=np.inf) > 0.5 * breed.distance
        if left[z] < len(site) or not far:
            continue
        left[z] -= len(site)
        places, numbers = np.vstack([places, site]), numbers + [z] * len(site)
    if any(left.values()):
        raise Refused("orbits do not add up")
    return put_back(parents[0], Atoms(numbers, positions=places @ cell))


OPERATOR = Operator("symmetrise", 1, symmetrise)
