"""Phonons of crystals by finite displacements, through phonopy: it says what to displace and solves for the waves.

    D_ab(q) = sum_R Phi_ab(0, R) exp(i q R) / sqrt(m_a m_b),   omega^2 its eigenvalues,

with the force constants Phi from the forces in displaced supercells, less those in the supercell itself. All displaced
supercells of all crystals are evaluated as one batch. Phi obeys Newton's third law and the acoustic sum rule.

Source: A. Togo and I. Tanaka, Scr. Mater. 108, 1 (2015), doi:10.1016/j.scriptamat.2015.07.021; A. Togo et al.,
J. Phys. Condens. Matter 35, 353001 (2023), doi:10.1088/1361-648X/acd831.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from ase.cell import Cell

from rutile.core.errors import MissingPackageError, SettingsError
from rutile.core.reporting import Reporter
from rutile.potentials.checks import check_structures, require_smooth
from rutile.potentials.potential import Potential
from rutile.simulate.born import born_of, splitting
from rutile.simulate.eos import require_crystals
from rutile.simulate.forces import evaluate_many
from rutile.simulate.md.state import masses_of
from rutile.simulate.settings import ConductivitySettings, PhononSettings
from rutile.simulate.supercells import repeats
from rutile.structures.structures import Structures, concatenate

SYMMETRY = 1e-3
"""Atoms nearer to a symmetric place than this (Angstrom) are there."""
KJ_PER_MOL = 0.01036426965626
"""In eV."""


@dataclass(frozen=True)
class Imaginary:
    """A wave along which the energy falls."""

    wave_vector: tuple[float, float, float]
    """In units of the reciprocal vectors of the primitive cell."""
    frequency: float
    """Negative, for imaginary (THz)."""


@dataclass(frozen=True)
class Segment:
    """A line of the band structure; B bands, K points."""

    distance: np.ndarray
    """Along the whole path (1/Angstrom, without 2 pi), [K]."""
    frequency: np.ndarray
    """THz, negative for imaginary ones, [K, B]."""
    start: str
    """Name of its first point, such as "Γ"."""
    end: str
    """Name of its last point."""


@dataclass(frozen=True)
class Thermal:
    """Harmonic thermodynamics of one primitive cell; T temperatures."""

    temperature: np.ndarray
    """K, [T]."""
    free_energy: np.ndarray
    """Of vibrations, zero-point energy included (eV), [T]."""
    entropy: np.ndarray
    """eV/K, [T]."""
    heat_capacity: np.ndarray
    """At constant volume (eV/K), [T]."""


@dataclass(frozen=True)
class Phonons:
    """What the force constants of one crystal say."""

    phonopy: Any
    """The Phonopy object, with force constants."""
    supercell: tuple[int, int, int]
    """Repeats of the given cell."""
    displaced: int
    """Number of displaced supercells."""
    bands: tuple[Segment, ...]
    """The band structure along the path of its lattice (W. Setyawan and S. Curtarolo, as in ASE)."""
    dos_frequency: np.ndarray
    """THz, [F]."""
    dos: np.ndarray
    """States of the primitive cell (1/THz), [F]."""
    thermal: Thermal
    """Imaginary modes are left out of it."""
    acoustic: float
    """Largest frequency of the three acoustic modes at Γ (THz): 0 but for rounding."""
    drift: float
    """Largest violation of the acoustic sum rule before it was imposed (eV/Angstrom^2)."""
    imaginary: tuple[Imaginary, ...]
    """At wave vectors that fit into the supercell, where frequencies are not interpolated; lowest first."""
    lowest: float
    """Lowest frequency on the mesh and the bands (THz)."""
    splitting: float | None
    """Largest rise of a frequency at Γ by the field of Born charges (THz); None: there are none."""


def force_constants(
    structures: Structures, potential: Potential, settings: PhononSettings, reporter: Reporter
) -> list[Any]:
    """A Phonopy object with force constants for each crystal, from one batch of displaced supercells.

    Args:
        structures: crystals at their minimum.
        potential: gives the forces.
        settings: supercell and displacement.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
        SettingsError: the potential is not smooth, and `settings.rough` does not allow that.
        MissingPackageError: phonopy is not installed.
    """
    given = crystals_to_displace(structures, potential, settings, "a phonon calculation")
    objects = [_prepared(one, settings, reporter) for one in given]
    cells = [[p.supercell, *p.supercells_with_displacements] for p in objects]
    batch = concatenate(from_phonopy(cell) for group in cells for cell in group)
    forces = evaluate_many(batch, potential, settings.atoms_at_once, reporter, "Displacements").forces
    parts = iter(forces.split(batch.counts.tolist()))
    for phonon, group in zip(objects, cells, strict=True):
        still, *moved = (next(parts).numpy() for _ in group)
        phonon.forces = np.array([f - still for f in moved])
        phonon.produce_force_constants(show_drift=False, calculate_full_force_constants=False)
        if settings.born is not None:
            phonon.nac_params = born_of(phonon.primitive, settings.born, potential, SYMMETRY, reporter)
    return objects


def phonons(
    structures: Structures, potential: Potential, settings: PhononSettings, reporter: Reporter
) -> list[Phonons]:
    """Bands, densities of states, thermodynamics and imaginary modes of each crystal.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives the forces.
        settings: supercell, displacement, meshes.
        reporter: told how far it is.

    Raises:
        RutileError: as `force_constants`.
    """
    return [_analysed(phonon, settings) for phonon in force_constants(structures, potential, settings, reporter)]


def thermodynamics(phonon: Any, settings: PhononSettings) -> Thermal:
    """Harmonic thermodynamics from the modes on a mesh; runs the mesh."""
    phonon.run_mesh(settings.mesh_length)
    phonon.run_thermal_properties(
        t_min=0, t_max=settings.max_temperature, t_step=settings.temperature_step, cutoff_frequency=1e-3
    )
    t = phonon.get_thermal_properties_dict()
    return Thermal(
        np.asarray(t["temperatures"]),
        np.asarray(t["free_energy"]) * KJ_PER_MOL,
        np.asarray(t["entropy"]) * KJ_PER_MOL / 1000,
        np.asarray(t["heat_capacity"]) * KJ_PER_MOL / 1000,
    )


def _prepared(one: Structures, settings: PhononSettings, reporter: Reporter) -> Any:
    """A Phonopy object that knows what to displace."""
    try:
        from phonopy import Phonopy
    except ImportError:
        raise MissingPackageError("phonons need the package phonopy: pip install 'rutile[phonons]'") from None
    atoms, primitive, matrix = to_phonopy(one, settings)
    if one.n_atoms * round(np.linalg.det(matrix)) == 1:
        raise SettingsError("a supercell of one atom does not vibrate: make supercell (or length) larger")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        phonon = Phonopy(atoms, matrix, primitive, symprec=SYMMETRY, log_level=0)
    if any("Point group" in str(w.message) for w in said):
        times = " x ".join(map(str, np.diag(matrix)))
        reporter.warn(f"the supercell of {times} cells has less symmetry than the crystal; choose another `supercell`")
    phonon.generate_displacements(distance=settings.displacement)
    return phonon


def crystals_to_displace(
    structures: Structures, potential: Potential, settings: PhononSettings | ConductivitySettings, what: str
) -> list[Structures]:
    """The crystals one by one, in float64 on the CPU, if displacing their atoms makes sense.

    Args:
        structures: at their minimum.
        potential: gives the forces.
        settings: whether a rough potential may be used.
        what: that is to be computed, for the error.

    Raises:
        GeometryError: a structure is not periodic in three directions.
        SettingsError: the potential is not smooth, and `settings.rough` does not allow that.
        ElementError: the potential does not know an element.
    """
    require_crystals(structures, what)
    if not settings.rough:
        require_smooth(potential, what)
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    return given.split()


def to_phonopy(one: Structures, settings: PhononSettings | ConductivitySettings) -> tuple[Any, Any, np.ndarray]:
    """A crystal as phonopy's atoms (Angstrom, amu), and the matrices of its primitive cell and supercell, [3, 3]."""
    from phonopy.structure.atoms import PhonopyAtoms
    from phonopy.structure.cells import guess_primitive_matrix

    atoms = PhonopyAtoms(
        numbers=one.numbers.numpy(), masses=masses_of(one).numpy(), cell=one.cell[0].numpy(),
        positions=one.positions.numpy(),
    )  # fmt: skip
    primitive = guess_primitive_matrix(atoms, symprec=SYMMETRY)
    return atoms, primitive, np.diag(repeats(one, settings.supercell, settings.length))


