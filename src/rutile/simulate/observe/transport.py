"""Motion: mean-square displacement, diffusion, conductivity, velocities and their spectrum.

Correlations are over all time origins, by fast Fourier transforms (G. R. Kneller et al., Comput. Phys. Commun. 91, 191
(1995), doi:10.1016/0010-4655(95)00048-K). Letters of shapes: F frames, N atoms, L time lags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import atomic_masses
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.integrate import cumulative_trapezoid

from rutile.core.errors import DataError
from rutile.core.units import KB
from rutile.simulate.observe.trajectory import Trajectory

BLOCKS = 5
"""Parts of a trajectory whose results are compared for error bars."""
FIT = (0.2, 0.6)
"""Part of a block's length over which the mean-square displacement is fitted."""
LEAST = 10
"""Frames in a block, at least."""
DIFFUSIVE = 0.8
"""Least exponent of the mean-square displacement over time that is called diffusion."""
CM2_PER_S = 0.1
"""1 Angstrom^2/fs in cm^2/s."""
SIEMENS_PER_M = 1.602176634e-19 * 1e10 * 1e15
"""1 e/(V fs Angstrom) in S/m."""
SPEED_OF_LIGHT = 2.99792458e-5
"""cm/fs."""
MPA_S = 160.21766208 * 1e-3
"""1 eV fs/Angstrom^3 in mPa s."""


def without_drift(trajectory: Trajectory) -> np.ndarray:
    """Positions relative to the centre of mass (Angstrom), [F, N, 3]."""
    mass = atomic_masses[trajectory.numbers]
    centre = np.einsum("n,fna->fa", mass, trajectory.positions) / mass.sum()
    return np.asarray(trajectory.positions - centre[:, None])


