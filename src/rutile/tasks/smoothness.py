"""`rutile smoothness`: how much the energy of a model jumps, and how well molecular dynamics conserves it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from rutile.core.elements import formula, symbol
from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.core.settings import Result, Settings
from rutile.core.units import (
    HOTTEST,
    ElectronVolt,
    EVPerAngstrom,
    EVPerAtom,
    EVPerAtomPerPicosecond,
    Femtosecond,
    Kelvin,
    Picosecond,
)
from rutile.data.settings import Format
from rutile.tasks.apply import GivenStructures, read_given
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from rutile.potentials.potential import Potential
    from rutile.simulate.continuity import Jump
    from rutile.simulate.verlet import Trajectory
    from rutile.structures.structures import Structures

ENERGY_NOISE, FORCE_NOISE = 1e-6, 1e-5
"""Jumps below these (eV, eV/Angstrom) are rounding or the remainder of the extrapolation."""


class SmoothnessSettings(Settings):
    """Which model, and on what."""

    model: Path
    """Model file, the folder of a training run, or a potential that needs none: emt, lennard_jones, rigid_ion,
    bond_valence."""
    structures: list[Path] = []
    """Files of structures, best ones near equilibrium; without any, a rattled cluster of the model's elements is made,
    and relaxed before dynamics."""
    format: Format | None = None
    """Format of the files; without it the name of each file (and its first bytes) decide."""
    most: int = Field(default=1, ge=1)
    """Take only so many structures, from the first on."""
    events: int = Field(default=32, ge=1)
    """Moves of an atom to try of each kind and in each structure."""
    temperature: Kelvin = Field(default=300.0, ge=0, le=HOTTEST)
    """Of the velocities at the start."""
    time_step: Femtosecond = Field(default=0.5, gt=0)
    """Of the dynamics, which is repeated with half of it."""
    duration: Picosecond = Field(default=0.5, ge=0)
    """Length of the dynamics; 0: none."""
    seed: int = Field(default=0, ge=0)
    """Of velocities and of the cluster."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, or auto: a GPU if there is one."""


class JumpRow(Result):
    """Jumps of one kind."""

    event: str
    """What happens while one atom moves."""
    tried: int
    """Number of moves."""
    energy: ElectronVolt
    """Largest jump of the total energy."""
    force: EVPerAngstrom
    """Largest jump of the force on an atom."""
    jumping: int
    """Moves with a jump of energy or force above rounding."""
    worst: str
    """Where the energy jumps most: structure, atoms, distance."""


class DriftRow(Result):
    """One run of molecular dynamics at constant energy."""

    structure: str
    """File and 0-based frame number."""
    atoms: int
    """Number of atoms."""
    time_step: Femtosecond
    """Of the run."""
    drift: EVPerAtomPerPicosecond | None
    """Slope of the total energy."""
    scatter: EVPerAtom | None
    """Standard deviation of the total energy around that line. With half the time step it falls to a quarter
    where forces are continuous; what jumps bring stays."""
    temperature: Kelvin | None
    """At the end."""
    outcome: str
    """done, or why there is no number."""


class SmoothnessResult(Result):
    """Is the model smooth?"""

    stated_smooth: bool
    """What the potential says of itself."""
    continuous: bool
    """Whether no jump above rounding was found (1e-6 eV, 1e-5 eV/Å)."""
    jumps: list[JumpRow]
    """By kind of event, all structures together."""
    dynamics: list[DriftRow]
    """Conservation of energy."""


def run(settings: SmoothnessSettings, reporter: Reporter) -> SmoothnessResult:
    """Jumps of a model's energy and forces where neighbours exchange rank or cross the cutoff, and its NVE drift.

    An atom is moved to both sides of the distance where the change happens, and the difference is extrapolated to a gap
    of zero; a smooth potential has none. All in float64.
    """
    import torch

    from rutile.potentials.checks import smoothness_note
    from rutile.potentials.classical import open_model
    from rutile.potentials.combine import mean_potential
    from rutile.simulate.continuity import find_events, measure_jumps

    members = open_model(settings.model).members(torch.float64, settings.device)
    potential = mean_potential(members)
    structures = _structures(settings, potential, reporter)
    jumps = []
    for name, structure in structures.items():
        events = find_events(structure, potential.cutoff, settings.events)
        jumps += [(name, jump) for jump in measure_jumps(structure, events, potential, reporter)]
    rows = _rows(jumps, structures)
    drifts = [
        row for name, one in structures.items() for row in _dynamics(name, one, potential, settings, reporter)
    ] if settings.duration else []  # fmt: skip
    result = SmoothnessResult(
        stated_smooth=not smoothness_note(potential),
        continuous=not any(row.jumping for row in rows),
        jumps=rows,
        dynamics=drifts,
    )
    if result.stated_smooth and not result.continuous:
        reporter.warn("the potential says it is smooth, and it is not: its energy or forces jump")
    return result


