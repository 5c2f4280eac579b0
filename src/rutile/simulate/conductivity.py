"""Thermal conductivity of lattices through phono3py: phonons that collide in threes.

    kappa_ab = 1/(N V) sum_l C_l v_la v_lb tau_l

with relaxation times tau from force constants of second and third order, or from the whole linearised Boltzmann
equation (`method=direct`). phono3py says what to displace, by symmetry; all displaced supercells of all crystals are
one batch.

Sources: A. Togo, L. Chaput and I. Tanaka, Phys. Rev. B 91, 094306 (2015), doi:10.1103/PhysRevB.91.094306; L. Chaput,
Phys. Rev. Lett. 110, 265506 (2013), doi:10.1103/PhysRevLett.110.265506. Letters of shapes: T temperatures, M modes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from rutile.core.errors import MissingPackageError
from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.born import born_of
from rutile.simulate.forces import evaluate_many
from rutile.simulate.phonons import SYMMETRY, crystals_to_displace, from_phonopy, to_phonopy
from rutile.simulate.settings import ConductivitySettings
from rutile.structures.structures import Structures, concatenate

STILL = 1e-3
"""Modes below this frequency carry no heat (THz)."""
VANISHED = 1e-8
"""Force constants of third order below this are errors of rounding (eV/Angstrom^3)."""
IDLE = 1e-9
"""Modes of a smaller width than this have not collided (THz); a width of 1e-4 is small."""


@dataclass(frozen=True)
class Conductivity:
    """The thermal conductivity of one crystal."""

    phono3py: Any
    """The Phono3py object, with force constants."""
    supercell: tuple[int, int, int]
    """Repeats of the given cell."""
    displaced: int
    """Displaced supercells that were evaluated."""
    mesh: tuple[int, int, int]
    """Of wave vectors."""
    temperature: np.ndarray
    """(K), [T]."""
    tensor: np.ndarray
    """kappa (W/m/K), [T, 3, 3]."""
    frequency: np.ndarray
    """Of all modes of the irreducible wave vectors (THz), ascending, [M]."""
    cumulative: np.ndarray
    """A third of the trace of kappa that modes up to there carry (W/m/K), [T, M]."""
    lowest: float
    """Lowest frequency (THz); negative: imaginary modes, which are left out."""
    failure: str
    """Why the numbers mean nothing; empty: they mean something."""

    @property
    def mean(self) -> np.ndarray:
        """A third of the trace (W/m/K), [T]."""
        return np.asarray(np.trace(self.tensor, axis1=1, axis2=2) / 3)


def conductivities(
    structures: Structures, potential: Potential, settings: ConductivitySettings, reporter: Reporter
) -> list[Conductivity]:
    """Thermal conductivity of each crystal.

    Args:
        structures: crystals at their minimum; `settings.relax` is the caller's.
        potential: gives the forces.
        settings: supercell, displacement, mesh, temperatures.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not periodic in three directions.
        SettingsError: the potential is not smooth, and `settings.rough` does not allow that.
        MissingPackageError: phono3py is not installed.
    """
    given = crystals_to_displace(structures, potential, settings, "a thermal conductivity")
    objects = [_prepared(one, settings) for one in given]
    for p in objects if settings.born is not None else ():
        assert settings.born is not None
        p.nac_params = born_of(p.primitive, settings.born, potential, SYMMETRY, reporter)
    _add_forces(objects, potential, settings, reporter)
    return [_solved(p, settings) for p in reporter.track(objects, "Phonons that collide", len(objects))]


def require_phono3py() -> Any:
    """The package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        import phono3py
    except ImportError:
        raise MissingPackageError(
            "thermal conductivity needs the package phono3py: pip install 'rutile[conductivity]'"
        ) from None
    return phono3py


def _prepared(one: Structures, settings: ConductivitySettings) -> Any:
    """A Phono3py object that knows what to displace."""
    phono3py = require_phono3py()
    atoms, primitive, matrix = to_phonopy(one, settings)
    out = phono3py.Phono3py(atoms, matrix, primitive, symprec=SYMMETRY, log_level=0)
    out.generate_displacements(distance=settings.displacement, cutoff_pair_distance=settings.pair_cutoff)
    return out


def _add_forces(objects: list[Any], potential: Potential, settings: ConductivitySettings, reporter: Reporter) -> None:
    """Forces in all displaced supercells, and force constants of second and third order from them."""
    cells = [[p.supercell, *(c for c in p.supercells_with_displacements if c is not None)] for p in objects]
    batch = concatenate(from_phonopy(cell) for group in cells for cell in group)
    forces = evaluate_many(batch, potential, settings.atoms_at_once, reporter, "Displacements").forces
    parts = iter(forces.split(batch.counts.tolist()))
    for p, group in zip(objects, cells, strict=True):
        still, *moved = (next(parts).numpy() for _ in group)
        with_forces = iter(moved)
        every = [None if c is None else next(with_forces) - still for c in p.supercells_with_displacements]
        p.forces = np.array([np.zeros_like(still) if f is None else f for f in every])
        p.produce_fc3()
        p.symmetrize_fc3()
        p.produce_fc2()
        p.symmetrize_fc2()


def _solved(p: Any, settings: ConductivitySettings) -> Conductivity:
    """What follows from the force constants."""
    p.mesh_numbers = settings.mesh or settings.mesh_length
    p.init_phph_interaction()
    kelvin = sorted(settings.temperatures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of modes without heat at Γ
        p.run_thermal_conductivity(
            is_LBTE=settings.method == "direct", temperatures=kelvin, is_isotope=settings.isotopes,
            boundary_mfp=settings.boundary,
        )  # fmt: skip
    k = p.thermal_conductivity
    frequency = np.asarray(k.frequencies).ravel()
    each = np.asarray(k.mode_kappa[0])[..., :3].mean(-1).reshape(len(kelvin), -1) / np.prod(p.mesh_numbers)
    order = np.argsort(frequency)
    return Conductivity(
        phono3py=p,
        supercell=tuple(int(n) for n in np.diag(p.supercell_matrix)),  # type: ignore[arg-type]
        displaced=sum(c is not None for c in p.supercells_with_displacements),
        mesh=tuple(int(n) for n in p.mesh_numbers),  # type: ignore[arg-type]
        temperature=np.array(kelvin, dtype=float),
        tensor=np.asarray(k.kappa[0])[:, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, 3, 3),
        frequency=frequency[order],
        cumulative=each[:, order].cumsum(axis=1),
        lowest=float(frequency.min()),
        failure=_failure(p),
    )


def _failure(p: Any) -> str:
    """Why the numbers mean nothing: opposite neighbours that are one atom, or modes that meet no others."""
    if np.abs(p.fc3).max() < VANISHED:
        return "force constants of third order vanish by the symmetry of the supercell: take a larger one"
    solved = p.thermal_conductivity
    moving = np.asarray(solved.frequencies) > STILL
    idle = moving & (np.asarray(solved.gamma)[0, -1] < IDLE)
    if not idle.any():
        return ""
    mesh = " x ".join(map(str, solved.mesh_numbers))
    return (
        f"{int(idle.sum())} of {int(moving.sum())} modes collide with no others on a mesh of {mesh}: take a finer one"
    )