def from_phonopy(atoms: Any) -> Structures:
    """From phonopy's atoms."""
    return Structures.from_arrays(atoms.numbers, atoms.positions, atoms.cell, np.ones(3, dtype=bool))


def _analysed(phonon: Any, settings: PhononSettings) -> Phonons:
    """Everything that follows from the force constants; imposes the sum rule on them."""
    drift = float(np.abs(phonon.force_constants.sum(axis=1)).max())
    phonon.symmetrize_force_constants(level=3, show_drift=False)
    thermal = thermodynamics(phonon, settings)
    on_mesh = np.asarray(phonon.get_mesh_dict()["frequencies"])
    phonon.run_total_dos()
    dos = phonon.get_total_dos_dict()
    bands = _bands(phonon, settings.band_points)
    gamma = np.sort(np.abs(_frequencies(phonon, [[0.0, 0.0, 0.0]])[0]))[:3]
    lowest = min(float(on_mesh.min()), *(float(s.frequency.min()) for s in bands))
    return Phonons(
        phonopy=phonon,
        supercell=tuple(int(n) for n in np.diag(phonon.supercell_matrix)),  # type: ignore[arg-type]
        displaced=len(phonon.supercells_with_displacements),
        bands=bands,
        dos_frequency=np.asarray(dos["frequency_points"]),
        dos=np.asarray(dos["total_dos"]),
        thermal=thermal,
        acoustic=float(gamma.max()),
        drift=drift,
        imaginary=imaginary_modes(phonon, settings.imaginary),
        lowest=lowest,
        splitting=None if phonon.nac_params is None else splitting(phonon),
    )


