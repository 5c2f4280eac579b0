"""Thermal expansion in the quasi-harmonic approximation.

    F(V, T) = E(V) + F_vib(V, T),   V(T) where F is lowest,   alpha = d ln V / dT,
    C_P = C_V + alpha^2 B V T,   gamma = alpha B V / C_V,

with the Birch-Murnaghan equation of state through F at each temperature, which also gives B(T). C_V at V(T) is from a
parabola over volume.

Source: A. Togo et al., Phys. Rev. B 81, 174301 (2010), doi:10.1103/PhysRevB.81.174301.
Letters of shapes: K volumes, T temperatures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.birch_murnaghan import fit_birch_murnaghan
from rutile.simulate.eos import scan_volumes
from rutile.simulate.phonons import force_constants, imaginary_modes, thermodynamics
from rutile.simulate.settings import ExpansionSettings
from rutile.structures.structures import Structures, concatenate

LEAST = 5
"""Volumes without imaginary modes that are needed."""


@dataclass(frozen=True)
class Expansion:
    """A crystal by temperature; NaN where it has no volume of lowest free energy within the scan. Of the given cell."""

    temperature: np.ndarray
    """K, [T]."""
    volume: np.ndarray
    """V(T) (Angstrom^3), [T]."""
    free_energy: np.ndarray
    """F at V(T) (eV), [T]."""
    bulk: np.ndarray
    """Isothermal bulk modulus (eV/Angstrom^3), [T]."""
    expansion: np.ndarray
    """Coefficient of volume expansion alpha (1/K), [T]."""
    heat_capacity: np.ndarray
    """At constant pressure (eV/K), [T]."""
    gruneisen: np.ndarray
    """Thermodynamic Grueneisen parameter, [T]."""
    volumes: np.ndarray
    """That were scanned and have no imaginary modes (Angstrom^3), [K]."""
    energies: np.ndarray
    """E(V) (eV), [K]."""
    vibrational: np.ndarray
    """F_vib(V, T) (eV), [K, T]."""
    failure: str
    """What went wrong, or ""."""


def quasi_harmonic(
    structures: Structures, potential: Potential, settings: ExpansionSettings, reporter: Reporter
) -> list[Expansion]:
    """Thermal expansion of each crystal; the displacements at all volumes of all crystals are one batch.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives the forces.
        settings: volumes, and those of phonons.
        reporter: told how far it is.

    Raises:
        RutileError: as `phonons.force_constants`.
    """
    ratios = np.linspace(1 - settings.shrink, 1 + settings.grow, settings.volumes)
    scan = scan_volumes(structures, potential, ratios, settings, settings.inner, reporter)
    objects = force_constants(concatenate(scan.structures), potential, settings, reporter)
    out = []
    for s, failure in enumerate(scan.failure):
        mine = objects[s * len(ratios) : (s + 1) * len(ratios)]
        sound, vibrational, capacity = [], [], []
        for k, phonon in enumerate(mine):
            phonon.symmetrize_force_constants(level=3, show_drift=False)
            if imaginary_modes(phonon, settings.imaginary):
                continue
            thermal = thermodynamics(phonon, settings)
            cells = len(phonon.unitcell) / len(phonon.primitive)
            sound.append(k)
            vibrational.append(cells * thermal.free_energy)
            capacity.append(cells * thermal.heat_capacity)
            temperature = thermal.temperature
        volume, energy = scan.volume[s].numpy()[sound], scan.energy[s].numpy()[sound]
        if len(sound) < LEAST:
            few = f"imaginary modes at {len(ratios) - len(sound)} of {len(ratios)} volumes"
            out.append(_nothing(volume, energy, failure or few))
            continue
        free, heat = np.array(vibrational), np.array(capacity)
        out.append(by_temperature(temperature, volume, energy, free, heat, failure))
    return out


def by_temperature(
    temperature: np.ndarray,
    volume: np.ndarray,
    energy: np.ndarray,
    vibrational: np.ndarray,
    capacity: np.ndarray,
    failure: str = "",
) -> Expansion:
    """The thermodynamics from energies and vibrational free energies.

    Args:
        temperature: K, [T], ascending, with equal steps.
        volume: Angstrom^3, [K].
        energy: E(V) (eV), [K].
        vibrational: F_vib(V, T) (eV), [K, T].
        capacity: C_V(V, T) (eV/K), [K, T].
        failure: what is wrong already.
    """
    v, f, b, c = (np.full(len(temperature), np.nan) for _ in range(4))
    for t, kelvin in enumerate(temperature):
        try:
            fit = fit_birch_murnaghan(volume, energy + vibrational[:, t])
        except GeometryError:
            fit = None
        if fit is None or not volume.min() <= fit.volume <= volume.max():
            failure = (
                failure or f"from {kelvin:g} K on the volume of lowest free energy lies outside the scan: let it grow"
            )
            break
        v[t], f[t], b[t] = fit.volume, fit.energy, fit.bulk
        c[t] = np.polynomial.Polynomial.fit(volume, capacity[:, t], 2)(fit.volume)
    alpha = np.full(len(temperature), np.nan)
    known = int(np.isfinite(v).sum())
    if known > 2:
        alpha[:known] = np.gradient(np.log(v[:known]), temperature[:known], edge_order=2)
        alpha[0] = 0.0 if temperature[0] == 0 else alpha[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        gamma = np.where(c > 0, alpha * b * v / c, np.nan)
    return Expansion(
        temperature, v, f, b, alpha, c + alpha**2 * b * v * temperature, gamma, volume, energy, vibrational, failure
    )


def _nothing(volume: np.ndarray, energy: np.ndarray, failure: str) -> Expansion:
    """A crystal without an answer."""
    none = np.zeros(0)
    return Expansion(none, none, none, none, none, none, none, volume, energy, np.zeros((len(volume), 0)), failure)