def correlation(a: np.ndarray) -> np.ndarray:
    """Sum over the other axes of <a(0) a(t)>, over all origins, [F, ...] -> [F]."""
    flat = a.reshape(len(a), -1)
    size = next_fast_len(2 * len(a), real=True)
    power = np.zeros(size // 2 + 1)
    for part in np.array_split(flat, max(1, flat.size // 4_000_000), axis=1):
        power += (np.abs(rfft(part, size, axis=0)) ** 2).sum(axis=1)
    return np.asarray(irfft(power, size)[: len(a)] / np.arange(len(a), 0, -1))


def mean_square_displacement(positions: np.ndarray) -> np.ndarray:
    """Mean over atoms and origins of |R(t0 + t) - R(t0)|^2 (Angstrom^2) for lags of 0, 1, ... frames, [F]."""
    moved = positions - positions.mean(axis=0)
    square = (moved**2).sum(axis=(1, 2))
    frames = len(square)
    head = np.concatenate([[0.0], np.cumsum(square)])  # sums of the first k
    lag = np.arange(frames)
    both = head[frames - lag] + head[frames] - head[lag]
    found = both / (frames - lag) - 2 * correlation(moved)
    return np.asarray(np.maximum(found, 0.0) / positions.shape[1])


@dataclass(frozen=True)
class Diffusion:
    """How fast some atoms spread."""

    lag: np.ndarray
    """(fs), [L]."""
    msd: np.ndarray
    """Mean-square displacement (Angstrom^2), [L]."""
    coefficient: float
    """D (cm^2/s)."""
    std: float
    """Its standard error (cm^2/s), from blocks."""
    fit: tuple[float, float]
    """Lags of the fit (fs)."""
    intercept: float
    """Of the fitted line (Angstrom^2)."""
    exponent: float
    """d ln msd / d ln t over the fit: 1 in diffusion, below 1 where atoms rattle in place."""

    @property
    def doubt(self) -> str:
        """Why D is not that of atoms that diffuse, so that nothing may be made of it; "": it is."""
        if self.exponent < DIFFUSIVE:
            return "not diffusive yet: a longer trajectory would say more"
        return (
            "" if self.coefficient > self.std else "not positive beyond its error: a longer trajectory would say more"
        )


def diffusion(trajectory: Trajectory, which: np.ndarray, axes: Sequence[int] = (0, 1, 2)) -> Diffusion:
    """Diffusion coefficient by Einstein: slope of the mean-square displacement over 2 d, in d dimensions.

    The trajectory is cut into `BLOCKS` parts; lags from 0.2 to 0.6 of a part are fitted, in the whole and in each part,
    whose spread gives the error. The drift of the centre of mass is taken out.

    Args:
        trajectory: evenly spaced frames.
        which: atoms, [N] bool.
        axes: directions that count.

    Raises:
        DataError: the trajectory is too short, or no atom is chosen.
    """
    if not which.any():
        raise DataError("no atoms of that kind in the trajectory")
    length = len(trajectory) // BLOCKS
    if length < LEAST:
        raise DataError(
            f"{len(trajectory)} frames are too few for a diffusion coefficient with an error: at least {BLOCKS * LEAST}"
        )
    positions = without_drift(trajectory)[:, which][:, :, list(axes)]
    lag = np.arange(length) * trajectory.interval
    first, last = int(FIT[0] * length), int(FIT[1] * length)
    where = slice(max(1, first), max(last, first + 2) + 1)
    whole = mean_square_displacement(positions)[:length]
    slope, intercept = np.polyfit(lag[where], whole[where], 1)
    slopes = []
    for k in range(BLOCKS):
        part = mean_square_displacement(positions[k * length : (k + 1) * length])
        slopes.append(np.polyfit(lag[where], part[where], 1)[0])
    factor = CM2_PER_S / (2 * len(axes))
    positive = np.maximum(whole[where], 1e-300)
    return Diffusion(
        lag, whole, factor * float(slope), factor * float(np.std(slopes, ddof=1)) / BLOCKS**0.5,
        (float(lag[where][0]), float(lag[where][-1])), float(intercept),
        float(np.polyfit(np.log(lag[where]), np.log(positive), 1)[0]),
    )  # fmt: skip


@dataclass(frozen=True)
class Arrhenius:
    """D = D0 exp(-E / k T)."""

    energy: float
    """E (eV)."""
    energy_std: float
    """Its standard error (eV)."""
    prefactor: float
    """D0 (cm^2/s)."""


def arrhenius(temperature: np.ndarray, coefficient: np.ndarray, std: np.ndarray) -> Arrhenius:
    """Activation energy from diffusion coefficients at several temperatures, weighted by their errors.

    Args:
        temperature: (K), [M].
        coefficient: (cm^2/s), [M].
        std: standard errors, [M].

    Raises:
        DataError: fewer than three temperatures, or a coefficient that is not positive.
    """
    if len(set(temperature.tolist())) < 3:
        raise DataError("an activation energy with an error needs diffusion coefficients at three temperatures or more")
    if (coefficient <= 0).any():
        k = int(coefficient.argmin())
        raise DataError(f"the diffusion coefficient at {temperature[k]:g} K is not positive: nothing diffuses there")
    x, y = 1.0 / (KB * temperature), np.log(coefficient)
    error = np.maximum(std / coefficient, 1e-6)
    (slope, begin), cov = np.polyfit(x, y, 1, w=1 / error, cov="unscaled")
    return Arrhenius(-float(slope), float(np.sqrt(cov[0, 0])), float(np.exp(begin)))


def ionic_conductivity(
    trajectory: Trajectory, coefficients: dict[int, float], charges: dict[int, float], temperature: float
) -> float:
    """Conductivity of ions that move independently (S/m): sum_a N_a q_a^2 D_a / (V k T), Nernst and Einstein.

    Args:
        trajectory: for numbers of atoms and volume.
        coefficients: D of each element (cm^2/s), by atomic number.
        charges: of each element (e), by atomic number.
        temperature: (K).
    """
    total = sum(
        int((trajectory.numbers == z).sum()) * charge**2 * coefficients[z] / CM2_PER_S for z, charge in charges.items()
    )
    return total / (trajectory.volume * KB * temperature) * SIEMENS_PER_M


def velocities_of(trajectory: Trajectory) -> np.ndarray:
    """Velocities (Angstrom/fs), [F, N, 3]; from central differences of positions where none were recorded."""
    if trajectory.velocities is not None:
        return trajectory.velocities
    return np.asarray(np.gradient(trajectory.positions, trajectory.interval, axis=0))


def velocity_autocorrelation(trajectory: Trajectory, which: np.ndarray | None = None) -> np.ndarray:
    """<v(0) v(t)> / <v(0) v(0)>, weighted by mass, [F].

    Args:
        trajectory: evenly spaced frames.
        which: atoms, [N] bool; None: all.

    Raises:
        DataError: none of them moves.
    """
    mass = atomic_masses[trajectory.numbers] ** 0.5
    v = velocities_of(trajectory) * mass[:, None]
    found = correlation(v if which is None else v[:, which])
    if not found[0] > 0:
        raise DataError("no atom of that kind moves: it has no spectrum")
    return np.asarray(found / found[0])


def window_length(frames: int, interval: float, resolution: float) -> int:
    """Lags after which a correlation is cut: what the resolution (1/cm) asks for, at most half of the frames."""
    wanted = int(1.0 / (resolution * SPEED_OF_LIGHT) / interval)
    return min(max(wanted, 8), max(frames // 2, 2))


def windowed_spectrum(
    auto: np.ndarray, interval: float, length: int, window: Literal["hann", "blackman"] = "hann"
) -> tuple[np.ndarray, np.ndarray]:
    """Integral over all times of C(t) exp(-i omega t), C even, with a window, filled up with zeros.

    Args:
        auto: a correlation C from 0 on, [F].
        interval: between its lags (fs).
        length: lags after which C is cut.
        window: how C goes to 0 there.

    Returns:
        Wave numbers (1/cm), and the integrals (fs times the unit of C), [L].
    """
    angle = np.pi * np.arange(length) / length
    shape = 0.5 * (1 + np.cos(angle)) if window == "hann" else 0.42 + 0.5 * np.cos(angle) + 0.08 * np.cos(2 * angle)
    half = auto[:length] * shape
    size = next_fast_len(8 * length, real=True)
    even = np.zeros(size)
    even[:length] = half
    even[-length + 1 :] = half[:0:-1]
    return rfftfreq(size, interval) / SPEED_OF_LIGHT, np.asarray(rfft(even).real * interval)


def vibrational_dos(
    trajectory: Trajectory, which: np.ndarray | None = None, resolution: float = 10.0
) -> tuple[np.ndarray, np.ndarray]:
    """Vibrational density of states: the spectrum of the velocities weighted by mass.

    Args:
        trajectory: frames close enough to see the fastest vibration (some fs).
        which: atoms, [N] bool; None: all.
        resolution: wanted (1/cm); the correlation is cut there by a Hann window, or at half its length.

    Returns:
        Wave numbers (1/cm) and densities with an integral of 1, [L].
    """
    auto = velocity_autocorrelation(trajectory, which)
    length = window_length(len(auto), trajectory.interval, resolution)
    wave, density = windowed_spectrum(auto, trajectory.interval, length)
    area = np.trapezoid(density, wave)
    return wave, np.asarray(density / area)


def viscosity(
    pressure: np.ndarray, interval: float, volume: float, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Shear viscosity by Green and Kubo, as a running integral: V/(k T) int <P_ab(0) P_ab(t)> dt.

    The mean over the five independent anisotropic components (xy, xz, yz, (xx-yy)/2, (yy-zz)/2).

    Args:
        pressure: whole pressure tensor, with the kinetic part (eV/Angstrom^3), [F, 3, 3].
        interval: time from frame to frame (fs).
        volume: (Angstrom^3).
        temperature: (K).

    Returns:
        Time lags (fs) and viscosity up to there (mPa s), [L], L = F // 2.
    """
    p = pressure
    parts = [p[:, 0, 1], p[:, 0, 2], p[:, 1, 2], (p[:, 0, 0] - p[:, 1, 1]) / 2, (p[:, 1, 1] - p[:, 2, 2]) / 2]
    half = len(p) // 2
    mean = np.mean([correlation(x - x.mean())[:half] for x in parts], axis=0)
    running = cumulative_trapezoid(mean, dx=interval, initial=0.0) * volume / (KB * temperature)
    return np.arange(half) * interval, np.asarray(running * MPA_S)
