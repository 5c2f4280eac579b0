"""Second derivatives of the energy by displacing atoms, all displacements as one batch, and vibrations from them.

Letters of shapes: N atoms, F atoms that move, S systems.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from ase.data import atomic_masses
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.core.units import ACCELERATION
from rutile.potentials.potential import Potential
from rutile.simulate.dipoles import dipoles
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
    free = torch.ones(one.n_atoms, dtype=torch.bool) if fixed is None else ~fixed
    return hessians(one, free, potential, reporter, step, atoms_at_once)[0][0]


def hessians(
    structures: Structures,
    free: Tensor,
    potential: Potential,
    reporter: Reporter,
    step: float = STEP,
    atoms_at_once: int = 2000,
) -> list[tuple[Tensor, Tensor | None]]:
    """Second derivatives of the energy of each structure, and first ones of its dipole, for its free atoms.

    The former are symmetric, [3F, 3F] (eV/Angstrom^2); the latter [3F, 3] (e), or None.

    Args:
        structures: at stationary points, float64.
        free: atoms that are displaced, [N] bool.
        potential: gives forces, and maybe charges.
        reporter: told how far it is.
        step: displacement (Angstrom).
        atoms_at_once: displaced structures are evaluated together up to so many atoms.

    Raises:
        GeometryError: a structure cannot be evaluated.
    """
    out: list[tuple[Tensor, Tensor | None]] = []
    atoms = [torch.nonzero(mask).flatten() for mask in free.split(structures.counts.tolist())]
    singles = structures.split()
    if not bool(free.any()):
        return [(torch.zeros(0, 0, dtype=torch.float64), None) for _ in singles]
    moved = concatenate(m for one, which in zip(singles, atoms, strict=True) for m in _moved(one, which, step))
    forces = evaluate_many(moved, potential, atoms_at_once, reporter, "Displacing").forces
    moments = dipoles(moved, potential, atoms_at_once)
    f_end = s_end = 0
    for one, which in zip(singles, atoms, strict=True):
        n, m = one.n_atoms, 3 * len(which)
        mine = forces[f_end : (f_end := f_end + 2 * m * n)].view(m, 2, n, 3)[:, :, which]
        rows = ((mine[:, 1] - mine[:, 0]) / (2 * step)).reshape(m, m)
        slope = None
        if moments is not None and not bool(one.pbc.any()):
            pair = moments[s_end : s_end + 2 * m].view(m, 2, 3)
            slope = (pair[:, 0] - pair[:, 1]) / (2 * step)
        s_end += 2 * m
        out.append((0.5 * (rows + rows.mT), slope))
    return out


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


def _moved(one: Structures, atoms: Tensor, step: float) -> Iterator[Structures]:
    """Copies with one of the atoms moved by the step forth and back along each axis, in the order atom, axis, sign."""
    for atom in atoms.tolist():
        for axis in range(3):
            for move in (step, -step):
                positions = one.positions.clone()
                positions[atom, axis] += move
                yield one.replace(positions=positions)
