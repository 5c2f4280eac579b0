"""The Birch-Murnaghan equation of state, without torch.

    E(V) = E0 + (9 V0 B / 16) [ 2 (eta - 1)^2 + (B' - 4) (eta - 1)^3 ],   eta = (V0 / V)^(2/3)

is the general polynomial of third degree in V^(-2/3), so that its fit is linear and has one answer.

Sources: F. Birch, Phys. Rev. 71, 809 (1947), doi:10.1103/PhysRev.71.809; F. D. Murnaghan, Proc. Natl. Acad. Sci. 30,
244 (1944), doi:10.1073/pnas.30.9.244.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rutile.core.errors import GeometryError

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
