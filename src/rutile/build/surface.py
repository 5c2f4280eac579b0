"""Surfaces of crystals: Miller indices that symmetry tells apart, and slabs with every termination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Literal

import ase.build
import numpy as np
import spglib
from ase import Atoms

from rutile.build.crystals import bare
from rutile.build.distort import chosen

SAME_PLANE = 0.15
"""Atoms whose heights differ by less from their neighbour's are in one plane (Angstrom)."""
MOST_LAYERS = 40
"""Repeated units along the normal that are tried."""


@dataclass(frozen=True)
class Slab:
    """A slab without vacuum: periodic along the first two vectors; the third is normal to them."""

    atoms: Atoms
    miller: tuple[int, int, int]
    first: int
    """Number of the lowest plane within the repeated unit."""
    planes: int
    """Number of planes of atoms."""
    stoichiometric: bool
    """It has the composition of the crystal."""
    symmetric: bool
    """A symmetry operation takes one side into the other."""

    @property
    def name(self) -> str:
        """Such as (110)-0-9: Miller index, lowest plane, planes."""
        return f"({''.join(map(str, self.miller))})-{self.first}-{self.planes}"


def miller_indices(crystal: Atoms, most: int) -> list[tuple[int, int, int]]:
    """Indices up to `most` without common divisor, one of each set that the crystal's symmetry makes equal."""
    cell = (crystal.cell.array, crystal.get_scaled_positions(), crystal.numbers)
    found = spglib.get_symmetry(cell, symprec=1e-3)
    rotations = np.eye(3, dtype=int)[None] if found is None else found["rotations"]
    out: list[tuple[int, int, int]] = []
    seen: set[tuple[int, ...]] = set()
    every = sorted(product(range(-most, most + 1), repeat=3), key=lambda h: (sum(k * k for k in h), [-k for k in h]))
    for h in every:
        if gcd(*h) != 1 or h in seen:
            continue
        out.append((h[0], h[1], h[2]))
        for w in rotations:  # indices are row vectors: h -> h W
            turned = np.array(h) @ w
            seen.update({tuple(turned.tolist()), tuple((-turned).tolist())})
    return out


def slabs(
    crystal: Atoms,
    miller: tuple[int, int, int],
    thickness: Sequence[float],
    which: Literal["all", "stoichiometric", "symmetric"],
) -> list[Slab]:
    """Slabs of every termination: for each lowest plane the thinnest stoichiometric and the thinnest symmetric one.

    Args:
        crystal: the cell that the indices refer to.
        miller: the indices.
        thickness: from ... to (Angstrom), between the outermost planes of atoms.
        which: kinds that are wanted.
    """
    stack, levels, unit = _planes(crystal, miller, thickness[1])
    bulk = _ratios(crystal.numbers)
    out: list[Slab] = []
    for first in range(unit):
        wanted = {"stoichiometric", "symmetric"} if which == "all" else {which}
        for last in range(first, int(levels.max()) + 1):
            high = _height(stack, levels == last) - _height(stack, levels == first)
            if high > thickness[1] or not wanted:
                break
            if high < thickness[0]:
                continue
            cut = chosen(stack, (levels >= first) & (levels <= last))
            has = {"stoichiometric": _ratios(cut.numbers) == bulk, "symmetric": _symmetric(cut)}
            if any(has[w] for w in wanted):
                wanted -= {w for w in wanted if has[w]}
                out.append(Slab(cut, miller, first, last - first + 1, has["stoichiometric"], has["symmetric"]))
    return out


def with_vacuum(slab: Atoms, vacuum: float) -> Atoms:
    """The slab in the middle of a cell with so much empty space (Angstrom), periodic along the surface."""
    out = bare(slab)
    z = out.positions[:, 2]
    cell = out.cell.array.copy()
    cell[2] = [0, 0, z.max() - z.min() + vacuum]
    out.set_cell(cell)
    out.positions[:, 2] += vacuum / 2 - z.min()
    out.pbc = (True, True, False)
    return out


def _planes(crystal: Atoms, miller: tuple[int, int, int], thickness: float) -> tuple[Atoms, np.ndarray, int]:
    """A stack of planes higher than needed, the number of each atom's plane, and the planes of one repeated unit."""
    one = ase.build.surface(crystal, miller, 1, vacuum=None, periodic=True)
    spacing = crystal.cell.volume / np.linalg.norm(np.cross(one.cell[0], one.cell[1]))
    layers = min(MOST_LAYERS, int(np.ceil(thickness / spacing)) + 2)
    stack = bare(ase.build.surface(crystal, miller, layers, vacuum=None, periodic=True))
    stack = chosen(stack, np.argsort(stack.positions[:, 2], kind="stable"))
    z = stack.positions[:, 2]
    levels = np.concatenate([[0], np.cumsum(np.diff(z) > SAME_PLANE)])
    unit = round((levels.max() + 1) / layers)
    return stack, levels, max(1, int(unit))


def _height(atoms: Atoms, here: np.ndarray) -> float:
    return float(atoms.positions[here, 2].mean())


def _ratios(numbers: np.ndarray) -> dict[int, float]:
    """Part of each element."""
    z, n = np.unique(numbers, return_counts=True)
    return {int(a): round(float(b) / len(numbers), 9) for a, b in zip(z, n, strict=True)}


def _symmetric(slab: Atoms) -> bool:
    """Whether an operation turns the slab upside down."""
    cell = with_vacuum(slab, 10.0)
    found = spglib.get_symmetry((cell.cell.array, cell.get_scaled_positions(), cell.numbers), symprec=1e-2)
    return found is not None and bool((found["rotations"][:, 2, 2] == -1).any())
