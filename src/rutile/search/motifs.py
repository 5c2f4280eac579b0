"""Pieces of the packings that clusters of metals and noble gases are made of, closed at their surface.

Random stackings of close-packed layers (fcc, hcp, twins), decahedra and icosahedra are cut around a random centre, then
the loosest atoms move to the free places with the most neighbours, as in the dynamic lattice search of X. Shao,
L. Cheng and W. Cai, J. Comput. Chem. 25, 1693 (2004), doi:10.1002/jcc.20096, which builds on such lattices. Lengths are
in units of the distance of neighbours.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from ase.cluster import Decahedron, Icosahedron

from rutile.search.operators.resurface import closed

STRETCH = 0.4
"""Pieces are longer or shorter along the axis of the packing by up to exp(STRETCH)."""
SYMMETRIC = 0.6
"""How often a piece of a decahedron or icosahedron has its axis or centre in the middle."""
ROUND = 0.5
"""How often they are not."""
PLACES = ("atom", "pair", "square", "tetrahedron")
"""What is in the middle of other pieces; the middle of a square is that of an octahedron, where there is one."""
NEAR, WIDE = 1.2, 0.15
"""Atoms nearer to the origin than this may be the middle of a piece; distances may differ by so much."""
STACKINGS = ("fcc", "hcp", "twin", "any")


def motif(count: int, rng: np.random.Generator) -> np.ndarray:
    """Positions [count, 3] of a piece of a random packing, centred, with a surface that gains no more neighbours.

    Args:
        count: number of atoms.
        rng: drawn from.
    """
    radius = max(1.0, (3 * count / (4 * np.sqrt(2) * np.pi)) ** (1 / 3))
    kind = rng.choice(["layers", "decahedron", "icosahedron"])
    if kind == "layers":
        sites = stacked(str(rng.choice(STACKINGS)), radius, rng)
        middle = _middle(sites, rng)
    else:
        sites = _centred(str(kind), int(np.ceil(radius)) + 3)
        on_axis = np.array([0, 0, 0.5 * int(kind == "decahedron" and rng.random() < 0.5)])
        middle = on_axis if rng.random() < SYMMETRIC else _middle(sites, rng)
    piece = _cut(sites - middle, count, rng)
    return closed(piece, np.eye(3)[None], 1.0, rng)[0]


def stacked(kind: str, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Close-packed layers normal to z, [M, 3], a site of them at the origin, somewhat larger than the radius.

    Args:
        kind: one of STACKINGS; twin: fcc on both sides of a mirror at z = 0, any: each layer at random.
        radius: in distances of neighbours.
        rng: drawn from.
    """
    between = np.sqrt(2 / 3)
    half, wide = int((radius + 1.5) / between) + 2, int(radius) + 4
    turns = {
        "fcc": np.ones(2 * half), "hcp": (-1.0) ** np.arange(2 * half),
        "twin": np.repeat([1.0, -1.0], half), "any": rng.choice([-1.0, 1.0], 2 * half),
    }[kind]  # fmt: skip
    phase = np.concatenate([[0], np.cumsum(turns)])
    phase = (phase - phase[half]) % 3
    i, j = np.mgrid[-2 * wide : 2 * wide + 1, -2 * wide : 2 * wide + 1].reshape(2, -1)
    layer = np.stack([i + 0.5 * j, j * np.sqrt(3) / 2, np.zeros(i.size)], axis=1)
    shift = np.stack([0.5 * phase, phase * np.sqrt(3) / 6, (np.arange(2 * half + 1) - half) * between], axis=1)
    sites = (shift[:, None] + layer).reshape(-1, 3)
    return np.asarray(sites[np.linalg.norm(sites, axis=1) < 2 * (radius + 2)])


@cache
def _centred(kind: str, size: int) -> np.ndarray:
    """A large decahedron, its axis along z, or icosahedron around the origin; of either an atom lies there."""
    if kind == "icosahedron":
        return np.asarray(Icosahedron("Cu", size, latticeconstant=np.sqrt(2)).positions)
    x = np.asarray(Decahedron("Cu", size, 2 * size - 1, 0, latticeconstant=np.sqrt(2)).positions)
    return np.asarray(x - x[np.linalg.norm(x, axis=1).argmin()])


def _middle(sites: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An atom near the origin, or a place between it and others; an atom where there are no such others."""
    away = np.linalg.norm(sites, axis=1)
    atom = sites[rng.choice(np.flatnonzero(away <= max(NEAR, away.min() + 1e-6)))]
    far = np.linalg.norm(sites - atom, axis=1)
    place = str(rng.choice(PLACES))
    others = np.flatnonzero(np.abs(far - (np.sqrt(2) if place == "square" else 1.0)) < WIDE)
    if place == "atom" or not len(others):
        return np.asarray(atom)
    corners = [atom, sites[rng.choice(others)]]
    while place == "tetrahedron" and len(corners) < 4:
        apart = np.linalg.norm(sites[:, None] - np.array(corners), axis=2)
        touching = np.flatnonzero((np.abs(apart - 1) < WIDE).all(1))
        if not len(touching):
            break
        corners.append(sites[rng.choice(touching)])
    return np.asarray(np.mean(corners, axis=0))


def _cut(x: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """The sites nearest to the origin, in a measure that makes z longer or shorter; ties at random."""
    stretch = 1.0 if rng.random() < ROUND else np.exp(rng.uniform(-STRETCH, STRETCH))
    away = np.linalg.norm(x * [1, 1, stretch], axis=1)
    piece = x[np.argsort(away + rng.uniform(0, 1e-3, len(away)))[:count]]
    return np.asarray(piece - piece.mean(0))
