"""Molecules put on a surface: which way they lie, and how high."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.bonds import turn
from rutile.build.sites import Site
from rutile.build.sizes import radii
from rutile.core.elements import formula
from rutile.structures.fingerprint import pairs_within

TOUCH = 1.05
"""Lowest atoms are put as far from the atoms of their site as the sum of the covalent radii times this."""
FLATTEST = 0.4
"""An atom is put no lower than this above the atoms of its site (Angstrom)."""
CLOSEST = 0.75
"""Two atoms may be as near as this part of the sum of their covalent radii; a molecule is lifted until it is so."""
LIFT, LIFTS = 0.1, 40
"""Step (Angstrom) and number of steps of that."""
LOW = 0.3
"""Atoms no more than this above the lowest atom (Angstrom) lie on the surface, too."""
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Pose:
    """A molecule turned."""

    name: str
    """Which atoms lie on the surface, such as "C down"; "" for an atom."""
    positions: np.ndarray
    """The middle of the atoms that lie on the surface is above the origin, the lowest at height 0, [N, 3]."""


def poses(molecule: Atoms, tilts: Sequence[float], turns: int) -> Iterator[Pose]:
    """Ways for a molecule to lie: each end of each principal axis down, tilted, turned about the normal.

    Args:
        molecule: at least one atom.
        tilts: angles from there (degrees).
        turns: angles about the normal, evenly over half a turn.
    """
    x = molecule.positions - molecule.positions.mean(axis=0)
    if len(x) == 1:
        yield Pose("", x)
        return
    axes = np.linalg.svd(x)[2]
    for axis in axes if np.linalg.matrix_rank(x, tol=1e-2) > 1 else axes[:2]:
        for end in (axis, -axis):
            upright = x @ rotation_onto(end, -UP).T
            for tilt in tilts:
                tilted = turn(upright, np.array([0.0, 1.0, 0.0]), tilt)
                for k in range(turns):
                    yield _pose(molecule, turn(tilted, UP, 180.0 * k / turns))


def put(slab: Atoms, site: Site, pose: Pose, numbers: np.ndarray, height: float | None) -> np.ndarray:
    """Positions of a molecule at a site [N, 3] (Angstrom); lifted until no two atoms are too near.

    Args:
        slab: what it is put on.
        site: where.
        pose: which way.
        numbers: of the molecule.
        height: of the lowest atom above the atoms of the site (Angstrom); None: as the radii of atoms say.
    """
    low = int(pose.positions[:, 2].argmin())
    if height is None:
        reach = TOUCH * (radii(numbers[low : low + 1]) + radii(site.numbers))
        beside = np.linalg.norm(site.held_by[:, :2] - site.place[:2], axis=1)
        rise = np.sqrt(np.maximum(reach**2 - beside**2, FLATTEST**2))
        height = float((site.held_by[:, 2] + rise).max() - site.place[2])
    x = pose.positions + site.place + height * UP
    for _ in range(LIFTS):
        if far_enough(slab, Atoms(numbers, positions=x)):
            break
        x = x + LIFT * UP
    return np.asarray(x)


def far_enough(there: Atoms, more: Atoms, part: float = CLOSEST) -> bool:
    """Whether no atom of one is nearer to one of the other (images, too) than this part of the covalent radii."""
    both, first = there + more, len(there)
    r = radii(both.numbers)
    i, j, d = pairs_within(both.positions, both.cell.array, both.pbc, 2 * part * float(r.max()) + 1e-6)
    between = (i < first) != (j < first)
    return bool((d[between] > part * (r[i] + r[j])[between]).all())


def _pose(molecule: Atoms, x: np.ndarray) -> Pose:
    """Put over the origin, and named."""
    low = x[:, 2] < x[:, 2].min() + LOW
    name = f"{formula(molecule.numbers[low].tolist())} down"
    return Pose(name, x - [*x[low, :2].mean(axis=0), x[:, 2].min()])


def rotation_onto(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rotation [3, 3] that takes one unit vector to another."""
    axis = np.cross(a, b)
    if np.linalg.norm(axis) < 1e-9:
        if a @ b > 0:
            return np.eye(3)
        axis = np.cross(a, [1.0, 0.0, 0.0] if abs(a[0]) < 0.9 else [0.0, 1.0, 0.0])
    angle = np.degrees(np.arccos(np.clip(a @ b, -1.0, 1.0)))
    return turn(np.eye(3), axis, float(angle)).T
