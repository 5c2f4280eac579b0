"""k-points by density, and boxes with vacuum for structures that are not periodic.

    n_i = max(1, ceil(kappa / d_i)),     d_i = 1 / |b_i|

with b_i the reciprocal vectors without 2 pi, so that d_i is the spacing of the lattice planes; 1 along vacuum.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

VACUUM = 7.0
"""A layer without atoms thicker than this is vacuum (Angstrom)."""


def kpoints(atoms: Atoms, density: float) -> tuple[int, int, int]:
    """Numbers of k-points (Gamma-centred) along the cell vectors; those of the frame (`kpoints`) come first.

    Args:
        atoms: in a cell; directions that are not periodic get one.
        density: kappa (Angstrom).
    """
    if "kpoints" in atoms.info:
        a, b, c = (int(n) for n in np.asarray(atoms.info["kpoints"]).ravel())
        return a, b, c
    if not atoms.pbc.any():
        return 1, 1, 1
    inverse = np.linalg.norm(atoms.cell.complete().reciprocal().array, axis=1)
    counts = np.maximum(1, np.ceil(density * inverse - 1e-9)).astype(int)
    for axis in range(3):
        if not atoms.pbc[axis] or gap(atoms, axis) > VACUUM:
            counts[axis] = 1
    a, b, c = counts.tolist()
    return a, b, c


def gap(atoms: Atoms, axis: int) -> float:
    """Thickness (Angstrom) of the thickest layer without atoms (their centres) along a direction of the cell."""
    heights = np.sort(atoms.cell.complete().scaled_positions(atoms.positions)[:, axis] % 1.0)
    steps = np.diff(heights, append=heights[0] + 1.0)
    spacing = 1.0 / np.linalg.norm(atoms.cell.complete().reciprocal().array[axis])
    return float(steps.max() * spacing) if len(heights) > 1 else 0.0


def boxed(atoms: Atoms, vacuum: float) -> Atoms:
    """The structure as engines of plane waves need it: a cell in all directions, vacuum where it is not periodic.

    Args:
        atoms: any structure.
        vacuum: room on each side along directions that are not periodic (Angstrom).

    Returns:
        A copy, periodic in all directions, without info; only periodic directions keep their vectors.
    """
    out = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    free = [axis for axis in range(3) if not atoms.pbc[axis]]
    if free:
        cell = atoms.cell.array.copy()
        cell[free] = 0.0
        out.set_cell(cell)
        out.set_cell(out.cell.complete())
        out.center(vacuum=vacuum, axis=free)
    out.pbc = True
    return out
