"""The loosest atoms move to the free places with the most neighbours, again and again, as long as that gains some.

The dynamic lattice search of X. Shao, L. Cheng and W. Cai, J. Comput. Chem. 25, 1693 (2004), doi:10.1002/jcc.20096,
with numbers of neighbours in place of energies, so that it serves every potential: a rough surface becomes a closed one
in a single relaxation. Half of the time a symmetric parent keeps its symmetry: whole orbits move to whole orbits of
places, so that a surface with few ways to be symmetric is closed in few steps.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator
from rutile.search.operators.relocate import CLEAR, TOUCH, free_places, neighbours
from rutile.search.point_groups import operations_of

MOVES = 2
"""Moves of an atom at most, on average."""
LOOSEST = 8
"""Orbits that are tried, the loosest first, until one gains neighbours."""
ALIKE = 0.1
"""Atoms nearer than this times the distance of neighbours to an image of another one are on its orbit."""
NEAR = 0.5
"""A place nearer than this times the distance to images of it is moved to where they meet."""


def resurface(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Ties are broken at random, so that a parent has many such children."""
    child: Atoms = parents[0].copy()
    child.positions -= child.positions.mean(0)
    group = _kept(child, breed.distance, rng)
    child.positions, moves = closed(child.positions, group, breed.distance, rng)
    if not moves:
        raise Refused("no atom gains neighbours")
    return child


def closed(x: np.ndarray, group: np.ndarray, d: float, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Positions [N, 3] after the loosest orbits have moved as long as that gains neighbours, and how many moved.

    Args:
        x: positions [N, 3], the centre of the group at the origin.
        group: operations that stay, [M, 3, 3].
        d: distance of neighbours, in the unit of the positions.
        rng: ties are broken at random.
    """
    most = -(-MOVES * len(x) // len(group))
    for moves in range(most):
        closer = _closer(x, group, d, rng)
        if closer is None:
            return x, moves
        x = closer
    return x, most


def _kept(atoms: Atoms, d: float, rng: np.random.Generator) -> np.ndarray:
    """Operations that the child keeps, [M, 3, 3]: all that the parent has, or none but the identity."""
    if rng.random() < 0.5:
        found = operations_of(atoms.positions, atoms.numbers, ALIKE * d)
        if len(found) > 1:
            return found
    return np.eye(3)[None]


def _closer(x: np.ndarray, group: np.ndarray, d: float, rng: np.random.Generator) -> np.ndarray | None:
    """Positions with more pairs of neighbours, after one orbit has moved; None: no such move was found."""
    reach = TOUCH * d
    orbit = _orbits(x, group)
    many = neighbours(x, reach)
    loose = np.bincount(orbit, many) / np.bincount(orbit)
    for k in np.argsort(loose + rng.uniform(0, 0.9, len(loose)))[:LOOSEST]:
        leave = orbit == k
        stay = x[~leave]
        placed = _filled(stay, int(leave.sum()), group, d, rng)
        if placed is None:
            continue
        out = x.copy()
        out[leave] = placed
        if neighbours(out, reach).sum() > many.sum():
            return out
    return None


def _orbits(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Number of the orbit of each atom, [N]."""
    tree, out = cKDTree(x), np.full(len(x), -1)
    for k in range(len(x)):
        if out[k] < 0:
            out[tree.query(group @ x[k])[1]] = k
    return np.unique(out, return_inverse=True)[1]


def _filled(stay: np.ndarray, many: int, group: np.ndarray, d: float, rng: np.random.Generator) -> np.ndarray | None:
    """So many atoms on whole orbits of free places, those with the most neighbours first; None: they do not fit."""
    placed = np.empty((0, 3))
    while len(placed) < many:
        there = np.concatenate([stay, placed])
        site = next((s for s in _sites(there, group, d, rng) if len(s) <= many - len(placed)), None)
        if site is None:
            return None
        placed = np.concatenate([placed, site])
    return placed


def _sites(there: np.ndarray, group: np.ndarray, d: float, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Orbits of free places on which atoms have room beside each other and those that are there."""
    places = free_places(there, d)
    if not len(places):
        return
    tree = cKDTree(there)
    touching = np.array([len(near) for near in tree.query_ball_point(places, TOUCH * d)])
    for k in np.argsort(-touching - rng.uniform(0, 0.9, len(places))):
        images = group @ places[k]
        meet = images[np.linalg.norm(images - places[k], axis=1) < NEAR * d].mean(0)
        images = group @ meet
        apart = np.linalg.norm(images[:, None] - images[None], axis=2)
        first = (apart < ALIKE * d).argmax(1) == np.arange(len(images))
        site, between = images[first], apart[first][:, first] + 2 * d * np.eye(int(first.sum()))
        if between.min() >= CLEAR * d and tree.query(site)[0].min() >= CLEAR * d:
            yield site


OPERATOR = Operator("resurface", 1, resurface)
