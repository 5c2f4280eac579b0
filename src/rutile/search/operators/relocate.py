"""The atoms with the fewest neighbours move to the free places with the most.

Free places of a cluster are those that touch three atoms which touch each other, on either side of them: the dynamic
lattice of X. Shao, L. Cheng and W. Cai, J. Comput. Chem. 25, 1693 (2004), doi:10.1002/jcc.20096, with numbers of
neighbours in place of energies, so that it serves every potential.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from rutile.build.recipe import Refused
from rutile.search.operators.operator import Breed, Operator

TOUCH = 1.25
"""Atoms nearer than this times the distance of neighbours touch."""
CLEAR = 0.8
"""A free place is farther than this times the distance from all atoms."""
MOST = 0.25
"""At most this part of the atoms moves."""


def relocate(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """A random small number of atoms, the loosest first; ties, and now and then an order, are broken at random."""
    child: Atoms = parents[0].copy()
    n, d = len(child), breed.distance
    many = int(rng.integers(1, max(1, int(MOST * n)), endpoint=True))
    if n - many < 4:
        raise Refused("too few atoms to move some")
    loose = np.argsort(neighbours(child.positions, TOUCH * d) + rng.uniform(0, 2, n))[:many]
    stays = np.setdiff1d(np.arange(n), loose)
    fixed = child.positions[stays]
    for k in loose:
        places = free_places(fixed, d)
        if not len(places):
            raise Refused("no free place")
        touching = np.array([len(x) for x in cKDTree(fixed).query_ball_point(places, TOUCH * d)])
        best = places[np.argmax(touching + rng.uniform(0, 1.5, len(places)))]
        child.positions[k] = best
        fixed = np.vstack([fixed, best])
    return child


def neighbours(x: np.ndarray, reach: float) -> np.ndarray:
    """Number of neighbours of each atom [N]; positions [N, 3] and reach in the same unit."""
    return np.array([len(near) - 1 for near in cKDTree(x).query_ball_point(x, reach)])


def free_places(x: np.ndarray, d: float) -> np.ndarray:
    """Places at the distance d from three atoms that touch each other, [P, 3], clear of all atoms.

    Args:
        x: positions of the atoms [N, 3].
        d: distance of neighbours.
    """
    pairs = cKDTree(x).query_pairs(TOUCH * d, output_type="ndarray")
    touch = np.zeros((len(x), len(x)), dtype=bool)
    touch[pairs[:, 0], pairs[:, 1]] = touch[pairs[:, 1], pairs[:, 0]] = True
    third = touch[pairs[:, 0]] & touch[pairs[:, 1]] & (np.arange(len(x)) > pairs[:, 1:].max(1, keepdims=True))
    row, c = np.nonzero(third)
    a, b, c_ = x[pairs[row, 0]], x[pairs[row, 1]], x[c]
    centre, radius2, normal = _circle(a, b, c_)
    height2 = d**2 - radius2
    good = height2 > 0
    up = np.sqrt(height2[good])[:, None] * normal[good]
    places = np.concatenate([centre[good] + up, centre[good] - up])
    if not len(places):
        return places
    nearest, _ = cKDTree(x).query(places)
    places = places[nearest > CLEAR * d]
    return _distinct(places, 0.2 * d)


def _circle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres and squared radii of the circles through three points, and unit normals of their planes."""
    u, v = b - a, c - a
    w = np.cross(u, v)
    w2 = np.maximum((w**2).sum(1), 1e-12)[:, None]
    to = (np.cross(w, u) * (v**2).sum(1)[:, None] + np.cross(v, w) * (u**2).sum(1)[:, None]) / (2 * w2)
    return a + to, (to**2).sum(1), w / np.sqrt(w2)


def _distinct(places: np.ndarray, near: float) -> np.ndarray:
    """Without those that are nearer than `near` to an earlier one."""
    if not len(places):
        return places
    pairs = cKDTree(places).query_pairs(near, output_type="ndarray")
    keep = np.ones(len(places), dtype=bool)
    for a, b in pairs[np.argsort(pairs[:, 0], kind="stable")]:
        if keep[a]:
            keep[b] = False
    return places[keep]


OPERATOR = Operator("relocate", 1, relocate)
