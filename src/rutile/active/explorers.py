"""Exploring with a committee: dynamics, relaxations, normal modes and paths on the mean of its members.

Each run is a piece of work of its own: a picklable function of a picklable item. What it meets is kept as structures
without labels; where the members disagree more than the failed level, or a structure cannot be, dynamics ends.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from rutile.active.disagreement import SURE
from rutile.active.plan import MdExplorer, NebExplorer, NormalModesExplorer, RelaxExplorer
from rutile.build.distort import rattled
from rutile.build.normal_modes import displacement, normal_modes, numerical_hessian
from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.potentials.calculator import ExtrapolationWarning, NotSmoothWarning, RutileCalculator
from rutile.potentials.combine import Mean
from rutile.potentials.save import load_model
from rutile.simulate.guess import first_guess
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.settings import MdSettings
from rutile.simulate.md.state import State, kinetic_of, temperature
from rutile.simulate.neb import neb
from rutile.simulate.relax import relax
from rutile.simulate.settings import NebSettings, RelaxSettings
from rutile.structures.structures import Structures, concatenate

Computed = MdExplorer | RelaxExplorer | NormalModesExplorer | NebExplorer
BURST = 20.0
"""Dynamics hotter than so many times the temperature asked for (dimensionless) has burst."""
SOUND_START = 0.5
"""Nearest two atoms of a beginning that is worth to be kept, in sums of covalent radii (dimensionless)."""
SOUND = "to its end"
"""How a run ended that nothing happened to."""


@dataclass(frozen=True)
class Limits:
    """Where exploring ends."""

    high: float
    """Largest disagreement about a force (eV/Angstrom)."""
    closest: float
    """Nearest two atoms, in sums of covalent radii."""
    max_force: float
    """Largest force (eV/Angstrom)."""


@dataclass(frozen=True)
class Run:
    """One piece of exploration."""

    explorer: Computed
    """What to do."""
    seeds: list[Atoms]
    """What to begin with: one structure; several for relaxations; two for a path."""
    seed: int
    """Of random numbers."""
    count: int = 1
    """Structures to make, where the explorer does not say: of normal modes."""


@dataclass(frozen=True)
class Found:
    """What a run met."""

    frames: list[Atoms]
    """In order, without calculator; what is known of each is in `info`."""
    ended: str
    """How it ended, for people."""


@dataclass(frozen=True)
class Explore:
    """Work on a `Run` with a model."""

    model: Path
    """Model file of a committee."""
    limits: Limits
    """Where to end."""
    device: str = "cpu"
    """Where to compute."""
    mode: str | None = None
    """Calc mode; None: the only one."""

    def __call__(self, run: Run) -> Found:
        """Explore; what goes wrong ends the run, and is said in `ended`."""
        with without_warnings():
            return self._explore(run)

    def _explore(self, run: Run) -> Found:
        """The same, with warnings."""
        calculator = load_model(self.model).calculator(device=self.device, mode=self.mode)
        explorer = run.explorer
        try:
            if isinstance(explorer, MdExplorer):
                return dynamics(run.seeds[0], explorer, calculator, self.limits, run.seed)
            if isinstance(explorer, RelaxExplorer):
                return relaxations(run.seeds, explorer, calculator, run.seed)
            if isinstance(explorer, NormalModesExplorer):
                return along_modes(run.seeds[0], explorer, calculator, run.count, run.seed)
            return path(run.seeds, explorer, calculator, self.limits)
        except RutileError as error:
            return Found([], str(error).splitlines()[0])


@contextmanager
def without_warnings() -> Iterator[None]:
    """No warnings of extrapolation: to meet what the data lack is what exploring is for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExtrapolationWarning)
        warnings.simplefilter("ignore", NotSmoothWarning)
        yield


