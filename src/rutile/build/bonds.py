"""Bonds of molecules whose two sides can be moved against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.build.sizes import radii

LONGEST = 1.25
"""Atoms nearer than this times the sum of their covalent radii are bonded."""


@dataclass(frozen=True)
class Bond:
    """A bond that is in no ring."""

    a: int
    b: int
    side: np.ndarray
    """Atoms that hang on b, with b, [N] bool."""
    inner: bool
    """Both ends have further neighbours: turning it changes the shape."""


def bonds(atoms: Atoms) -> list[Bond]:
    """Bonds of a molecule that are in no ring."""
    r = radii(atoms.numbers)
    d = np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=2)
    bonded = (d < LONGEST * (r[:, None] + r[None])) & ~np.eye(len(atoms), dtype=bool)
    out = []
    for a, b in np.argwhere(np.triu(bonded)):
        side = _reached(bonded, int(b), int(a))
        if not side[a]:
            inner = bool(bonded[a].sum() > 1 and bonded[b].sum() > 1)
            out.append(Bond(int(a), int(b), side, inner))
    return out


def _reached(bonded: np.ndarray, start: int, without: int) -> np.ndarray:
    """Atoms that can be reached from `start`, not by its bond with `without`, [N] bool."""
    graph = bonded.copy()
    graph[start, without] = graph[without, start] = False
    seen = np.zeros(len(graph), dtype=bool)
    front = [start]
    while front:
        k = front.pop()
        if not seen[k]:
            seen[k] = True
            front += np.flatnonzero(graph[k] & ~seen).tolist()
    return seen


def stretched(atoms: Atoms, bond: Bond, factor: float) -> Atoms:
    """A bond that is so many times as long; the side of its second atom moves as a whole."""
    x = atoms.positions.copy()
    x[bond.side] += (factor - 1) * (x[bond.b] - x[bond.a])
    return Atoms(atoms.numbers, positions=x)


def turned(atoms: Atoms, bond: Bond, degrees: float) -> Atoms:
    """One side of a bond turned about it."""
    x = atoms.positions.copy()
    axis = x[bond.b] - x[bond.a]
    x[bond.side] = turn(x[bond.side] - x[bond.b], axis, degrees) + x[bond.b]
    return Atoms(atoms.numbers, positions=x)


def turn(x: np.ndarray, axis: np.ndarray, degrees: float) -> np.ndarray:
    """Vectors [N, 3] turned about an axis through the origin (Rodrigues)."""
    k, t = axis / np.linalg.norm(axis), np.deg2rad(degrees)
    return np.asarray(x * np.cos(t) + np.cross(k, x) * np.sin(t) + np.outer(x @ k, k) * (1 - np.cos(t)))
