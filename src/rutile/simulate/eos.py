"""Energy as a function of volume, and the Birch-Murnaghan equation of state through it.

    E(V) = E0 + (9 V0 B / 16) [ 2 (eta - 1)^2 + (B' - 4) (eta - 1)^3 ],   eta = (V0 / V)^(2/3)

is the general polynomial of third degree in V^(-2/3), so that its fit is linear and has one answer.

Sources: F. Birch, Phys. Rev. 71, 809 (1947), doi:10.1103/PhysRev.71.809; F. D. Murnaghan, Proc. Natl. Acad. Sci. 30,
244 (1944), doi:10.1073/pnas.30.9.244. Letters of shapes: S systems, K volumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.potentials.checks import check_structures
from rutile.potentials.potential import Potential
from rutile.simulate.forces import evaluate_many
from rutile.simulate.relax import relax
from rutile.simulate.settings import EosSettings, PropertySettings
from rutile.simulate.start import relaxation
from rutile.structures.structures import Structures, concatenate

NEAR = 1.1
"""A minimum is believed within the range of (V0/V)^(2/3) widened by this factor."""


@dataclass(frozen=True)
class BirchMurnaghan:
    """An equation of state of third order."""

    volume: float
    """V0, where the energy is lowest (Angstrom^3)."""
    energy: float
    """E0 (eV)."""
    bulk: float
    """Bulk modulus B at V0 (eV/Angstrom^3)."""
    slope: float
    """B', its derivative by pressure (dimensionless)."""
    residual: float = 0.0
    """Root mean square of what the fit leaves (eV)."""
    scatter: float = 0.0
    """The same as a part of the range of the energies (dimensionless)."""

    def energy_at(self, volume: np.ndarray) -> np.ndarray:
        """Energies (eV) at volumes (Angstrom^3), of any shape."""
        x = (self.volume / np.asarray(volume)) ** (2 / 3) - 1
        return self.energy + 9 / 16 * self.volume * self.bulk * (2 * x**2 + (self.slope - 4) * x**3)


@dataclass(frozen=True)
class EosResult:
    """Energies by volume, and the fits."""

    volume: Tensor
    """[S, K] (Angstrom^3)."""
    energy: Tensor
    """[S, K] (eV)."""
    pressure: Tensor
    """Minus the mean of the diagonal of the stress, [S, K] (eV/Angstrom^3)."""
    structures: tuple[Structures, ...]
    """The K relaxed structures of each system, [S]."""
    fit: tuple[BirchMurnaghan | None, ...]
    """[S]; None where there is none."""
    failure: tuple[str, ...]
    """Why there is no fit, or that the minimum lies outside the volumes; "" where all is well, [S]."""


def equation_of_state(
    structures: Structures, potential: Potential, settings: EosSettings, reporter: Reporter
) -> EosResult:
    """Energies of all structures at all volumes in one batch, and an equation of state for each structure.

    Args:
        structures: crystals, best at their minimum; `settings.relax` is the caller's.
        potential: gives energies and forces.
        settings: volumes, and what relaxes at each.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
    """
    ratios = np.linspace(1 - settings.span, 1 + settings.span, settings.points)
    return scan_volumes(structures, potential, ratios, settings, settings.inner, reporter)


def scan_volumes(
    structures: Structures,
    potential: Potential,
    ratios: np.ndarray,
    settings: PropertySettings,
    inner: Literal["none", "atoms", "shape"],
    reporter: Reporter,
) -> EosResult:
    """`equation_of_state` with any volumes.

    Args:
        structures: crystals.
        potential: gives energies and forces.
        ratios: volumes, in units of that of each structure, [K].
        settings: limits of the relaxations, size of batches.
        inner: what relaxes at each volume.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
    """
    require_crystals(structures, "an equation of state")
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    scaled = at_volumes(given, ratios)
    failures = [""] * scaled.n_systems
    if inner == "none":
        p = evaluate_many(scaled, potential, settings.atoms_at_once, reporter, "Volumes")
        energy, stress = p.energy, p.stress
    else:
        how = relaxation(settings, "volume" if inner == "shape" else "none")
        done = relax(scaled, potential, how, reporter)
        scaled, energy, stress, failures = done.structures, done.energy, done.stress, list(done.failure)
    shape = (given.n_systems, len(ratios))
    volume, energy = scaled.volume.view(shape), energy.view(shape)
    parts = [failures[k : k + shape[1]] for k in range(0, len(failures), shape[1])]
    fits = [_fit(*three) for three in zip(volume, energy, parts, strict=True)]
    singles = scaled.split()
    return EosResult(
        volume,
        energy,
        -stress.diagonal(dim1=1, dim2=2).mean(1).view(shape),
        tuple(concatenate(singles[s * shape[1] : (s + 1) * shape[1]]) for s in range(shape[0])),
        tuple(fit for fit, _ in fits),
        tuple(reason for _, reason in fits),
    )


