"""Elastic constants from the stress of strained cells, mechanical stability, and averages over polycrystals.

    C_ij = d sigma_i / d epsilon_j,   i, j in the order xx yy zz yz xz xy,   epsilon_yz = 2 e_yz,

by central differences, atoms relaxed in each strained cell. A crystal without stress is stable where the eigenvalues
of C are positive (for cubic ones: C11 > |C12|, C11 + 2 C12 > 0, C44 > 0). With S = C^-1

    B_V = [C11 + C22 + C33 + 2 (C12 + C13 + C23)] / 9,     G_V = [C11 + C22 + C33 - C12 - C13 - C23
                                                                 + 3 (C44 + C55 + C66)] / 15,
    1 / B_R = S11 + S22 + S33 + 2 (S12 + S13 + S23),       15 / G_R = 4 (S11 + S22 + S33 - S12 - S13 - S23)
                                                                 + 3 (S44 + S55 + S66),

and Hill's values are the means of Voigt's and Reuss's.

Sources: F. Mouhat and F.-X. Coudert, Phys. Rev. B 90, 224104 (2014), doi:10.1103/PhysRevB.90.224104 (stability);
R. Hill, Proc. Phys. Soc. A 65, 349 (1952), doi:10.1088/0370-1298/65/5/307; S. I. Ranganathan and M. Ostoja-Starzewski,
Phys. Rev. Lett. 101, 055504 (2008), doi:10.1103/PhysRevLett.101.055504 (anisotropy); O. L. Anderson, J. Phys. Chem.
Solids 24, 909 (1963), doi:10.1016/0022-3697(63)90067-2 (Debye temperature). Letters of shapes: S systems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.core.units import ACCELERATION, HBAR, KB
from rutile.potentials.checks import check_structures
from rutile.potentials.evaluate import VOIGT
from rutile.potentials.potential import Potential
from rutile.simulate.eos import require_crystals
from rutile.simulate.forces import evaluate_many
from rutile.simulate.md.state import masses_of
from rutile.simulate.relax import relax
from rutile.simulate.settings import ElasticSettings
from rutile.simulate.start import relaxation
from rutile.structures.structures import Structures, concatenate
from rutile.structures.symmetry import SYMPREC


@dataclass(frozen=True)
class ElasticResult:
    """Elastic tensors."""

    tensor: Tensor
    """C (eV/Angstrom^3), symmetric, [S, 6, 6]."""
    raw: Tensor
    """As it came from the differences, before any average, [S, 6, 6]."""
    stress: Tensor
    """Of the cells that were strained (eV/Angstrom^3), [S, 3, 3]; C describes small strains only where it is near 0."""
    failure: tuple[str, ...]
    """Why the tensor of a structure is not to be used, [S]; "" where it is."""


@dataclass(frozen=True)
class Polycrystal:
    """Averages over all orientations of a crystal; moduli in eV/Angstrom^3."""

    bulk_voigt: float
    """B_V."""
    bulk_reuss: float
    """B_R."""
    shear_voigt: float
    """G_V."""
    shear_reuss: float
    """G_R."""

    @property
    def bulk(self) -> float:
        """Hill's bulk modulus."""
        return 0.5 * (self.bulk_voigt + self.bulk_reuss)

    @property
    def shear(self) -> float:
        """Hill's shear modulus."""
        return 0.5 * (self.shear_voigt + self.shear_reuss)

    @property
    def young(self) -> float:
        """Young's modulus, 9 B G / (3 B + G)."""
        return 9 * self.bulk * self.shear / (3 * self.bulk + self.shear)

    @property
    def poisson(self) -> float:
        """Poisson's ratio, (3 B - 2 G) / (6 B + 2 G)."""
        return (3 * self.bulk - 2 * self.shear) / (6 * self.bulk + 2 * self.shear)

    @property
    def anisotropy(self) -> float:
        """The universal index, 5 G_V / G_R + B_V / B_R - 6: 0 where all directions are alike."""
        return 5 * self.shear_voigt / self.shear_reuss + self.bulk_voigt / self.bulk_reuss - 6


def elastic_tensor(
    structures: Structures, potential: Potential, settings: ElasticSettings, reporter: Reporter
) -> ElasticResult:
    """Elastic tensors of all structures from one batch of strained cells.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives forces and stress.
        settings: size of the strain, whether atoms relax, whether to average over the point group.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
    """
    require_crystals(structures, "an elastic tensor")
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    strained = concatenate(_strained(one, e) for one in given.split() for e in _strains(settings.strain))
    failures = [""] * strained.n_systems
    if settings.inner == "atoms":
        done = relax(strained, potential, relaxation(settings), reporter)
        stress, failures = done.stress, list(done.failure)
        for k in (~done.converged).nonzero().flatten().tolist():
            failures[k] = failures[k] or f"atoms of a strained cell are not relaxed after {settings.max_steps} steps"
    else:
        stress = evaluate_many(strained, potential, settings.atoms_at_once, reporter, "Strains").stress
    start = evaluate_many(given, potential, settings.atoms_at_once, reporter, "Start").stress
    rows, columns = zip(*VOIGT, strict=True)
    sigma = stress[:, rows, columns].view(-1, 6, 2, 6)  # [S, strain, sign, component]
    raw = ((sigma[:, :, 0] - sigma[:, :, 1]) / (2 * settings.strain)).mT
    tensor = 0.5 * (raw + raw.mT)
    if settings.symmetry:
        tensor = torch.stack([_averaged(c, one) for c, one in zip(tensor, given.split(), strict=True)])
    reasons = tuple(next((f for f in failures[12 * s : 12 * s + 12] if f), "") for s in range(given.n_systems))
    return ElasticResult(tensor, raw, start, reasons)


