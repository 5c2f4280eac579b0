"""Structures on slabs for operators: the atoms that are searched for alone, and put back among the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from ase import Atoms

from rutile.search.individual import PART, PLACED
from rutile.search.operators.operator import Breed, Operator


def placed(atoms: Atoms) -> Atoms:
    """The atoms that are searched for, in the cell of the slab, periodic in the plane."""
    mine = atoms.arrays[PART] == PLACED
    pbc = [True, True, False]
    return Atoms(atoms.numbers[mine], positions=atoms.positions[mine], cell=atoms.cell, pbc=pbc)


def put_back(parent: Atoms, child: Atoms) -> Atoms:
    """A structure with the slabs of its parent and as many other atoms."""
    out: Atoms = parent.copy()
    mine = out.arrays[PART] == PLACED
    out.positions[mine], out.numbers[mine] = child.positions, child.numbers
    return out


def of_placed(operator: Operator) -> Operator:
    """An operator of one parent that sees the atoms alone that are searched for."""

    def make(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
        return put_back(parents[0], operator.make([placed(parents[0])], breed, rng))

    return replace(operator, make=make)


def gathered(atoms: Atoms, rng: np.random.Generator) -> np.ndarray:
    """Positions of the images of atoms nearest to one of them, which is drawn, [N, 3], relative to it in the plane."""
    cell = atoms.cell.array[:2, :2]
    x = atoms.positions.copy()
    middle = x[rng.integers(len(x)), :2]
    for _ in range(3):  # once more about their own middle
        parts = (x[:, :2] - middle) @ np.linalg.inv(cell)
        x[:, :2] = middle + (parts - np.round(parts)) @ cell
        middle = x[:, :2].mean(0)
    x[:, :2] -= middle
    return np.asarray(x)