class Watch:
    """Says what is wrong with a structure whose forces were just computed."""

    def __init__(self, calculator: RutileCalculator, limits: Limits) -> None:
        self.calculator = calculator
        self.limits = limits

    def deviations(self) -> np.ndarray:
        """Disagreement about each force (eV/Angstrom), last calculation; in the size of errors if calibrated, [N]."""
        spread = np.linalg.norm(self.calculator.results["forces_std"], axis=1)
        bars = self.calculator.calibration.forces if self.calculator.calibration is not None else None
        return np.asarray(spread if bars is None else bars.scale * np.maximum(spread, bars.floor))

    def wrong(self, atoms: Atoms) -> str:
        """Why to end here; empty: nothing is wrong."""
        deviations = self.deviations()
        if not float(deviations.max()) < self.limits.high:
            return "the members disagree beyond the failed level"
        forces = np.linalg.norm(self.calculator.results["forces"], axis=1)
        if not float((forces - SURE * deviations).max()) <= self.limits.max_force:
            return "a force beyond reason"
        return "atoms too close" if nearest(atoms) < self.limits.closest else ""


def nearest(atoms: Atoms) -> float:
    """Distance of the two nearest atoms in sums of their covalent radii; infinite where none are near."""
    z = atoms.numbers
    i, j, d = neighbor_list("ijd", atoms, 2 * float(covalent_radii[z].max()))
    return float((d / (covalent_radii[z[i]] + covalent_radii[z[j]])).min(initial=np.inf))


def dynamics(seed: Atoms, explorer: MdExplorer, calculator: RutileCalculator, limits: Limits, number: int) -> Found:
    """Molecular dynamics with ramps of temperature and pressure.

    Of a run that ends early the last sound structure is kept, and the one that the members disagree about.

    Args:
        seed: to begin with.
        explorer: settings.
        calculator: of a committee.
        limits: where to end.
        number: of random numbers.
    """
    how = _md_settings(seed, explorer, number)
    md = Dynamics(calculator.potentials, how, calibration=calculator.calibration, rule=Guard(limits, explorer))
    frames, last, done = list[Atoms](), _bare(seed), 0
    try:
        for moment in md.run(md.begin(Structures.from_ase([_bare(seed)]))):
            for end in moment.stopped:
                broken = end.why.startswith("the members")
                if end.step == 0:
                    return Found([_bare(seed)] if broken else [], f"{end.why} at its start")
                more = [last] if done % explorer.every else []
                more += [_seen(end.state, seed, _facts(explorer, end.step, how.steps))] if broken else []
                return Found([*frames, *more], f"{end.why} after {end.step * explorer.timestep:g} fs")
            done = moment.state.step
            last = _seen(moment.state, seed, _facts(explorer, done, how.steps))
            if done % explorer.every == 0 or done == how.steps:
                frames.append(last)
    except (RutileError, ValueError, ArithmeticError) as error:
        return Found(frames, f"{type(error).__name__} after {done * explorer.timestep:g} fs")
    return Found(frames, SOUND)


class Guard:
    """When dynamics on a committee ends: the rule of `simulate.md.loop`.

    Args:
        limits: where to end.
        explorer: how hot it is meant to be.
    """

    def __init__(self, limits: Limits, explorer: MdExplorer) -> None:
        self.limits, self.hottest = limits, BURST * max(explorer.temperature)

    def __call__(self, state: State) -> list[str]:
        """Why to end here; empty: nothing is wrong. The state is of one run."""
        limits, forces = self.limits, state.forces.norm(dim=1)
        if not float(state.deviation) < limits.high:
            return ["the members disagree beyond the failed level"]
        if not float((forces - SURE * state.doubt).max()) <= limits.max_force:
            return ["a force beyond reason"]
        widest = 2 * float(covalent_radii[state.structures.numbers.cpu().numpy()].max())
        if float(state.closest) < limits.closest * widest and nearest(state.structures.to_ase()[0]) < limits.closest:
            return ["atoms too close"]
        return ["" if float(temperature(kinetic_of(state), state.dof)) <= self.hottest else "it burst"]


