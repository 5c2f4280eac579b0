"""Atoms move along a soft mode of a model of springs; a parent that comes again moves along its next mode.

The model has a spring between atoms nearer than R, along the bond with k = exp(-(d - r_i - r_j) / b), b = 0.37 Angstrom
(the decay of bond valences, I. D. Brown and D. Altermatt, Acta Cryst. B 41, 244 (1985), doi:10.1107/S0108768185002063),
r covalent radii, and a tenth of that across it, so that chains resist bending. Its lowest modes but for motions of the
whole are the estimate of soft directions, as in A. O. Lyakhov, A. R. Oganov and M. Valle, Comput. Phys. Commun. 181,
1623 (2010), doi:10.1016/j.cpc.2010.06.007; no potential is asked.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms

from rutile.build.recipe import Refused
from rutile.build.sizes import radii
from rutile.search.operators.operator import Breed, Operator
from rutile.structures.fingerprint import image_vectors

DECAY = 0.37
"""b (Angstrom)."""
ACROSS = 0.1
"""Stiffness across a bond, in units of that along it."""
REACH = 1.4
"""R in units of the distance of neighbours."""
SIZE = (0.2, 0.6)
"""Longest move of an atom in units of the distance of neighbours, is drawn between these."""
SOFT = 0.3
"""Part of the modes, the softest ones, that are used one after another."""


def soften(parents: list[Atoms], breed: Breed, rng: np.random.Generator) -> Atoms:
    """Along mode number `breed.times`, either way, by a random size."""
    parent = parents[0]
    if len(parent) < 3:
        raise Refused("too few atoms for a mode")
    modes = soft_modes(parent, REACH * breed.distance)
    many = max(1, int(SOFT * len(modes)))
    mode = modes[breed.times % many]
    longest = float(np.linalg.norm(mode, axis=1).max())
    size = breed.distance * rng.uniform(*SIZE) * rng.choice([-1.0, 1.0])
    child: Atoms = parent.copy()
    child.positions += mode * (size / longest)
    return child


def soft_modes(atoms: Atoms, reach: float) -> np.ndarray:
    """Modes of the model of unit masses, softest first, without translations (and rotations of clusters), [M, N, 3].

    Args:
        atoms: crystal or cluster.
        reach: R (Angstrom).
    """
    n = len(atoms)
    i, j, v = image_vectors(atoms.positions, atoms.cell.array, atoms.pbc, reach)
    d = np.linalg.norm(v, axis=1)
    r = radii(atoms.numbers)
    stiff = np.exp(-(d - r[i] - r[j]) / DECAY)
    unit = v / d[:, None]
    along = unit[:, :, None] * unit[:, None, :]
    springs = stiff[:, None, None] * ((1 - ACROSS) * along + ACROSS * np.eye(3))
    hessian = np.zeros((n, n, 3, 3))
    np.add.at(hessian, (i, i), springs)
    np.add.at(hessian, (j, j), springs)
    np.add.at(hessian, (i, j), -springs)
    np.add.at(hessian, (j, i), -springs)
    h = hessian.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    free = _inner(atoms)
    values, vectors = np.linalg.eigh(free.T @ h @ free)
    return np.asarray((free @ vectors[:, np.argsort(values, kind="stable")]).T.reshape(-1, n, 3))


def _inner(atoms: Atoms) -> np.ndarray:
    """Orthonormal displacements that are no motion of the whole, as columns, [3N, M]."""
    n = len(atoms)
    whole = [np.tile(e, n) for e in np.eye(3)]
    if not atoms.pbc.any():
        x = atoms.positions - atoms.positions.mean(0)
        whole += [np.cross(e, x).ravel() for e in np.eye(3)]
    left, sizes, _ = np.linalg.svd(np.array(whole).T, full_matrices=True)
    return np.asarray(left[:, int((sizes > 1e-6 * sizes.max()).sum()) :])


OPERATOR = Operator("soft_mode", 1, soften, weight=0.0)
