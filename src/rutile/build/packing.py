"""Atoms at random places, pushed apart by a soft repulsion."""

from __future__ import annotations

import numpy as np
import vesin
from ase import Atoms
from scipy.optimize import minimize

from rutile.build.sizes import radii, van_der_waals

STEPS = 200
"""Steps of the minimisation at most."""


def push_apart(atoms: Atoms, part: float, inside: float | None = None, held: np.ndarray | None = None) -> Atoms:
    """Minimise E = sum over pairs of (1 - d / d0)^2 for d < d0 = part (r_i + r_j), with covalent radii r.

    Args:
        atoms: positions to begin with; the cell stays.
        part: where the repulsion begins, relative to the sum of the covalent radii.
        inside: radius of a soft sphere around the origin that holds the atoms (Angstrom); None: none.
        held: atoms that stay exactly where they are, [N] bool; None: none.
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
        if held is not None:
            gradient[held] = 0.0
        return e, gradient.ravel()

    found = minimize(energy, atoms.positions.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    out = Atoms(atoms.numbers, positions=found.x.reshape(-1, 3), cell=atoms.cell, pbc=atoms.pbc)
    if held is not None:
        out.positions[held] = atoms.positions[held]
    return out


def push_molecules_apart(atoms: Atoms, owner: np.ndarray, part: float) -> Atoms:
    """Minimise the same energy between molecules that move and turn as rigid bodies.

    Args:
        atoms: whole molecules (not wrapped atom by atom); the cell stays.
        owner: number of the molecule of each atom, from 0, [N].
        part: where the repulsion begins, relative to the sum of the van der Waals radii.
    """
    count, r = int(owner.max()) + 1, van_der_waals(atoms.numbers)
    reach = part * 2 * float(r.max()) + 1e-9
    size = np.bincount(owner)
    middle = np.stack([np.bincount(owner, x) / size for x in atoms.positions.T], axis=1)
    local = atoms.positions - middle[owner]

    def placed(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p = x[3 * count :].reshape(-1, 4)
        length = np.linalg.norm(p, axis=1)
        q = p / length[:, None]
        w, v = q[owner, :1], q[owner, 1:]
        turned = local + 2 * w * np.cross(v, local) + 2 * np.cross(v, np.cross(v, local))
        return turned + x[: 3 * count].reshape(-1, 3)[owner], q, length

    def energy(x: np.ndarray) -> tuple[float, np.ndarray]:
        positions, q, length = placed(x)
        e, g = _repulsion(positions, atoms.cell.array, atoms.pbc, part * r, reach, owner)
        w, v = q[owner, :1], q[owner, 1:]
        by_w = 2 * (g * np.cross(v, local)).sum(axis=1, keepdims=True)
        vx, gv, gx = ((a * b).sum(axis=1, keepdims=True) for a, b in ((v, local), (g, v), (g, local)))
        by_v = 2 * (w * np.cross(local, g) + g * vx + local * gv - 2 * v * gx)
        by_q = np.stack([np.bincount(owner, c, count) for c in np.hstack([by_w, by_v]).T], axis=1)
        by_p = (by_q - q * (q * by_q).sum(axis=1, keepdims=True)) / length[:, None]
        by_t = np.stack([np.bincount(owner, c, count) for c in g.T], axis=1)
        return e, np.concatenate([by_t.ravel(), by_p.ravel()])

    start = np.concatenate([middle.ravel(), np.tile([1.0, 0.0, 0.0, 0.0], count)])
    found = minimize(energy, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return Atoms(atoms.numbers, positions=placed(found.x)[0], cell=atoms.cell, pbc=atoms.pbc)


def _repulsion(
    positions: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    r: np.ndarray,
    reach: float,
    owner: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Energy and its gradient [N, 3]; without pairs inside a molecule if their owners are given."""
    i, j, shift, d, vectors = vesin.NeighborList(cutoff=reach, full_list=False, n_threads=1).compute(
        points=positions, box=cell, periodic=pbc, quantities="ijSdD"
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    if owner is not None:
        between = (owner[i] != owner[j]) | shift.any(axis=1)
        i, j, d, vectors = i[between], j[between], d[between], vectors[between]
    longest = r[i] + r[j]
    x = np.maximum(1 - d / longest, 0)
    pull = (2 * x / longest / np.maximum(d, 1e-9))[:, None] * vectors  # dE/dR_i = 2 x / d0 (R_j - R_i) / d
    gradient = np.zeros_like(positions)
    np.add.at(gradient, i, pull)
    np.add.at(gradient, j, -pull)
    return float((x**2).sum()), gradient