def _md_settings(seed: Atoms, explorer: MdExplorer, number: int) -> MdSettings:
    """Langevin dynamics at constant volume, or at constant pressure with a cell that moves."""
    time = {"time": explorer.time / 1000, "timestep": explorer.timestep, "seed": number}
    thermal = dict(zip(("temperature", "temperature_end"), explorer.temperature, strict=True))
    if explorer.pressure is None or not seed.pbc.all():
        calm = {"name": "langevin", "friction_time": explorer.friction_time}
        return MdSettings.model_validate({"ensemble": calm | thermal, **time})
    first, last = explorer.pressure
    pressed = {"name": "cell_rescale", "pressure": first, "pressure_end": last, "cell": "full"}
    pressed |= {"thermostat": "langevin", "thermostat_time": explorer.friction_time}
    return MdSettings.model_validate(
        {"ensemble": pressed | thermal | {"barostat_time": explorer.barostat_time}, **time}
    )


def _facts(explorer: MdExplorer, step: int, steps: int) -> dict[str, Any]:
    """What is known of a structure: step, temperature and pressure of the ramp."""
    part, (first, last) = step / steps, explorer.temperature
    facts: dict[str, Any] = {"step": step, "temperature": first + part * (last - first)}
    if explorer.pressure is not None:
        facts["pressure"] = explorer.pressure[0] + part * (explorer.pressure[1] - explorer.pressure[0])
    return facts


def _seen(state: State, like: Atoms, facts: dict[str, Any]) -> Atoms:
    """The structure of a state of one run."""
    s = state.structures
    return _placed(like, s.positions.cpu().numpy(), s.cell[0].cpu().numpy(), facts)


def relaxations(seeds: Sequence[Atoms], explorer: RelaxExplorer, calculator: RutileCalculator, number: int) -> Found:
    """Relaxations of displaced structures, side by side; every few steps all are kept.

    Of one that falls into a hole before that, the beginning is kept: there the data lack something.

    Args:
        seeds: one for each relaxation.
        explorer: settings.
        calculator: of a committee.
        number: of random numbers.
    """
    moved = [rattled(a, explorer.rattle, stream(number, "rattle", k)) for k, a in enumerate(seeds)]
    mean = Mean(calculator.potentials)
    now = Structures.from_ase(moved)
    going, frames, failed, left = list(range(len(seeds))), list[Atoms](), 0, explorer.steps
    how = RelaxSettings(fmax=explorer.fmax, cell=explorer.cell, pressure=explorer.pressure)
    while going and left:
        part = min(explorer.every, left)
        left -= part
        result = relax(now, mean, how.model_copy(update={"max_steps": part}), SilentReporter())
        parts = result.structures.split()
        sound = [k for k in range(len(going)) if not result.failure[k]]
        failed += len(going) - len(sound)
        if left + part == explorer.steps:
            fell = [moved[k] for k, why in zip(going, result.failure, strict=True) if why]
            frames += [_snapshot(a, {"step": 0}) for a in fell if nearest(a) >= SOUND_START]
        for k in sound:
            facts = {"step": explorer.steps - left}
            frames.append(_placed(moved[going[k]], parts[k].positions.numpy(), parts[k].cell[0].numpy(), facts))
        open_ = [k for k in sound if not result.converged[k]]
        going = [going[k] for k in open_]
        if going:
            now = concatenate(parts[k] for k in open_)
    return Found(frames, f"{failed} of {len(seeds)} fell into a hole or burst" if failed else SOUND)


