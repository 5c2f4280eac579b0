"""Small changes of structures, each a function of a structure and random numbers that changes a copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import get_distances

from rutile.build.crystals import bare
from rutile.build.recipe import Refused
from rutile.build.sizes import radii

TRIALS = 60
"""Random places among which the largest hole is looked for."""


def strained(atoms: Atoms, strain: np.ndarray) -> Atoms:
    """Cell and positions under a strain [3, 3] (rows are vectors: cell -> cell (1 + strain))."""
    out = bare(atoms)
    out.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return out


def random_strain(size: float, rng: np.random.Generator) -> np.ndarray:
    """Symmetric matrix [3, 3] of normally distributed components with that standard deviation."""
    e = np.tril(rng.normal(0, size, (3, 3)))
    return np.asarray(e + np.tril(e, -1).T)


def rattled(atoms: Atoms, size: float, rng: np.random.Generator) -> Atoms:
    """Every coordinate displaced by a normally distributed length (Angstrom)."""
    out = bare(atoms)
    out.positions += rng.normal(0, size, (len(atoms), 3))
    return out


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """All lengths times a factor; also of structures without cell."""
    out = bare(atoms)
    out.set_cell(atoms.cell.array * factor)
    out.positions *= factor
    return out


def supercell(atoms: Atoms, most: int, rng: np.random.Generator, along: Sequence[int] = (0, 1, 2)) -> Atoms:
    """A cell repeated up to a random number of atoms, at most `most`: again and again along its shortest edge.

    Args:
        atoms: the cell.
        most: number of atoms that is not exceeded (unless the cell itself does).
        rng: draws how many.
        along: directions that may be repeated.
    """
    target = rng.integers(len(atoms), max(most, len(atoms)), endpoint=True)
    times = [1, 1, 1]
    lengths = atoms.cell.lengths()
    while True:
        k = min(along, key=lambda axis: lengths[axis] * times[axis])
        longer = [n + (axis == k) for axis, n in enumerate(times)]
        if len(atoms) * int(np.prod(longer)) > target:
            return repeated(atoms, times)
        times = longer


def repeated(atoms: Atoms, times: Sequence[int]) -> Atoms:
    """A supercell."""
    out: Atoms = atoms.repeat(tuple(times))
    return out


def chosen(atoms: Atoms, keep: np.ndarray) -> Atoms:
    """Some of the atoms: [N] bool, or numbers of atoms."""
    out: Atoms = atoms[keep]
    return out


def at_most(share: float, n: int, rng: np.random.Generator) -> int:
    """A number of atoms between 0 and a share of n; up to one at least where the share is above 0."""
    return int(rng.integers(0, max(1, round(share * n)), endpoint=True)) if share > 0 else 0


def without(atoms: Atoms, count: int, rng: np.random.Generator) -> Atoms:
    """Vacancies: so many atoms taken out.

    Raises:
        Refused: no atom would be left.
    """
    if count >= len(atoms):
        raise Refused("no atoms left")
    keep = np.ones(len(atoms), dtype=bool)
    keep[rng.choice(len(atoms), count, replace=False)] = False
    return chosen(atoms, keep)


def with_interstitials(atoms: Atoms, count: int, rng: np.random.Generator) -> Atoms:
    """So many atoms of the structure's elements added, each in the largest of some random holes."""
    out = bare(atoms)
    for _ in range(count):
        places = rng.random((TRIALS, 3)) @ out.cell.array
        z = int(rng.choice(np.unique(atoms.numbers)))
        d = get_distances(places, out.positions, cell=out.cell, pbc=out.pbc)[1]
        best = int((d / (radii(np.array([z])) + radii(out.numbers))).min(axis=1).argmax())
        out += Atoms([z], positions=places[best : best + 1])
    return out


def swapped(atoms: Atoms, count: int, rng: np.random.Generator) -> Atoms:
    """Antisites: so many times two atoms of different elements change places."""
    out = bare(atoms)
    for _ in range(count if len(np.unique(atoms.numbers)) > 1 else 0):
        i = int(rng.integers(len(out)))
        j = int(rng.choice(np.flatnonzero(out.numbers != out.numbers[i])))
        out.numbers[[i, j]] = out.numbers[[j, i]]
    return out


def substituted(
    atoms: Atoms, by: Mapping[str, Sequence[str]], share: float, rng: np.random.Generator
) -> tuple[Atoms, int]:
    """Atoms of some elements replaced by others; and how many were.

    Args:
        atoms: the structure.
        by: element -> elements that may stand for it.
        share: at most this part of each such element is replaced.
        rng: draws which and by what.
    """
    out, replaced = bare(atoms), 0
    for element, others in by.items():
        here = np.flatnonzero(atoms.numbers == atomic_numbers[element])
        n = at_most(share, len(here), rng) if len(here) else 0
        chosen = rng.choice(here, n, replace=False) if n else here[:0]
        out.numbers[chosen] = atomic_numbers[others[int(rng.integers(len(others)))]]
        replaced += n
    return out, replaced