def stability(tensor: Tensor) -> Tensor:
    """Eigenvalues of C in ascending order, in Mandel's form where they do not depend on the axes, [..., 6]."""
    weight = torch.tensor([1.0, 1.0, 1.0, *[math.sqrt(2.0)] * 3], dtype=tensor.dtype)
    values: Tensor = torch.linalg.eigvalsh(tensor * weight * weight[:, None])
    return values


def polycrystal(tensor: Tensor) -> Polycrystal:
    """Averages of one tensor C, [6, 6]; meaningless where the crystal is not stable."""

    def sums(c: Tensor) -> tuple[float, float, float]:
        return float(c[:3, :3].trace()), float(c[0, 1] + c[0, 2] + c[1, 2]), float(c[3:, 3:].trace())

    straight, mixed, shear = sums(tensor)
    soft, soft_mixed, soft_shear = sums(torch.linalg.inv(tensor))
    return Polycrystal(
        (straight + 2 * mixed) / 9,
        1 / (soft + 2 * soft_mixed),
        (straight - mixed + 3 * shear) / 15,
        15 / (4 * (soft - soft_mixed) + 3 * soft_shear),
    )


def young_along(tensor: Tensor, directions: Tensor) -> Tensor:
    """Young's modulus E of a single crystal pulled along directions, in the unit of C, [M].

    1/E(n) = n n : S : n n (J. F. Nye, Physical Properties of Crystals, Oxford 1985, chapter VIII).

    Args:
        tensor: C of a stable crystal, [6, 6].
        directions: unit vectors, [M, 3].
    """
    rows, columns = zip(*VOIGT, strict=True)
    pull = directions[:, rows] * directions[:, columns]  # a stress of 1 along n
    return 1 / torch.einsum("ma,ab,mb->m", pull, torch.linalg.inv(tensor), pull)


def sound(mean: Polycrystal, structure: Structures) -> tuple[float, float, float]:
    """Speeds of sound (km/s), along and across, and the Debye temperature (K), of a polycrystal without pores."""
    volume, n = float(structure.volume[0]), structure.n_atoms
    density = float(masses_of(structure).sum()) / volume  # amu/Angstrom^3
    along, across = (
        math.sqrt(max(m, 0.0) * ACCELERATION / density)  # Angstrom/fs
        for m in (mean.bulk + 4 / 3 * mean.shear, mean.shear)
    )
    if not along or not across:
        return 100 * along, 100 * across, 0.0
    speed = ((across**-3 * 2 + along**-3) / 3) ** (-1 / 3)
    debye = HBAR / KB * speed * (6 * math.pi**2 * n / volume) ** (1 / 3)
    return 100 * along, 100 * across, debye


def rotations(structure: Structures) -> np.ndarray:
    """Operations of the point group of a crystal in Cartesian coordinates (x' = R x), [M, 3, 3]."""
    cell = structure.cell[0].numpy()
    fractional = structure.positions.numpy() @ np.linalg.inv(cell)
    crystal: Any = (cell, fractional, structure.numbers.numpy())
    found = spglib.get_symmetry(crystal, symprec=SYMPREC)
    if found is None:
        return np.eye(3)[None]
    operations = np.unique(found["rotations"], axis=0)
    return np.asarray(np.einsum("ia,mij,bj->mab", cell, operations, np.linalg.inv(cell)))


def _averaged(tensor: Tensor, structure: Structures) -> Tensor:
    """The part of a tensor [6, 6] that the crystal's operations leave as it is."""
    place = torch.tensor([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
    full = tensor[place[:, :, None, None], place[None, None]]  # [3, 3, 3, 3]
    turn = torch.as_tensor(rotations(structure))
    mean = torch.einsum("mai,mbj,mck,mdl,ijkl->abcd", turn, turn, turn, turn, full) / len(turn)
    rows, columns = (torch.tensor(x) for x in zip(*VOIGT, strict=True))
    return mean[rows[:, None], columns[:, None], rows, columns]


def _strains(size: float) -> list[Tensor]:
    """Both signs of the six strains, as symmetric matrices."""
    out = []
    for a, b in VOIGT:
        e = torch.zeros(3, 3, dtype=torch.float64)
        e[a, b] += 0.5 * size
        e[b, a] += 0.5 * size
        out += [e, -e]
    return out


def _strained(one: Structures, strain: Tensor) -> Structures:
    """A structure under a strain."""
    deform = torch.eye(3, dtype=torch.float64) + strain
    return one.replace(positions=one.positions @ deform, cell=one.cell @ deform)
