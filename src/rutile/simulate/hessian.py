"""Second derivatives of the energy by displacing atoms, all displacements as one batch, and vibrations from them.

Letters of shapes: N atoms, F atoms that move.
"""

from __future__ import annotations

import math

import torch
from ase.data import atomic_masses
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.core.units import ACCELERATION
from rutile.potentials.potential import Potential
from rutile.simulate.forces import evaluate_many
from rutile.structures.structures import Structures, concatenate

STEP = 0.01
"""Displacement of finite differences (Angstrom)."""
WAVENUMBER = math.sqrt(ACCELERATION) / (2 * math.pi * 2.99792458e-5)
"""Square root of 1 eV/Angstrom^2/amu as a wave number (1/cm)."""


def hessian(
    structure: Structures,
    potential: Potential,
    reporter: Reporter,
    fixed: Tensor | None = None,
    step: float = STEP,
    atoms_at_once: int = 2000,
) -> Tensor:
    """Second derivatives of the energy (eV/Angstrom^2), symmetric, [3 F, 3 F], by central differences of forces.

    Args:
        structure: one structure.
        potential: gives the forces.
        reporter: told how far it is.
        fixed: atoms that stay, [N] bool.
        step: displacement (Angstrom).
        atoms_at_once: displaced structures are evaluated together up to so many atoms.

    Raises:
        GeometryError: the structure cannot be evaluated.
    """
    one = structure.to(dtype=torch.float64, device="cpu")
    free = torch.arange(one.n_atoms) if fixed is None else (~fixed).nonzero().squeeze(1)
    moved = []
    for atom in free.tolist():
        for direction in range(3):
            for sign in (1.0, -1.0):
                positions = one.positions.clone()
                positions[atom, direction] += sign * step
                moved.append(one.replace(positions=positions))
    if not moved:
        return torch.zeros(0, 0, dtype=torch.float64)
    forces = evaluate_many(concatenate(moved), potential, atoms_at_once, reporter, "Displacing").forces
    forces = forces.reshape(3 * len(free), 2, one.n_atoms, 3)[:, :, free].flatten(2)
    rows = (forces[:, 1] - forces[:, 0]) / (2 * step)
    return 0.5 * (rows + rows.T)


def wave_numbers(second: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Harmonic wave numbers (1/cm), ascending, negative for imaginary ones, [3 F], and the motions, [3 F, F, 3].

    Translations and rotations are among them, near 0.

    Args:
        second: second derivatives of the energy (eV/Angstrom^2), [3 F, 3 F].
        numbers: atomic numbers, [F].

    Returns:
        Wave numbers, and for each how far the atoms move (Angstrom), of length 1.
    """
    root = torch.as_tensor(atomic_masses)[numbers].repeat_interleave(3).sqrt()
    squares, vectors = torch.linalg.eigh(second / root[:, None] / root)
    motions = (vectors / root[:, None]).T
    motions = motions / motions.norm(dim=1, keepdim=True).clamp(min=1e-300)
    return WAVENUMBER * squares.sign() * squares.abs().sqrt(), motions.reshape(len(root), -1, 3)