def along_modes(
    seed: Atoms, explorer: NormalModesExplorer, calculator: RutileCalculator, count: int, number: int
) -> Found:
    """A molecule, relaxed, displaced at random along its normal modes.

    Args:
        seed: the molecule.
        explorer: settings.
        calculator: of a committee.
        count: structures to make.
        number: of random numbers.
    """
    how = RelaxSettings(fmax=0.005, max_steps=500)
    result = relax(Structures.from_ase([seed]), Mean(calculator.potentials), how, SilentReporter())
    if result.failure[0]:
        return Found([_bare(seed)], f"its relaxation failed: {result.failure[0]}")
    atoms = _placed(seed, result.structures.positions.numpy(), seed.cell.array, {})
    atoms.calc = calculator

    def forces(positions: np.ndarray) -> np.ndarray:
        atoms.positions[:] = positions
        return np.asarray(atoms.get_forces())

    centre = atoms.positions.copy()
    modes = normal_modes(atoms, numerical_hessian(forces, centre))
    rng, frames = stream(number, "modes"), [_placed(atoms, centre, seed.cell.array, {})]
    for _ in range(count - 1):
        kelvin = float(rng.uniform(*explorer.temperature))
        by = displacement(modes, kelvin, rng)
        if np.linalg.norm(by, axis=1).max(initial=0.0) <= explorer.largest_displacement:
            frames.append(_placed(atoms, centre + by, seed.cell.array, {"temperature": kelvin}))
    left = count - len(frames)
    return Found(frames, f"{left} of {count} moved too far" if left else SOUND)


class _Ended(Exception):
    """A path that is not worth to be followed; says why."""


def path(ends: Sequence[Atoms], explorer: NebExplorer, calculator: RutileCalculator, limits: Limits) -> Found:
    """A nudged elastic band between two relaxed ends; every few steps all images are kept.

    Where an end falls into a hole of the potential, what lies between the ends as they are given is kept.

    Args:
        ends: both ends: the same atoms in the same order.
        explorer: settings.
        calculator: of a committee.
        limits: where to end.
    """
    mean, given = Mean(calculator.potentials), [_bare(a) for a in ends]
    how = RelaxSettings(fmax=explorer.fmax)
    result = relax(Structures.from_ase(given), mean, how, SilentReporter())
    if why := next(filter(None, result.failure), ""):
        start, end = Structures.from_ase(given).split()
        between = first_guess(start, end, explorer.images)
        return Found(_images(between, given[0], 0), f"the relaxation of an end failed: {why}")
    start, end = result.structures.split()
    guess = first_guess(start, end, explorer.images)
    frames, done = _images(guess, given[0], 0), 0
    watch = Watch(calculator, limits)

    def keep(_: int, images: Structures) -> None:
        nonlocal done
        done += explorer.every
        inside = _images(images, given[0], done)[1:-1]
        for image in inside:
            image.calc = calculator
            image.get_forces()
            why = watch.wrong(image)
            image.calc = None
            if why:
                raise _Ended(f"{why} after {done} steps")
        frames.extend(inside)

    band_settings = NebSettings(
        images=explorer.images, fmax=explorer.fmax, climb=explorer.climb, max_steps=explorer.steps,
        keep_every=explorer.every,
    )  # fmt: skip
    try:
        (band,) = neb([guess], mean, band_settings, SilentReporter(), keep=keep)
    except _Ended as end:
        return Found(frames, str(end))
    except (RutileError, ValueError, ArithmeticError) as error:
        return Found(frames, f"{type(error).__name__} after {done} steps")
    if band.failure:
        return Found(frames, band.failure)
    if band.steps > done:
        frames += _images(band.images, given[0], band.steps)[1:-1]
    return Found(frames, SOUND)


def _images(path_: Structures, like: Atoms, step: int) -> list[Atoms]:
    """Structures of a path."""
    return [_placed(like, one.positions.numpy(), like.cell.array, {"step": step}) for one in path_.split()]


def _bare(atoms: Atoms) -> Atoms:
    """The structure alone."""
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _snapshot(atoms: Atoms, facts: dict[str, Any]) -> Atoms:
    """The structure as it is now, with what is known of it."""
    out = _bare(atoms)
    out.info |= facts
    return out


def _placed(like: Atoms, positions: np.ndarray, cell: np.ndarray, facts: dict[str, Any]) -> Atoms:
    """The same atoms elsewhere."""
    out = Atoms(like.numbers, positions=positions, cell=cell, pbc=like.pbc)
    out.info |= facts
    return out
