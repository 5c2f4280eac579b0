"""Variable composition: the sites of a parent get elements anew, with a part of the symmetry that the sites have.

Ordered structures on a lattice are decorations of a small supercell that keep some of its symmetry. A random supercell
is made, its symmetry is found as if all atoms were alike, a few of the operations are drawn, and the sites that they
carry into each other get the same element.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import spglib
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.sizes import resized
from rutile.search.supercells import compact_supercell

TOLERANCE = 0.08
"""Sites so near to a symmetric place (in units of the distance of neighbours) are there."""
MOST_OPERATIONS = 2
"""That are kept, besides what follows from them."""
TRIES = 20
"""Compositions that are tried on the sites."""


def decorate(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """A random supercell of the parent with an allowed composition of as many atoms, each as likely."""
    allowed = breed.mixture
    times = int(rng.integers(1, max(1, allowed.most // len(parents[0])), endpoint=True))
    child = compact_supercell(parents[0], times, rng)
    before = child.numbers.copy()
    fitting = allowed.allowed[(allowed.allowed.sum(1) == len(child)) & ((allowed.allowed > 0).sum(1) > 1)]
    if not len(fitting):
        raise Refused("no composition with as many atoms")
    orbits = _orbits(child, TOLERANCE * breed.distance, rng)
    for _ in range(TRIES):
        left = dict(zip(allowed.elements, fitting[rng.integers(len(fitting))].tolist(), strict=True))
        numbers = _filled(orbits, left, rng)
        if numbers is not None:
            child.numbers = numbers
            return resized(child, before)
    raise Refused("orbits do not add up")


def _orbits(atoms: Atoms, tolerance: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Sites that a few random operations of the bare sites carry into each other."""
    cell: Any = (atoms.cell.array, atoms.get_scaled_positions(), np.ones(len(atoms), dtype=int))
    found: Any = spglib.get_symmetry(cell, symprec=tolerance)
    if found is None or len(found["rotations"]) < 2:
        raise Refused("no symmetry")
    x, label = cell[1], np.arange(len(atoms))
    for k in rng.integers(len(found["rotations"]), size=int(rng.integers(1, MOST_OPERATIONS, endpoint=True))):
        apart = (x @ found["rotations"][k].T + found["translations"][k])[:, None] - x
        image = np.abs(apart - np.round(apart)).max(2).argmin(1)
        for _ in range(len(atoms)):  # the same label along every cycle
            lower = np.minimum(label, label[image])
            np.minimum.at(lower, image, lower.copy())
            if (lower == label).all():
                break
            label = lower
    return [np.flatnonzero(label == k) for k in np.unique(label)]


def _filled(orbits: list[np.ndarray], left: dict[int, int], rng: np.random.Generator) -> np.ndarray | None:
    """Elements of all sites, or None where these numbers of atoms do not fit the orbits as they come."""
    numbers = np.zeros(sum(map(len, orbits)), dtype=int)
    left = dict(left)
    for k in np.argsort([-len(o) + rng.random() for o in orbits]):
        free = [z for z, n in left.items() if n >= len(orbits[k])]
        if not free:
            return None
        z = int(rng.choice(free))
        numbers[orbits[k]] = z
        left[z] -= len(orbits[k])
    return numbers


OPERATOR = Operator("decorate", 1, decorate)
