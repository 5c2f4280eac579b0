"""Normal-mode sampling: displacements along normal modes with random energies.

With masses m and Hessian H, eigenpairs (omega^2, e) of M^-1/2 H M^-1/2 give Cartesian vectors l = M^-1/2 e, reduced
masses mu = 1/|l|^2, vectors of length one q = l sqrt(mu) and force constants K = mu omega^2. For a molecule of N atoms
with n modes at temperature T, c_1 ... c_n >= 0 with random sum u <= 1 are drawn and the molecule is displaced by

    sum_i R_i q_i,   R_i = +- sqrt(3 c_i N k_B T / K_i),   K_i >= 1e-3 mdyn/A,   |R_i| <= 2 A,

so that the harmonic energy of mode i is (3/2) c_i N k_B T.

Source: J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017), doi:10.1039/C6SC05720A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from rutile.core.units import KB

MDYN = 6.241509074460763
"""1 mdyn/Angstrom in eV/Angstrom^2."""
SOFTEST = 1e-3
"""Smallest force constant that is used (mdyn/Angstrom)."""
LARGEST = 2.0
"""Largest displacement along one mode (Angstrom)."""
STEP = 5e-3
"""Step of finite differences (Angstrom)."""
STRAIGHT = 1e-4
"""A molecule whose smallest moment of inertia is below this part of the largest is linear."""


@dataclass(frozen=True)
class Modes:
    """Normal modes of a molecule; M = 3 N - 6 (linear molecules: 3 N - 5; atoms: 0)."""

    vectors: np.ndarray
    """[M, N, 3], each of length one."""
    constants: np.ndarray
    """Force constants (mdyn/Angstrom), [M]; negative ones where the molecule is no minimum."""


def numerical_hessian(forces: Callable[[np.ndarray], np.ndarray], positions: np.ndarray) -> np.ndarray:
    """Second derivatives of the energy (eV/Angstrom^2), [3 N, 3 N], by central differences of forces.

    Args:
        forces: positions [N, 3] (Angstrom) -> forces [N, 3] (eV/Angstrom).
        positions: [N, 3] (Angstrom).
    """
    rows = []
    for k in range(positions.size):
        step = np.zeros_like(positions)
        step.flat[k] = STEP
        rows.append((forces(positions - step) - forces(positions + step)).ravel() / (2 * STEP))
    hessian = np.array(rows)
    return np.asarray((hessian + hessian.T) / 2)


def normal_modes(atoms: Atoms, hessian: np.ndarray) -> Modes:
    """Modes of a Hessian [3 N, 3 N] (eV/Angstrom^2) without translations and rotations."""
    mass = np.repeat(atoms.get_masses(), 3)
    free = _without_rigid(atoms)  # orthonormal columns in mass-weighted coordinates
    weighted = free.T @ (hessian / np.sqrt(np.outer(mass, mass))) @ free
    squares, inner = np.linalg.eigh(weighted)
    cartesian = (free @ inner).T / np.sqrt(mass)
    reduced = 1 / (cartesian**2).sum(axis=1)
    vectors = cartesian * np.sqrt(reduced)[:, None]
    return Modes(vectors.reshape(len(squares), len(atoms), 3), reduced * squares / MDYN)


def _without_rigid(atoms: Atoms) -> np.ndarray:
    """Orthonormal basis of mass-weighted displacements that neither move nor turn the molecule, [3 N, M]."""
    root = np.sqrt(atoms.get_masses())
    x = atoms.positions - atoms.get_center_of_mass()
    rigid = [np.outer(root, axis).ravel() for axis in np.eye(3)]
    rigid += [(root[:, None] * np.cross(axis, x)).ravel() for axis in np.eye(3)]
    u, s, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    rank = int((s**2 > STRAIGHT * s[0] ** 2).sum()) if len(atoms) > 1 else 3
    return np.asarray(u[:, rank:])


def shares(modes: int, rng: np.random.Generator) -> np.ndarray:
    """c_1 ... c_n >= 0 with a sum that is even between 0 and 1, [modes]."""
    cuts = np.concatenate([[0.0], np.sort(rng.random(modes - 1)), [1.0]])
    return np.asarray(np.diff(cuts * rng.random()))


def amplitudes(c: np.ndarray, atoms: int, temperature: float, constants: np.ndarray) -> np.ndarray:
    """|R_i| (Angstrom), [M].

    Args:
        c: shares of the energy, [M].
        atoms: N.
        temperature: (K).
        constants: K_i (mdyn/Angstrom), [M].
    """
    stiff = np.maximum(constants, SOFTEST) * MDYN
    return np.asarray(np.minimum(np.sqrt(3 * c * atoms * KB * temperature / stiff), LARGEST))


def displacement(modes: Modes, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """A random displacement of all atoms (Angstrom), [N, 3]."""
    n, size = len(modes.constants), modes.vectors.shape[1]
    if n == 0:
        return np.zeros((size, 3))
    r = amplitudes(shares(n, rng), size, temperature, modes.constants) * rng.choice([-1.0, 1.0], n)
    return np.asarray(np.einsum("m,mia->ia", r, modes.vectors))