def _structures(settings: SmoothnessSettings, potential: Potential, reporter: Reporter) -> dict[str, Structures]:
    """The structures by name: given, or a cluster."""
    from itertools import islice

    import torch
    from ase.data import covalent_radii

    from rutile.simulate.continuity import rattled_block

    if settings.structures:
        given = GivenStructures(model=settings.model, structures=settings.structures, format=settings.format)
        frames = islice(read_given(given, potential.elements, reporter), settings.most)
        return {frame.source: frame.structures() for frame in frames}
    elements = potential.elements or (8, 22)
    spacing = 2.2 * float(covalent_radii[list(elements)].mean())
    generator = torch.Generator().manual_seed(settings.seed)
    return {"cluster": rattled_block(elements, spacing, 1.1 * potential.cutoff, generator)}


def _rows(jumps: list[tuple[str, Jump]], structures: dict[str, Structures]) -> list[JumpRow]:
    """One row for each kind of event."""
    rows = []
    for kind in dict.fromkeys(jump.event.kind for _, jump in jumps):
        mine = [(name, jump) for name, jump in jumps if jump.event.kind == kind]
        name, worst = max(mine, key=lambda x: x[1].energy)
        numbers, event = structures[name].numbers.tolist(), worst.event
        atoms = " to ".join(f"atom {a} ({symbol(numbers[a])})" for a in (event.moved, event.centre))
        row = JumpRow(
            event=kind,
            tried=len(mine),
            energy=worst.energy,
            force=max(jump.force for _, jump in mine),
            jumping=sum(jump.energy > ENERGY_NOISE or jump.force > FORCE_NOISE for _, jump in mine),
            worst=f"{name}, {atoms}, {event.border:.3f} Å",
        )
        rows.append(row)
    return rows


def _dynamics(
    name: str, structure: Structures, potential: Potential, settings: SmoothnessSettings, reporter: Reporter
) -> Iterable[DriftRow]:
    """NVE with the time step and with half of it, from the same velocities."""
    import torch

    from rutile.simulate.relax import relax
    from rutile.simulate.settings import RelaxSettings
    from rutile.simulate.verlet import thermal_velocities, velocity_verlet

    if not settings.structures:
        relaxed = relax(structure, potential, RelaxSettings(fmax=0.05, max_steps=300), reporter)
        if relaxed.failure[0]:
            reporter.warn(f"the cluster cannot be relaxed ({relaxed.failure[0]}): give structures for dynamics")
            return
        structure = relaxed.structures
    velocities = thermal_velocities(structure, settings.temperature, torch.Generator().manual_seed(settings.seed))
    for time_step in (settings.time_step, settings.time_step / 2):
        steps = max(1, round(1000 * settings.duration / time_step))
        try:
            path = velocity_verlet(structure, velocities, potential, time_step, steps, reporter)
            yield _drift(name, path, time_step)
        except GeometryError as error:
            yield DriftRow(structure=name, atoms=structure.n_atoms, time_step=time_step, drift=None, scatter=None,
                           temperature=None, outcome=f"failed: {error}")  # fmt: skip


def _drift(name: str, path: Trajectory, time_step: float) -> DriftRow:
    """What a trajectory says."""
    from rutile.core.units import KB

    n = path.structures.n_atoms
    return DriftRow(
        structure=f"{name} ({formula(path.structures.numbers.tolist())})",
        atoms=n,
        time_step=time_step,
        drift=1000 * float(path.drift()) / n,
        scatter=float(path.scatter()) / n,
        temperature=float(path.kinetic[-1]) / (1.5 * KB * n),
        outcome="done",
    )


TASK = Task(
    "smoothness",
    SmoothnessSettings,
    SmoothnessResult,
    run,
    positional="model",
    examples=(
        "rutile smoothness run",
        "rutile smoothness model.rutile structures=rutile.cif temperature=600 duration=5",
    ),
)
