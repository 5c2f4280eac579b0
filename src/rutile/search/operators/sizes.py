"""Cells that become larger: parents that are repeated, and the volume that other atoms need."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.sizes import reference_volume


def enlarged(atoms: Atoms, most: int, rng: np.random.Generator) -> Atoms:
    """A parent as it is, or a supercell of it of at most so many atoms, repeated along random cell vectors."""
    times = int(rng.integers(1, max(1, most // len(atoms)), endpoint=True))
    repeats = np.ones(3, dtype=int)
    for factor in (2, 2, 2, 3, 5, 7):
        while times % factor == 0:
            times //= factor
            repeats[rng.integers(3)] *= factor
    out: Atoms = atoms.repeat(tuple(int(n) for n in repeats))
    return out


def matched(parents: list[Atoms]) -> list[Atoms]:
    """Two parents, the smaller one repeated along its shortest vectors to more than half of the other's atoms."""
    out = [p.copy() for p in parents]
    small, large = sorted(out, key=len)
    where = 0 if out[0] is small else 1
    while 2 * len(small) <= len(large):
        repeats = [1, 1, 1]
        repeats[int(small.cell.lengths().argmin())] = 2
        small = small.repeat(tuple(repeats))
    out[where] = small
    return out


def resized(atoms: Atoms, before: np.ndarray) -> Atoms:
    """A crystal with the volume that its atoms need, if others (numbers before, [M]) needed the volume that it has."""
    part = reference_volume(atoms.numbers) * len(atoms) / (reference_volume(before) * len(before))
    atoms.set_cell(atoms.cell.array * part ** (1 / 3), scale_atoms=True)
    return atoms
