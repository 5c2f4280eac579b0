"""Vibrations of molecules: modes, infrared intensities and free energies.

    H = d^2 E / dR dR from central differences of forces,   D = H / sqrt(m m'),   omega^2 its eigenvalues

in the space without translations and, for free molecules, rotations: 3N - 6 modes (3N - 5 of linear ones). The
displaced copies of all structures are one batch. Intensities are

    I_k = 42.2561 |d mu / d Q_k|^2 km/mol,   d mu / d Q in (D / Angstrom) / sqrt(amu),

from dipoles of the same displacements, of potentials that predict charges. Free energies are those of an ideal gas of
rigid rotors and harmonic oscillators, or of the oscillators alone where some atoms are held.

Sources: E. B. Wilson, J. C. Decius, P. C. Cross, Molecular Vibrations, McGraw-Hill (1955); D. A. McQuarrie, Statistical
Mechanics, University Science Books (2000), chapter 8. Letters of shapes: N atoms, F free atoms, M modes, S systems.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.core.units import ACCELERATION, HBAR, KB
from rutile.potentials.checks import check_structures, require_smooth
from rutile.potentials.potential import Potential
from rutile.simulate.hessian import WAVENUMBER, hessians
from rutile.simulate.md.state import masses_of
from rutile.simulate.settings import VibrationSettings
from rutile.structures.structures import Structures

PER_CM = 2 * math.pi * 2.99792458e-5
"""Angular frequency (1/fs) of a wave number of 1/cm."""
INTENSITY = 42.2561 * 4.80320471**2
"""km/mol for (e / sqrt(amu))^2."""
BAR = 6.241509074e-7
"""In eV/Angstrom^3."""
LINEAR = 1e-3
"""A molecule is linear if its smallest moment of inertia is less than this part of its largest."""


@dataclass(frozen=True)
class Vibrations:
    """The vibrations of one structure."""

    frequency: np.ndarray
    """Wave numbers in ascending order (1/cm), negative for imaginary ones, [M]."""
    modes: np.ndarray
    """Cartesian displacements, of length 1 in all, [M, N, 3]."""
    reduced_mass: np.ndarray
    """Of each mode (amu), [M]."""
    intensity: np.ndarray | None
    """Infrared (km/mol), [M]; None if the potential predicts no charges, or the structure is periodic."""
    external: float
    """Largest wave number of what was projected out (1/cm): 0 but for errors. 0 where nothing was."""
    free: bool
    """A molecule of which no atom is held: an ideal gas."""

    @property
    def quanta(self) -> np.ndarray:
        """Energies of the real modes (eV)."""
        return HBAR * PER_CM * self.frequency[self.frequency > 0]


@dataclass(frozen=True)
class FreeEnergy:
    """What is to be added to the energy of a structure."""

    zero_point: float
    """Half of the quanta (eV)."""
    enthalpy: float
    """H - E, zero-point energy included (eV)."""
    entropy: float
    """S (eV/K)."""
    gibbs: float
    """H - T S - E (eV)."""
    symmetry_number: int
    """That was used; 0 where there is no rotation."""


def vibrations(
    structures: Structures,
    potential: Potential,
    settings: VibrationSettings,
    reporter: Reporter,
    fixed: Tensor | None = None,
) -> list[Vibrations]:
    """Modes of each structure.

    Args:
        structures: at stationary points; `settings.relax` is the caller's.
        potential: gives the forces.
        settings: how atoms are displaced.
        reporter: told how far it is.
        fixed: atoms that do not vibrate, [N] bool.

    Raises:
        SettingsError: the potential is not smooth, without `rough`.
    """
    if not settings.rough:
        require_smooth(potential, "a vibrational analysis")
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    free = torch.ones(given.n_atoms, dtype=torch.bool) if fixed is None else ~fixed.cpu()
    found = hessians(given, free, potential, reporter, settings.displacement, settings.atoms_at_once)
    parts = free.split(given.counts.tolist())
    return [_modes(one, mask, *pair) for one, mask, pair in zip(given.split(), parts, found, strict=True)]


def free_energy(
    one: Structures, found: Vibrations, settings: VibrationSettings, symmetry_number: int | None = None
) -> FreeEnergy:
    """Thermodynamics of one structure; imaginary modes are left out.

    Args:
        one: the structure.
        found: its vibrations.
        settings: temperature, pressure, spin.
        symmetry_number: default: that of the settings, or what is found.
    """
    t = settings.temperature
    kt, quanta = KB * t, found.quanta
    x = quanta / kt
    zero_point = 0.5 * float(quanta.sum())
    energy = zero_point + float((quanta / np.expm1(x)).sum())
    entropy = KB * float((x / np.expm1(x) - np.log1p(-np.exp(-x))).sum())
    entropy += KB * math.log(2 * settings.spin + 1)
    number = 0
    if found.free:
        moments = np.linalg.eigvalsh(_inertia(one)[0])
        mass = float(masses_of(one).sum())
        wave = HBAR * math.sqrt(2 * math.pi * ACCELERATION / (mass * kt))  # thermal wavelength, Angstrom
        entropy += KB * (math.log(kt / (settings.gas_pressure * BAR * wave**3)) + 2.5)
        energy += 2.5 * kt  # translation and p V
        if one.n_atoms > 1:
            number = symmetry_number or settings.symmetry_number or find_symmetry_number(one)
            unit = HBAR**2 * ACCELERATION / (2 * kt)  # amu Angstrom^2
            if moments[0] < LINEAR * moments[2]:
                energy += kt
                entropy += KB * (math.log(moments[2] / unit / number) + 1)
            else:
                energy += 1.5 * kt
                entropy += KB * (math.log(math.sqrt(math.pi * np.prod(moments / unit)) / number) + 1.5)
    return FreeEnergy(zero_point, energy, entropy, energy - t * entropy, number)


def find_symmetry_number(one: Structures, tolerance: float = 0.1) -> int:
    """Number of rotations that take a molecule into itself, to within a tolerance (Angstrom)."""
    m, x, z = masses_of(one).numpy(), one.positions.double().numpy(), one.numbers.numpy()
    x = x - m @ x / m.sum()
    moments = np.linalg.eigvalsh(_inertia(one)[0])
    if one.n_atoms == 1:
        return 1
    if moments[0] < LINEAR * moments[2]:
        return 2 if _same(-x, x, z, tolerance) else 1
    a = int(np.linalg.norm(x, axis=1).argmax())
    off = np.linalg.norm(np.cross(x, x[a]), axis=1)
    b = int(off.argmax())
    here = _frame(x[a], x[b])
    turns: list[np.ndarray] = []
    like_a, like_b = (
        np.nonzero((z == z[k]) & (np.abs(np.linalg.norm(x, axis=1) - np.linalg.norm(x[k])) < tolerance))[0]
        for k in (a, b)
    )
    for i in like_a:
        for j in like_b:
            if i == j or abs(np.linalg.norm(x[i] - x[j]) - np.linalg.norm(x[a] - x[b])) > tolerance:
                continue
            turn = _frame(x[i], x[j]).T @ here
            if _same(x @ turn.T, x, z, tolerance) and all(np.abs(turn - other).max() > 1e-2 for other in turns):
                turns.append(turn)
    return max(1, len(turns))


def _modes(one: Structures, free: Tensor, hessian: Tensor, slope: Tensor | None) -> Vibrations:
    """Modes from second derivatives."""
    mass = masses_of(one)[free].sqrt().repeat_interleave(3)
    matrix = (hessian / mass / mass[:, None]).numpy()
    whole = bool(free.all())
    outer = _external(one) if whole else np.zeros((len(mass), 0))
    basis = np.linalg.svd(outer, full_matrices=True)[0] if outer.shape[1] else np.eye(len(mass))
    fixed, inner = basis[:, : outer.shape[1]], basis[:, outer.shape[1] :]
    values, vectors = np.linalg.eigh(inner.T @ matrix @ inner)
    normal = (inner @ vectors).T  # [M, 3F] mass-weighted, length 1
    moves = normal / mass.numpy()
    norms = np.linalg.norm(moves, axis=1)
    modes = np.zeros((len(values), one.n_atoms, 3))
    modes[:, free.numpy()] = (moves / norms[:, None]).reshape(len(values), len(mass) // 3, 3)
    residual = fixed.T @ matrix @ fixed
    return Vibrations(
        frequency=_wave_numbers(values),
        modes=modes,
        reduced_mass=1 / norms**2,
        intensity=None if slope is None else INTENSITY * np.square(moves @ slope.numpy()).sum(1),
        external=float(np.abs(_wave_numbers(np.linalg.eigvalsh(residual))).max()) if fixed.shape[1] else 0.0,
        free=whole and not bool(one.pbc.any()),
    )


def _wave_numbers(values: np.ndarray) -> np.ndarray:
    """From eigenvalues (eV/Angstrom^2/amu) to 1/cm."""
    return np.asarray(WAVENUMBER * np.sign(values) * np.sqrt(np.abs(values)))


def _external(one: Structures) -> np.ndarray:
    """Orthonormal mass-weighted translations, and rotations of a molecule about its main axes, [3N, 3 to 6]."""
    root = masses_of(one).sqrt().numpy()
    motions = [np.outer(root, axis).ravel() for axis in np.eye(3)]
    if not bool(one.pbc.any()) and one.n_atoms > 1:
        inertia, arms = _inertia(one)
        moments, axes = np.linalg.eigh(inertia)
        turning = axes.T[moments > LINEAR * moments[2]]
        motions += [(root[:, None] * np.cross(axis, arms)).ravel() for axis in turning]
    columns = np.array(motions).T
    return np.asarray(columns / np.linalg.norm(columns, axis=0))


def _inertia(one: Structures) -> tuple[np.ndarray, np.ndarray]:
    """Tensor of inertia (amu Angstrom^2), [3, 3], and positions from the centre of mass, [N, 3]."""
    m, x = masses_of(one).numpy(), one.positions.double().numpy()
    x = x - m @ x / m.sum()
    return np.eye(3) * (m @ (x**2).sum(1)) - (x.T * m) @ x, x


def _frame(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Orthonormal axes from two vectors, as rows."""
    first = a / np.linalg.norm(a)
    second = b - (b @ first) * first
    second /= np.linalg.norm(second)
    return np.array([first, second, np.cross(first, second)])


def _same(moved: np.ndarray, x: np.ndarray, z: np.ndarray, tolerance: float) -> bool:
    """Whether moved atoms stand where like atoms stood."""
    distance = np.linalg.norm(moved[:, None] - x[None], axis=2) + 1e9 * (z[:, None] != z[None])
    return bool((distance.min(1) < tolerance).all())