def _frequencies(phonon: Any, points: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """At wave vectors [K, 3] (THz), [K, B]."""
    phonon.run_qpoints(points)
    return np.asarray(phonon.get_qpoints_dict()["frequencies"])


def imaginary_modes(phonon: Any, threshold: float) -> tuple[Imaginary, ...]:
    """Imaginary modes at the wave vectors that fit into the supercell."""
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    matrix = np.rint(np.linalg.inv(phonon.primitive.cell).T @ phonon.supercell.cell.T).astype(int)
    points = np.asarray(get_commensurate_points(matrix))
    found = [
        Imaginary((float(q[0]), float(q[1]), float(q[2])), float(w))
        for q, waves in zip(points, _frequencies(phonon, points), strict=True)
        for w in waves
        if w < -threshold
    ]
    return tuple(sorted(found, key=lambda mode: mode.frequency))


def _bands(phonon: Any, points: int) -> tuple[Segment, ...]:
    """Along the path of the lattice; also kept in the Phonopy object."""
    path = Cell(phonon.primitive.cell).bandpath(npoints=0)
    lines, names, joined = [], [], []
    for part in path.path.split(","):
        corners = _corners(part)
        for a, b in pairwise(corners):
            lines.append(np.linspace(path.special_points[a], path.special_points[b], points))
            names.append((a.replace("G", "Γ"), b.replace("G", "Γ")))
            joined.append(True)
        joined[-1] = False
    labels = [names[0][0]]
    for (_, end), follows, (start, _) in zip(names, joined, [*names[1:], ("", "")], strict=True):
        labels += [end] if follows else [end, start]
    phonon.run_band_structure(lines, path_connections=joined, labels=labels[:-1])
    found = phonon.get_band_structure_dict()
    return tuple(
        Segment(np.asarray(d), np.asarray(f), *name)
        for d, f, name in zip(found["distances"], found["frequencies"], names, strict=True)
    )


def _corners(part: str) -> list[str]:
    """Names in a piece of a path: "GXS1" is G, X, S1."""
    out: list[str] = []
    for letter in part:
        if letter.isdigit():
            out[-1] += letter
        else:
            out.append(letter)
    return out