def at_volumes(structures: Structures, ratios: np.ndarray) -> Structures:
    """Each structure scaled to each ratio of volumes [K]; those of the first structure come first."""
    lengths = torch.as_tensor(ratios, dtype=torch.float64) ** (1 / 3)
    return concatenate(
        one.replace(positions=one.positions * s, cell=one.cell * s) for one in structures.split() for s in lengths
    )


def fit_birch_murnaghan(volume: np.ndarray, energy: np.ndarray) -> BirchMurnaghan:
    """The equation of state through points, by least squares.

    Args:
        volume: [K] (Angstrom^3), at least four different ones.
        energy: [K] (eV).

    Raises:
        GeometryError: the energy has no minimum over volume.
    """
    reference, mean = float(np.mean(volume)), float(np.mean(energy))
    x = (reference / np.asarray(volume)) ** (2 / 3)
    c = np.polynomial.Polynomial.fit(x, np.asarray(energy) - mean, 3)
    curvature, zeros = c.deriv(2), np.asarray(c.deriv().roots(), dtype=complex)
    real = [float(r.real) for r in zeros if abs(r.imag) < 1e-12 and r.real > 0]
    low, high = float(x.min()) / NEAR, float(x.max()) * NEAR
    roots = [r for r in real if float(curvature(r)) > 0 and low < r < high]
    if not roots:
        raise GeometryError("the energy has no minimum near these volumes; begin with a structure near its minimum")
    x0 = roots[0]
    volume0 = reference * x0**-1.5
    bulk = float(4 / 9 * x0**2 * curvature(x0) / volume0)
    slope = 4 + 16 / 9 * float(c.convert().coef[3]) * x0**3 / (bulk * volume0)
    residual = float(np.sqrt(np.mean((c(x) + mean - energy) ** 2)))
    scatter = residual / max(float(np.ptp(energy)), 1e-12)
    return BirchMurnaghan(float(volume0), float(c(x0)) + mean, bulk, slope, residual, scatter)


def require_crystals(structures: Structures, what: str, names: Sequence[str] = ()) -> None:
    """Refuse structures that are not periodic in three directions.

    Args:
        structures: the batch.
        what: is computed, such as "a melting point".
        names: of the structures, for the message; default: their numbers.

    Raises:
        GeometryError: names the first.
    """
    open_ones = (~structures.pbc.all(1)).nonzero().flatten().tolist()
    if open_ones:
        raise GeometryError(
            f"{what} is of crystals: {names[open_ones[0]] if names else f'structure {open_ones[0]}'} is periodic along "
            f"{int(structures.pbc[open_ones[0]].sum())} of 3 directions"
        )


def _fit(volume: Tensor, energy: Tensor, failures: list[str]) -> tuple[BirchMurnaghan | None, str]:
    """The fit of one structure, and what is wrong with it."""
    if any(failures):
        return None, next(f for f in failures if f)
    try:
        fit = fit_birch_murnaghan(volume.numpy(), energy.numpy())
    except GeometryError as error:
        return None, str(error)
    if not volume.min() <= fit.volume <= volume.max():
        return fit, (
            f"the minimum, {fit.volume:.3f} Å³, lies outside {volume.min():.3f} to {volume.max():.3f} Å³: "
            "extrapolated; relax the structure (relax=true) or make span larger"
        )
    return fit, ""
