"""Energies of grain boundaries of cubic crystals: the best of many rigid shifts of the grains.

    gamma = (E - N E_bulk / N_bulk) / (2 A),

two like boundaries in a periodic cell. For each boundary the upper grain is shifted over a grid in the plane, atoms
that come too near become one, and all starts of all boundaries relax as one batch: atoms, and the length c of the cell
along the normal; in the plane the crystal keeps its lattice. c moves by strains -sigma_zz / M between relaxations of
the atoms, with the stiffness M from the last two.

Source: A. P. Sutton and R. W. Balluffi, Interfaces in Crystalline Materials, Oxford University Press (1995). Letters of
shapes: S systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from rutile.build.boundary import CUBIC, Boundary, half_turn, joined, sigma_of, tilt, tilt_planes, twists
from rutile.build.boundary import twist as twisted
from rutile.build.crystals import Parent
from rutile.core.elements import unit_formula
from rutile.core.errors import SettingsError
from rutile.core.reporting import Reporter
from rutile.core.units import GPA
from rutile.potentials.potential import Potential
from rutile.simulate.eos import require_crystals
from rutile.simulate.forces import evaluate_many
from rutile.simulate.relax import relax
from rutile.simulate.settings import BoundaryEnergySettings
from rutile.simulate.start import relaxation
from rutile.simulate.surfaces import conventional
from rutile.structures.structures import Structures
from rutile.structures.symmetry import describe_crystal

STIFF = 150 * GPA
"""First guess of the stiffness along the normal."""
LARGEST = 0.02
"""Largest strain of one move of the cell."""


@dataclass(frozen=True)
class BoundaryStart:
    """One start: how the grains were put together, and what became of it."""

    shift: tuple[float, float]
    """Of the upper grain, in fractions of the vectors in the plane."""
    gap: float
    """Extra space at each boundary (Angstrom)."""
    energy: float
    """gamma (eV/Angstrom^2)."""
    atoms: int
    """After near ones became one."""
    failure: str
    """What went wrong, or ""."""


@dataclass(frozen=True)
class BoundaryEnergy:
    """One boundary of one crystal."""

    crystal: int
    """Which of the given structures."""
    boundary: Boundary
    """Its grains."""
    area: float
    """Of one of the two boundaries (Angstrom^2)."""
    starts: tuple[BoundaryStart, ...]
    """All of them; those without failure first, the best one before the others."""
    best: Structures
    """The relaxed cell of the best one."""

    @property
    def failure(self) -> str:
        """What went wrong with the relaxation of the best one, or ""."""
        return self.starts[0].failure

    @property
    def energy(self) -> float:
        """The lowest gamma found (eV/Angstrom^2)."""
        return self.starts[0].energy


def boundary_energies(
    structures: Structures, potential: Potential, settings: BoundaryEnergySettings, reporter: Reporter
) -> list[BoundaryEnergy]:
    """Energies of all boundaries of all crystals; all starts are one batch.

    Args:
        structures: cubic crystals at their minimum; `settings.relax` is the caller's.
        potential: gives energies and forces.
        settings: which boundaries, which starts.
        reporter: told how far it is.

    Raises:
        GeometryError: a structure is not a crystal.
        SettingsError: it is not cubic, or has no such boundary.
    """
    require_crystals(structures, "the energy of a grain boundary")
    crystals = [conventional(atoms) for atoms in structures.to_ase()]
    cases = [(k, b) for k, crystal in enumerate(crystals) for b in _boundaries(crystal, settings)]
    bulk = evaluate_many(Structures.from_ase(crystals), potential, settings.atoms_at_once, reporter, "Crystals").energy
    grid = [(i / settings.shifts[0], j / settings.shifts[1]) for i in range(settings.shifts[0])
            for j in range(settings.shifts[1])]  # fmt: skip
    starts = [(shift, gap) for shift in grid for gap in settings.gaps]
    images = [joined(b, gap, np.array(shift), settings.merge) for _, b in cases for shift, gap in starts]
    batch, energy, failures = relax_height(Structures.from_ase(images), potential, settings, reporter)
    out, singles = [], batch.split()
    for n, (k, boundary) in enumerate(cases):
        mine = range(n * len(starts), (n + 1) * len(starts))
        area = float(torch.linalg.cross(batch.cell[mine[0], 0], batch.cell[mine[0], 1]).norm())
        per_atom = float(bulk[k]) / len(crystals[k])
        gamma = [(float(energy[m]) - singles[m].n_atoms * per_atom) / (2 * area) for m in mine]
        results = [
            BoundaryStart(shift, gap, g, singles[m].n_atoms, failures[m])
            for m, g, (shift, gap) in zip(mine, gamma, starts, strict=True)
        ]
        ranked, order = _ranked(results)
        out.append(BoundaryEnergy(k, boundary, area, ranked, singles[mine[order[0]]]))
    return out


def _ranked(results: list[BoundaryStart]) -> tuple[tuple[BoundaryStart, ...], list[int]]:
    """Starts with the best one first, and their order."""
    order = sorted(range(len(results)), key=lambda k: (bool(results[k].failure), results[k].energy))
    return tuple(results[k] for k in order), order


def relax_height(
    structures: Structures, potential: Potential, settings: BoundaryEnergySettings, reporter: Reporter
) -> tuple[Structures, Tensor, list[str]]:
    """Relax atoms, and the cells along z, where their third vectors point.

    Returns:
        The structures, their energies [S] (eV), and what went wrong with each, or "".
    """
    now, reasons = structures, [""] * structures.n_systems
    stiffness = torch.full((structures.n_systems,), STIFF, dtype=torch.float64)
    before: tuple[Tensor, Tensor] | None = None
    energy = torch.zeros(structures.n_systems, dtype=torch.float64)
    for _ in range(settings.rounds):
        done = relax(now, potential, relaxation(settings), reporter)
        reasons = [old or new for old, new in zip(reasons, done.failure, strict=True)]
        now, energy, stress = done.structures, done.energy, done.stress[:, 2, 2]
        moving = (stress.abs() > settings.smax * GPA) & torch.tensor([not r for r in reasons])
        if not bool(moving.any()):
            break
        if before is not None:
            change = (stress - before[1]) / torch.where(before[0].abs() > 1e-9, before[0], torch.inf)
            stiffness = torch.where(change > 0.05 * STIFF, change.clamp(max=10 * STIFF), stiffness)
        strain = torch.where(moving, (-stress / stiffness).clamp(-LARGEST, LARGEST), 0.0)
        before = (strain, stress)
        scale = torch.stack([torch.ones_like(strain), torch.ones_like(strain), 1 + strain], 1)
        now = now.replace(positions=now.positions * scale[now.system], cell=now.cell * scale[:, None])
    else:
        late = f"stress along the normal above smax after {settings.rounds} rounds"
        reasons = [r or (late if m else "") for r, m in zip(reasons, moving.tolist(), strict=True)]
    return now, energy, reasons


def _boundaries(crystal: Atoms, settings: BoundaryEnergySettings) -> Iterator[Boundary]:
    """The boundaries of one crystal.

    Raises:
        SettingsError: it is not cubic, an axis or plane is zero, a plane does not hold the axis, or there is none.
    """
    name = unit_formula(crystal.numbers)
    known = describe_crystal(crystal)
    if known.number < CUBIC:
        raise SettingsError(f"{name} ({known.spacegroup}) is not cubic: boundaries are made of cubic crystals only")
    for what, given in (("axes", settings.axes), ("planes", settings.planes)):
        if (0, 0, 0) in given:
            raise SettingsError(f"{what}: (0, 0, 0) is none; give indices such as (1, 0, 0)")
    parent, found = Parent(name, crystal), 0
    for axis in settings.axes:
        if settings.kind == "tilt":
            planes = [p for p in settings.planes if not np.dot(p, axis)] if settings.planes else tilt_planes(
                axis, settings.sigma)  # fmt: skip
            for plane in planes:
                if sigma_of(half_turn(plane)) == 1:
                    raise SettingsError(
                        f"planes: ({' '.join(map(str, plane))}) about [{' '.join(map(str, axis))}] is a mirror of the "
                        "cubic lattice: both grains are one crystal (Sigma 1); take another plane, such as "
                        "(0 -2 1) about [1 0 0]"
                    )
                found += 1
                yield tilt(parent, axis, plane, settings.thickness)
        else:
            for rotation in twists(axis, settings.sigma):
                found += 1
                yield twisted(parent, axis, rotation, settings.thickness)
    if not found:
        raise SettingsError(
            f"sigma={settings.sigma}: no {settings.kind} boundary about axes {list(settings.axes)}"
            + (f" in planes {list(settings.planes)}: a plane must hold the axis" if settings.planes else "")
        )
