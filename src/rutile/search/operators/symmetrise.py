"""A cluster gets a random point group: one wedge of it, and its images.

In the spirit of M. T. Oakley, R. L. Johnston and D. J. Wales, Phys. Chem. Chem. Phys. 15, 3965 (2013),
doi:10.1039/c3cp44332a: low minima are often symmetric, and a step that restores symmetry finds them sooner.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.rotation import turned
from rutile.search.point_groups import orbit, random_point_group

NEAR = 0.35
"""Atoms nearer than this times the distance of neighbours to what an operation leaves in place are put there."""


def symmetrise(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Atoms in random order, each with all its images, as long as the composition has room for whole orbits."""
    child = parents[0]
    group = random_point_group(rng)
    x = turned(child.positions, rng)
    if rng.random() < 0.5:  # an axis through an atom, as parents that are nearly symmetric have it
        x = _onto_axis(x, int(rng.integers(len(x))))
    left = {int(z): int(n) for z, n in zip(*np.unique(child.numbers, return_counts=True), strict=True)}
    places: list[np.ndarray] = []
    numbers: list[int] = []
    for k in rng.permutation(len(child)):
        z = int(child.numbers[k])
        site = orbit(group, _still(group, x[k], NEAR * breed.distance))
        if not left[z] or len(site) > left[z]:
            continue
        if places and cKDTree(np.concatenate(places)).query(site)[0].min() < 0.5 * breed.distance:
            continue
        places.append(site)
        numbers += [z] * len(site)
        left[z] -= len(site)
    if any(left.values()):
        raise Refused("orbits do not add up")
    return Atoms(numbers, positions=np.concatenate(places))


def _onto_axis(x: np.ndarray, k: int) -> np.ndarray:
    """Turned so that atom k lies on z."""
    to = x[k] / max(float(np.linalg.norm(x[k])), 1e-9)
    other = np.eye(3)[np.abs(to).argmin()]
    u = np.cross(to, other)
    u /= np.linalg.norm(u)
    return np.asarray(x @ np.array([u, np.cross(to, u), to]).T)


def _still(group: np.ndarray, x: np.ndarray, near: float) -> np.ndarray:
    """The mean of a place and of its images that are near to it: on the axis or plane that it nearly lies on."""
    images = group @ x
    return np.asarray(images[np.linalg.norm(images - x, axis=1) < 2 * near].mean(0))


OPERATOR = Operator("symmetrise", 1, symmetrise)
