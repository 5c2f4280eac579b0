"""Cut and splice by the centres of molecules: those on one side of a plane from one parent, the rest from the other.

Clusters are turned at random first; crystals are cut normal to a cell vector and get a cell between those of the
parents. After S. Curtis et al., J. Chem. Theory Comput. 14, 2246 (2018), doi:10.1021/acs.jctc.7b01152, and the sources
of `cluster_heredity` and `crystal_heredity`.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from rutile.build.recipe import Refused
from rutile.search.molecules import apart_of, centres, joined
from rutile.search.operators.operator import Breed, Operator

LEAST = 0.2
"""Each parent gives at least this part of the molecules."""


def splice(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """The composition is that of the first parent."""
    del breed
    crystal = bool(parents[0].pbc.all())
    n = len(centres(parents[0]))
    least = max(1, round(LEAST * n))
    if n < 2 * least:
        raise Refused("too few molecules to cut")
    if crystal:
        cell, sides = _in_one_cell(parents, rng)
    else:
        cell, sides = None, [_turned(p, rng) for p in parents]
    (one, height), (other, depth) = sides
    taken = np.argsort(-height)[: rng.integers(least, n - least, endpoint=True)]
    keys = [_key(m) for m in one]
    wanted = list(keys)
    chosen: list[tuple[tuple[int, ...], Atoms]] = []
    for k in taken:
        wanted.remove(keys[k])
        chosen.append((keys[k], one[k]))
    for k in np.argsort(depth):
        key = _key(other[k])
        if key in wanted:
            wanted.remove(key)
            chosen.append((key, other[k]))
    if wanted:
        raise Refused("composition")
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return joined([m for _, m in sorted(chosen, key=lambda one: order[one[0]])], cell)


def _key(molecule: Atoms) -> tuple[int, ...]:
    """What kind it is: its elements in order."""
    return tuple(molecule.numbers.tolist())


def _turned(parent: Atoms, rng: np.random.Generator) -> tuple[list[Atoms], np.ndarray]:
    """The molecules of a cluster turned at random as a whole, and the heights of their centres."""
    out = parent.copy()
    out.positions = Rotation.random(rng=rng).apply(out.positions - out.positions.mean(0))
    return apart_of(out), centres(out)[:, 2]


def _in_one_cell(
    parents: list[Atoms], rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[list[Atoms], np.ndarray]]]:
    """A cell between two, and the molecules of both in it, with fractions of their centres along a random axis."""
    axis, weight = int(rng.integers(3)), rng.random()
    lower = [np.linalg.cholesky(p.cell.array @ p.cell.array.T) for p in parents]
    cell = weight * lower[0] + (1 - weight) * lower[1]
    size = abs(np.linalg.det(lower[0])) ** weight * abs(np.linalg.det(lower[1])) ** (1 - weight)
    cell *= (size / abs(np.linalg.det(cell))) ** (1 / 3)
    out = []
    for parent, frame in zip(parents, lower, strict=True):
        turn = np.linalg.inv(parent.cell.array) @ frame  # into the orientation of the lower triangle
        middle = centres(parent)
        shift = rng.random(3) if rng.random() < 0.5 else np.where(np.arange(3) == axis, rng.random(), 0.0)
        parts = (middle @ np.linalg.inv(parent.cell.array) + shift) % 1.0
        molecules = [
            Atoms(m.numbers, positions=(m.positions - c) @ turn + f @ cell)
            for m, c, f in zip(apart_of(parent), middle, parts, strict=True)
        ]
        out.append((molecules, parts[:, axis]))
    return cell, out


OPERATOR = Operator("heredity", 2, splice)
