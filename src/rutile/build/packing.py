"""Atoms at random places, pushed apart by a soft repulsion."""

from __future__ import annotations

import numpy as np
import vesin
from ase import Atoms
from scipy.optimize import minimize

from rutile.build.sizes import radii

STEPS = 200
"""Steps of the minimisation at most."""


def push_apart(atoms: Atoms, part: float, inside: float | None = None) -> Atoms:
    """Minimise E = sum over pairs of (1 - d / d0)^2 for d < d0 = part (r_i + r_j), with covalent radii r.

    Args:
        atoms: positions to begin with; the cell stays.
        part: where the repulsion begins, relative to the sum of the covalent radii.
        inside: radius of a soft sphere around the origin that holds the atoms (Angstrom); None: none.
    """
    r = radii(atoms.numbers)
    reach = part * 2 * float(r.max()) + 1e-9

    def energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        positions = x.reshape(-1, 3)
        e, gradient = _repulsion(positions, atoms.cell.array, atoms.pbc, part * r, reach)
        if inside is not None:
            far = np.linalg.norm(positions, axis=1)
            over = np.maximum(far - inside, 0)
            e += float((over**2).sum())
            gradient += (2 * over / np.maximum(far, 1e-9))[:, None] * positions
        return e, gradient.ravel()

    found = minimize(energy, atoms.positions.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return Atoms(atoms.numbers, positions=found.x.reshape(-1, 3), cell=atoms.cell, pbc=atoms.pbc)


def _repulsion(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, r: np.ndarray, reach: float
) -> tuple[float, np.ndarray]:
    """Energy and its gradient [N, 3]."""
    i, j, d, vectors = vesin.NeighborList(cutoff=reach, full_list=False, n_threads=1).compute(
        points=positions, box=cell, periodic=pbc, quantities="ijdD"
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    longest = r[i] + r[j]
    x = np.maximum(1 - d / longest, 0)
    pull = (2 * x / longest / np.maximum(d, 1e-9))[:, None] * vectors  # dE/dR_i = 2 x / d0 (R_j - R_i) / d
    gradient = np.zeros_like(positions)
    np.add.at(gradient, i, pull)
    np.add.at(gradient, j, -pull)
    return float((x**2).sum()), gradient
