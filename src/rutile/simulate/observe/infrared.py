"""Infrared spectra from the flux of the dipole moment along trajectories.

    alpha(w) n(w) = beta / (6 c V eps0)  int <M'(0) . M'(t)> exp(-i w t) dt,      M' = dM/dt = sum_i Z*_i v_i

with the harmonic quantum correction, beta hbar w / (1 - exp(-beta hbar w)), in it: a harmonic mode has the intensity of
its static derivative, I = N_A |dM/dQ|^2 / (12 eps0 c^2), whatever the temperature. The flux needs no moments, which
crystals do not have (R. D. King-Smith and D. Vanderbilt, Phys. Rev. B 47, 1651 (1993),
doi:10.1103/PhysRevB.47.1651). The correlation is over all time origins, cut by a window, and filled up with zeros.

Sources: R. Ramirez, T. Lopez-Ciudad, P. Kumar P and D. Marx, J. Chem. Phys. 121, 3973 (2004), doi:10.1063/1.1774986;
M. Thomas et al., Phys. Chem. Chem. Phys. 15, 6608 (2013), doi:10.1039/C3CP44302G. Letters of shapes: F frames, N atoms,
L wave numbers, B blocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from ase.data import atomic_masses
from scipy.signal import find_peaks

from rutile.core.errors import DataError
from rutile.core.units import ACCELERATION, COULOMB, KB
from rutile.simulate.dipoles import Polar, dipole_flux
from rutile.simulate.observe.trajectory import Trajectory
from rutile.simulate.observe.transport import (
    BLOCKS,
    SPEED_OF_LIGHT,
    correlation,
    velocities_of,
    window_length,
    windowed_spectrum,
)
from rutile.structures.structures import Structures, concatenate

FEWEST = 64
"""Frames that a spectrum needs, at least."""
FACTOR = 4 * math.pi * COULOMB / (6 * SPEED_OF_LIGHT * 1e8)
"""1 / (6 c eps0) for moments in e Angstrom: eV fs (e^-2)."""
KM_PER_MOL = 602.214076
"""1 Angstrom^2 in km/mol per 1/cm."""
PER_CM = 1e8
"""1/Angstrom in 1/cm."""
STRAIGHT = 1e-3
"""Atoms whose spread across a line is below this part of that along it lie on it (dimensionless)."""
STRONG = 0.01
"""Peaks are named if they rise by this part of the highest above what is beside them."""


@dataclass(frozen=True)
class Peak:
    """A maximum of a spectrum."""

    wave_number: float
    """(1/cm)."""
    error: float | None
    """Its standard error, from blocks (1/cm)."""
    height: float
    """In the unit of the spectrum."""
    area: float
    """Integral from the minimum before it to the one after it (unit of the spectrum times 1/cm)."""


@dataclass(frozen=True)
class Infrared:
    """A spectrum."""

    wave: np.ndarray
    """Wave numbers (1/cm), [L]."""
    absorption: np.ndarray
    """km/mol per 1/cm for each system that is not periodic; else alpha n (1/cm), [L]."""
    std: np.ndarray | None
    """Standard error, from blocks, [L]; None: too short for two blocks."""
    resolution: float
    """That the length of the trajectory allows, or that was asked for (1/cm)."""
    blocks: int
    """That the error comes from."""
    peaks: tuple[Peak, ...]
    """From low to high wave numbers."""


def flux(trajectory: Trajectory, polar: Polar, atoms_at_once: int = 2000) -> np.ndarray:
    """Flux d M / dt along a trajectory, in the frame of its centre of mass (e Angstrom/fs), [F, 3].

    Args:
        trajectory: velocities are those recorded, or differences of positions.
        polar: how moments follow atoms.
        atoms_at_once: frames are worked on together up to so many atoms.

    Raises:
        GeometryError: a frame cannot be evaluated.
    """
    mass = atomic_masses[trajectory.numbers]
    speed = velocities_of(trajectory).astype(float)
    speed = speed - np.einsum("n,fna->fa", mass, speed)[:, None] / mass.sum()
    together = max(1, atoms_at_once // max(1, len(mass)))
    out = []
    for first in range(0, len(trajectory), together):
        part = slice(first, first + together)
        batch = concatenate(
            Structures.from_arrays(trajectory.numbers, x.astype(float), cell, trajectory.pbc)
            for x, cell in zip(trajectory.positions[part], trajectory.cell[part], strict=True)
        )
        velocities = torch.from_numpy(np.ascontiguousarray(speed[part].reshape(-1, 3)))
        out.append(dipole_flux(batch, velocities, polar).cpu().numpy())
    return np.concatenate(out)


def kinetic_temperature(trajectory: Trajectory) -> float:
    """Mean temperature of the motion relative to the centre of mass (K).

    A molecule does not turn as a whole; one whose atoms lie on a line in the first frame has 3N - 5 degrees of freedom.
    """
    mass, v = atomic_masses[trajectory.numbers], velocities_of(trajectory)
    v = v - np.einsum("n,fna->fa", mass, v)[:, None] / mass.sum()
    kinetic = 0.5 / ACCELERATION * np.einsum("n,fna,fna->f", mass, v, v).mean()
    n = len(mass)
    dof = 3 * n - 3 if trajectory.pbc.any() or n < 2 else 3 * n - (5 if _on_a_line(trajectory.positions[0]) else 6)
    return float(2 * kinetic / (KB * max(dof, 1)))


def _on_a_line(positions: np.ndarray) -> bool:
    """Whether atoms [N, 3] (Angstrom) lie on a line."""
    width = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)
    return bool(width[1] < STRAIGHT * width[0])


def infrared(
    moving: np.ndarray,
    interval: float,
    temperature: float,
    volume: float | None,
    resolution: float = 10.0,
    window: Literal["hann", "blackman"] = "hann",
) -> Infrared:
    """The spectrum of a flux.

    Args:
        moving: d M / dt (e Angstrom/fs), [F, 3].
        interval: time from frame to frame (fs).
        temperature: of the trajectory (K).
        volume: of the cell (Angstrom^3); None: of a molecule.
        resolution: wanted (1/cm).
        window: on the correlation.

    Raises:
        DataError: too few frames, or nothing that moves is charged.
    """
    if len(moving) < FEWEST:
        raise DataError(f"{len(moving)} frames are too few for an infrared spectrum: at least {FEWEST}")
    if not np.abs(moving).max() > 0:
        raise DataError("the dipole moment does not change along the trajectory: it has no infrared spectrum")
    scale = FACTOR / (KB * temperature) * (PER_CM / volume if volume else KM_PER_MOL)
    length = window_length(len(moving), interval, resolution)
    reached = 1.0 / (length * interval * SPEED_OF_LIGHT)
    wave, found = windowed_spectrum(correlation(moving), interval, length, window)
    found = scale * found
    n = min(BLOCKS, len(moving) // (2 * length))
    std, parts = None, np.zeros((0, len(wave)))
    if n >= 2:
        size = len(moving) // n
        each = [moving[k * size : (k + 1) * size] for k in range(n)]
        parts = scale * np.array([windowed_spectrum(correlation(b), interval, length, window)[1] for b in each])
        std = parts.std(axis=0, ddof=1) / n**0.5
    return Infrared(wave, found, std, reached, max(n, 1), peaks(wave, found, parts, reached))


def peaks(wave: np.ndarray, found: np.ndarray, parts: np.ndarray, width: float) -> tuple[Peak, ...]:
    """Maxima of a spectrum.

    Args:
        wave: evenly spaced (1/cm), [L].
        found: the spectrum, [L].
        parts: of each block, [B, L]; for errors.
        width: maxima of blocks are looked for so far from those of the whole (1/cm).
    """
    places, _ = find_peaks(found.clip(min=0), prominence=STRONG * found.max())  # windows leave dips beside lines
    step, out = wave[1] - wave[0], []
    for k, place in enumerate(places):
        low = places[k - 1] if k else 0
        high = places[k + 1] if k + 1 < len(places) else len(found) - 1
        first = low + int(found[low : place + 1].argmin())
        last = place + int(found[place : high + 1].argmin())
        at = wave[place] + step * _offset(found[place - 1 : place + 2])
        near = slice(max(0, int(place - width / step)), int(place + width / step) + 1)
        theirs = [_highest(part, near) * step for part in parts]
        error = float(np.std(theirs, ddof=1) / len(theirs) ** 0.5) if len(theirs) > 1 else None
        area = float(np.trapezoid(found[first : last + 1], wave[first : last + 1]))
        out.append(Peak(float(at), error, float(found[place]), area))
    return tuple(out)


def _highest(part: np.ndarray, near: slice) -> float:
    """Where the highest value of a part of a curve is, in steps, between them if its neighbours say so."""
    place = near.start + int(part[near].argmax())
    return place + _offset(part[place - 1 : place + 2]) if 0 < place < len(part) - 1 else float(place)


def _offset(three: np.ndarray) -> float:
    """Where the parabola through three points has its maximum, from the middle one, in steps."""
    before, middle, after = three.tolist()
    bend = before - 2 * middle + after
    return 0.5 * (before - after) / bend if bend else 0.0
