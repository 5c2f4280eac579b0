"""`rutile md`: molecular dynamics of many structures at once, with a log, trajectories and exact restarts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from rutile.core.elements import formula
from rutile.core.errors import SettingsError
from rutile.core.files import folder_for_results, remove_unfinished
from rutile.core.lock import alone_in
from rutile.core.reporting import Reporter
from rutile.core.settings import Result
from rutile.core.units import (
    Angstrom3PerAtom,
    EVPerAngstrom,
    EVPerAtom,
    GigaPascal,
    GramPerCubicCentimetre,
    Kelvin,
    MilliEVPerAtomPerPicosecond,
    Picosecond,
    Second,
)
from rutile.simulate.md.settings import MdSettings, NveSettings, Temperature, Thermal
from rutile.tasks.apply import GivenStructures, members_and_bars, readings_given
from rutile.tasks.held import HeldAtoms, held_atoms, refuse_if_all_held
from rutile.tasks.kept_dynamics import note_atoms, resumed, to_the_end
from rutile.tasks.property import PropertyResult, write_result
from rutile.tasks.task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from rutile.data.frames import Frame
    from rutile.potentials.potential import Potential
    from rutile.simulate.md.loop import Dynamics
    from rutile.simulate.md.record import Record
    from rutile.simulate.md.state import State

REPORT = "report.html"
FREE = frozenset({"out", "device", "checkpoint_seconds", "on_bad", "equilibration", "structures", "model", "format"})
"""Settings that may differ when a run goes on (of structures and model, what is in them must be the same)."""
HEAVY_STEP = 1.5
"""A time step above this times the square root of the lightest mass (fs / amu^(1/2)) is likely to be too long."""


class MdTaskSettings(MdSettings, HeldAtoms, GivenStructures):
    """What to move, how, and what to write."""

    temperatures: list[Temperature] = []
    """Run each structure at each of these (K), instead of at ensemble.temperature."""
    replicas: int = Field(default=1, ge=1, le=10_000)
    """Runs of each structure at each temperature, with other velocities and noise."""
    every: int = Field(default=100, ge=1)
    """Steps between two frames of a trajectory."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two rows of the log."""
    trajectory: Literal["extxyz", "hdf5", "none"] = "extxyz"
    """Format of the trajectories: text that everything reads; or H5MD, smaller and faster (needs h5py). Positions are
    not wrapped into the cell."""
    velocities: bool = True
    """Write velocities into the trajectories."""
    forces: bool = False
    """Write forces into the trajectories."""
    equilibration: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Part of each run at its start that means leave out (dimensionless)."""
    checkpoint_seconds: Second = Field(default=60.0, ge=0)
    """Time between two checkpoints."""
    out: Path = Path("md")
    """Folder: log.csv, trajectories, report.html, offender.extxyz, checkpoint. If a run was begun in it, it goes on."""


class MdRow(Result):
    """What one run gave; means leave out the equilibration, their standard errors come from blocks."""

    run: int
    """Number in the log and in names of trajectories."""
    structure: str
    """File and 0-based frame number."""
    formula: str
    """Composition."""
    outcome: str
    """done, or why it ended early."""
    time: Picosecond
    """Simulated."""
    temperature: Kelvin | None
    """Mean."""
    temperature_error: Kelvin | None
    """Its standard error."""
    potential: EVPerAtom | None
    """Mean potential energy."""
    potential_error: EVPerAtom | None
    """Its standard error."""
    pressure: GigaPascal | None
    """Mean; of structures that are periodic in three directions."""
    pressure_error: GigaPascal | None
    """Its standard error."""
    volume: Angstrom3PerAtom | None
    """Mean; of structures that are periodic in three directions."""
    volume_error: Angstrom3PerAtom | None
    """Its standard error."""
    density: GramPerCubicCentimetre | None
    """Mean; of structures that are periodic in three directions."""
    drift: MilliEVPerAtomPerPicosecond | None
    """Slope of the conserved quantity; of ensembles that have one."""
    disagreement: EVPerAngstrom | None
    """Largest disagreement of a committee about a force, in the log."""


class MdResult(PropertyResult):
    """Outcome of each run."""

    done: int
    """Runs that came to their end."""
    stopped: int
    """Runs that ended early; their last structures are in offender.extxyz."""
    runs: list[MdRow]
    """One row for each run."""
    trajectories: list[Path]
    """One file for each run."""
    log: Path
    """Temperature, energies, pressure, volume, disagreement along the way."""


def run(settings: MdTaskSettings, reporter: Reporter) -> MdResult:
    """Molecular dynamics of structures, many at once; goes on where it stopped when run again."""
    with folder_for_results(settings.out), alone_in(settings.out, reporter):
        remove_unfinished(settings.out)
        return _run(settings, reporter)


def _run(settings: MdTaskSettings, reporter: Reporter) -> MdResult:
    """The work of `run`, in a folder that exists."""
    from rutile.potentials.combine import common_elements
    from rutile.simulate.md.loop import Dynamics
    from rutile.simulate.md.record import CHECKPOINT, LOG, Record, Recording
    from rutile.tasks.md_page import page, read_log
    from rutile.train.signals import remember_signals

    members, calibration = members_and_bars(settings, reporter)
    readings = list(readings_given(settings, common_elements(members), reporter))
    given = [r.frame for r in readings if r.frame is not None]
    held = [held_atoms(settings, reading) for reading in readings]
    refuse_if_all_held(given, np.concatenate(held))
    frames, kelvins = _runs(settings, given)
    fixed = np.concatenate([mine for mine in held for _ in range(len(frames) // len(given))])
    how = MdSettings(**{name: getattr(settings, name) for name in MdSettings.model_fields})
    dynamics = Dynamics(members, how, calibration=calibration)
    keep = Recording(settings.every, settings.log_every, settings.trajectory, settings.velocities, settings.forces)
    record = Record(settings.out, dynamics, keep, _identity(settings, given, held, members), [f.source for f in frames])
    with remember_signals() as stop:
        if (settings.out / CHECKPOINT).exists():
            _note_atoms(record, frames)
            state = resumed(record)
            reporter.info(f"going on from step {state.step} in {settings.out}")
        else:
            state = _begun(settings, dynamics, record, frames, fixed, kelvins, reporter)
        to_the_end(state, dynamics, record, settings.checkpoint_seconds, reporter, stop)
    table = read_log(settings.out / LOG)
    result = _result(settings, record, frames, table)
    result = write_result(settings.out, result, result.runs, page(result, table, settings.model_dump(mode="json")))
    return result


def _runs(settings: MdTaskSettings, given: Sequence[Frame]) -> tuple[list[Frame], list[float | None]]:
    """Structure and temperature (None: of the ensemble) of each run."""
    if settings.temperatures and isinstance(settings.ensemble, Thermal) and settings.ensemble.temperature_end:
        raise SettingsError("temperatures: runs at several temperatures cannot have ensemble.temperature_end, too")
    if 0 in settings.temperatures and not isinstance(settings.ensemble, NveSettings):
        raise SettingsError(f"temperatures: ensemble.name={settings.ensemble.name} needs temperatures above 0")
    kelvins: list[float | None] = list(settings.temperatures) or [None]
    every = [(f, t) for f in given for t in kelvins for _ in range(settings.replicas)]
    return [f for f, _ in every], [t for _, t in every]


def _identity(
    settings: MdTaskSettings, given: Sequence[Frame], held: Sequence[np.ndarray], members: Sequence[Potential]
) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    ensemble = settings.ensemble
    ends = {"temperature_end", "pressure_end"}
    ramps = any(getattr(ensemble, name, None) is not None for name in ends)
    said = settings.model_dump(mode="json", exclude=set(FREE) | (set() if ramps else {"time"}))
    atoms = hashlib.sha256()
    for f, fixed in zip(given, held, strict=True):
        for array in (f.numbers, f.positions, f.cell, f.pbc, *([fixed] if fixed.any() else [])):
            atoms.update(np.ascontiguousarray(array).tobytes())
    weights = hashlib.sha256()
    for member in members:
        weights.update(f"{type(member).__name__} {member.cutoff!r}".encode())
        for name, tensor in sorted(member.state_dict().items()):  # type: ignore[attr-defined]
            weights.update(name.encode())
            weights.update(tensor.detach().cpu().numpy().tobytes())
    return said | {"structures": atoms.hexdigest()[:16], "model": weights.hexdigest()[:16]}


def _note_atoms(record: Record, frames: Sequence[Frame]) -> None:
    """Tell the record of which atoms the runs are."""
    note_atoms(record, [np.asarray(f.numbers) for f in frames], [np.asarray(f.pbc) for f in frames])


def _begun(
    settings: MdTaskSettings,
    dynamics: Dynamics,
    record: Record,
    frames: Sequence[Frame],
    fixed: np.ndarray,
    kelvins: Sequence[float | None],
    reporter: Reporter,
) -> State:
    """All runs at their start."""
    import torch
    from ase.data import atomic_masses

    from rutile.structures.structures import concatenate

    structures = concatenate(f.structures() for f in frames)
    lightest = float(atomic_masses[structures.numbers.numpy()].min())
    if settings.timestep > HEAVY_STEP * lightest**0.5:
        reporter.warn(
            f"timestep={settings.timestep:g} fs is long for atoms of {lightest:.3g} amu: about "
            f"{HEAVY_STEP / 2 * lightest**0.5:.1g} fs is usual; watch the drift of the conserved quantity"
        )
    temperatures: Tensor | None = None
    if settings.temperatures:
        temperatures = torch.tensor([[t, t] for t in kelvins], dtype=torch.float64)
    state = dynamics.begin(
        structures, temperatures=temperatures, fixed=torch.from_numpy(fixed), names=[f.source for f in frames]
    )
    for source in dict.fromkeys(f.source for f, dof in zip(frames, state.dof.tolist(), strict=True) if not dof):
        reporter.warn(
            f"{source}: an atom whose drift is taken out has nothing left to move: take a supercell, or "
            "ensemble.name=langevin"
        )
    _note_atoms(record, frames)
    record.begin(state)
    return state


def _result(settings: MdTaskSettings, record: Record, frames: Sequence[Frame], table: dict[str, Any]) -> MdResult:
    """Means of every run from the log."""
    from rutile.simulate.md.record import LOG

    ends = {number: (step, why) for number, step, why in record.stopped}
    rows = [_row(settings, k, frame, table, ends.get(k)) for k, frame in enumerate(frames)]
    return MdResult(
        done=len(rows) - len(ends),
        stopped=len(ends),
        runs=rows,
        trajectories=record.trajectories(),
        log=settings.out / LOG,
    )


def _row(settings: MdTaskSettings, k: int, frame: Frame, table: dict[str, Any], end: tuple[int, str] | None) -> MdRow:
    """What one run gave."""
    from ase.data import atomic_masses

    from rutile.simulate.md.means import mean_with_error, slope

    n, bulk = len(frame.numbers), bool(np.asarray(frame.pbc).all())
    mine = table["run"] == k
    t = table["time_fs"][mine]
    late = t >= settings.equilibration * (t.max() if len(t) else 0)

    def mean(column: str, unit: float = 1.0) -> tuple[float | None, float | None]:
        value, error = mean_with_error(table[column][mine][late] / unit)
        return (value if np.isfinite(value) else None), error

    (kelvin, kelvin_error), (energy, energy_error) = mean("temperature_K"), mean("potential_eV", n)
    pressure, pressure_error = mean("pressure_GPa") if bulk else (None, None)
    volume, volume_error = mean("volume_A3", n) if bulk else (None, None)
    volume_error = volume_error or None
    drift = slope(t / 1000, 1000 * table["conserved_eV"][mine] / n)
    worst = table["disagreement_eV_A"][mine].max(initial=0.0)
    mass = float(atomic_masses[frame.numbers].sum()) / n
    return MdRow(
        run=k, structure=frame.source, formula=formula(frame.numbers.tolist()), outcome=end[1] if end else "done",
        time=(end[0] * settings.timestep if end else float(t.max(initial=0.0))) / 1000,
        temperature=kelvin, temperature_error=kelvin_error, potential=energy,
        potential_error=energy_error, pressure=pressure, pressure_error=pressure_error, volume=volume,
        volume_error=volume_error, density=mass / volume * 1.66053906660 if volume else None,
        drift=drift if np.isfinite(drift) else None, disagreement=float(worst) or None,
    )  # fmt: skip


TASK = Task(
    "md",
    MdTaskSettings,
    MdResult,
    run,
    positional="structures",
    examples=(
        "rutile md rutile.cif model=run ensemble.temperature=300 time=10 timestep=1",
        "rutile md water.extxyz model=model.rutile ensemble.name=cell_rescale ensemble.compressibility=0.45 time=100",
        "rutile md cu.cif model=emt ensemble.name=nve ensemble.temperature=600 timestep=2 trajectory=hdf5",
        "rutile md li.cif model=run 'temperatures=[600, 800, 1000]' replicas=2 watch.disagreement=1",
    ),
)
