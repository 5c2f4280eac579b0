"""One round of `rutile melt`: one crystal at several temperatures, in three stages that are kept in folders."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rutile.core.errors import DataError
from rutile.core.reporting import Reporter, SilentReporter
from rutile.potentials.potential import Potential
from rutile.simulate.forces import evaluate_many
from rutile.simulate.md.loop import Dynamics, Rule
from rutile.simulate.md.record import CHECKPOINT, Record, Recording
from rutile.simulate.md.settings import CellRescaleSettings, LangevinSettings, MdSettings
from rutile.simulate.md.state import State
from rutile.simulate.md.watch import Watch, highest
from rutile.simulate.melting import (
    FROZEN,
    MOLTEN,
    Verdict,
    boxes,
    growth_rate,
    interface_repeats,
    stretched,
    upper_half,
    verdict,
)
from rutile.simulate.order import crystal_order, lattice_vectors
from rutile.simulate.settings import MeltSettings
from rutile.structures.io import iterate
from rutile.structures.structures import Structures, concatenate
from rutile.tasks.kept_dynamics import note_atoms, resumed, to_the_end
from rutile.train.signals import remember_signals

CORE = (0.6, 0.9)
"""Heights (in parts of the box) of the melted half that are far from crystal."""
CONTRAST = 0.3
"""The order of the crystal is above that of the liquid by this, at least."""
DECIDED = ("froze", "melted")
FRAMES = 20
"""Of each run, at which members of a committee are compared."""
ATOMS_AT_ONCE = 2000
"""Frames are evaluated together up to so many atoms."""


@dataclass(frozen=True)
class Seen:
    """Some frames of a run as the members of a committee see them."""

    part: np.ndarray
    """Crystalline part, [F]."""
    energies: np.ndarray
    """Of the members (eV/atom), [M, F]."""
    volume: np.ndarray
    """(Angstrom^3/atom), [F]."""


@dataclass(frozen=True)
class Grown:
    """One run."""

    temperature: float
    """(K)."""
    atoms: int
    """In the box."""
    time: np.ndarray
    """Of the looks (ps), [F]."""
    part: np.ndarray
    """Crystalline part then, [F]."""
    verdict: Verdict
    """What became of it."""
    note: str
    """What else ended it."""
    seen: Seen | None = None
    """By the members of a committee."""

    @property
    def rate(self) -> float | None:
        """Of the crystalline part while there were both phases (1/ps)."""
        return growth_rate(self.time, self.part)


@dataclass(frozen=True)
class Stage:
    """A run of dynamics that is kept in a folder."""

    folder: Path
    members: Sequence[Potential]
    how: MdSettings
    look: int
    """Steps between frames."""
    identity: dict[str, Any]
    checkpoint_seconds: float

    def run(
        self, start: Structures, temperatures: Tensor, reporter: Reporter, label: str,
        fixed: Tensor | None = None, rule: Rule | None = None,
    ) -> tuple[Structures | None, list[tuple[int, int, str]], list[Path]]:  # fmt: skip
        """To its end: the last structures (None: all ended early), the ends of those that did, and trajectories."""
        self.folder.mkdir(parents=True, exist_ok=True)
        dynamics = Dynamics(self.members, self.how, rule=rule)
        keep = Recording(self.look, self.look, "extxyz", velocities=False, forces=False)
        sources = [f"{t:.0f} K" for t in temperatures[:, 1].tolist()]
        record = Record(self.folder, dynamics, keep, self.identity, sources)
        singles = start.split()
        note_atoms(record, [s.numbers.numpy() for s in singles], [s.pbc[0].numpy() for s in singles])
        with remember_signals() as stop:
            if (self.folder / CHECKPOINT).exists():
                state = resumed(record)
            else:
                state = dynamics.begin(start, temperatures=temperatures, fixed=fixed)
                record.begin(state)
            if state.step < self.how.steps and state.n_systems:
                state = to_the_end(
                    state, dynamics, record, self.checkpoint_seconds, reporter, stop, label, quiet=rule is not None
                )
        return state.structures if state.n_systems else None, record.stopped, record.trajectories()


def one_round(
    folder: Path,
    crystal: Structures,
    members: Sequence[Potential],
    how: MeltSettings,
    number: int,
    temperatures: Sequence[float],
    checkpoint_seconds: float,
    identity: dict[str, Any],
    reporter: Reporter,
) -> list[Grown]:
    """Crystal, half of it molten, both let go: what became of it at each temperature.

    Args:
        folder: for three folders of runs; what is there is gone on with.
        crystal: its cell.
        members: of a committee, or a single potential.
        how: sizes and times.
        number: of the round; other random numbers in each.
        temperatures: (K).
        checkpoint_seconds: time between two checkpoints.
        identity: what must be the same to go on.
        reporter: told how far it is.

    Raises:
        DataError: half of the crystal did not melt, or all of it did.
        SettingsError: the folder belongs to other work.
    """
    kelvin = torch.tensor(list(temperatures), dtype=torch.float64)
    steady = torch.stack([kelvin, kelvin], 1)
    start = concatenate(boxes(crystal, how.atoms, len(temperatures)))
    identity = identity | {"temperatures": list(temperatures)}

    def stage(name: str, time: float, pressed: bool) -> Stage:
        look = max(1, round(1000 * how.look / how.timestep))
        moves = _dynamics(how, time, pressed, number)
        return Stage(folder / name, members, moves, look, identity | {"stage": name}, checkpoint_seconds)

    solid, ends, paths = stage("crystal", how.crystal_time, True).run(start, steady, reporter, "Crystal")
    solid = _whole(solid, ends, "the crystal")
    vectors = _vectors(crystal, solid, how.atoms)
    above = _late(paths, vectors, 0.5, None)
    halves = [upper_half(one) for one in start.split()]
    half = torch.cat(halves)
    room = concatenate(stretched(s, h, how.expansion) for s, h in zip(solid.split(), halves, strict=True))
    hot = torch.full_like(kelvin, how.hot * float(kelvin.max()))
    ramp = torch.stack([hot, kelvin], 1)
    both, ends, paths = stage("half", how.melt_time, False).run(room, ramp, reporter, "Melting half", fixed=~half)
    both = _whole(both, ends, "the half that melts")
    below = _late(paths, vectors, 0.75, CORE)
    _check(above, below, float(hot[0]))
    rule = _Rule(how, members, both, steady, vectors, above, below)
    _, ends, paths = stage("coexistence", how.time, True).run(both, steady, reporter, "Side by side", rule=rule)
    whys = {number: why for number, _, why in ends}
    grown = [
        _grown(float(kelvin[k]), path, vectors[k], above[k], below[k], whys.get(k, ""), how)
        for k, path in enumerate(paths)
    ]
    if len(members) == 1:
        return grown
    return [dataclasses.replace(one, seen=_seen(one, path, members)) for one, path in zip(grown, paths, strict=True)]


def _dynamics(how: MeltSettings, time: float, pressed: bool, number: int) -> MdSettings:
    """How the atoms of one stage move."""
    ensemble: CellRescaleSettings | LangevinSettings = LangevinSettings(friction_time=100.0)
    if pressed:
        ensemble = CellRescaleSettings(
            pressure=how.pressure, cell="axes", thermostat="langevin", thermostat_time=how.friction_time,
            barostat_time=how.barostat_time, compressibility=how.compressibility,
        )  # fmt: skip
    return MdSettings(ensemble=ensemble, time=time, timestep=how.timestep, seed=how.seed + 1000 * number)


class _Rule:
    """Ends runs that are decided; watches over the others."""

    def __init__(
        self, how: MeltSettings, members: Sequence[Potential], start: Structures, temperatures: Tensor,
        vectors: Tensor, above: np.ndarray, below: np.ndarray,
    ) -> None:  # fmt: skip
        settings = MdSettings().watch
        self.watch = Watch(settings, highest(temperatures), start.volume.double())
        self.every = max(1, round(1000 * how.look / how.timestep))
        self.vectors, self.above, self.below = vectors, above, below

    def __call__(self, state: State) -> list[str]:
        """For each run why it ends."""
        reasons = self.watch.after(state)
        if state.step == 0 or state.step % self.every:
            return reasons
        number = state.number.cpu()
        part = _parts(state.structures.to(device="cpu"), self.vectors[number], self.above[number], self.below[number])
        decided = np.where(part >= FROZEN, "froze", np.where(part <= MOLTEN, "melted", ""))
        return [why or str(end) for why, end in zip(reasons, decided, strict=True)]


def _parts(structures: Structures, vectors: Tensor, above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Crystalline part of each run, [S]."""
    order = crystal_order(structures, vectors)
    mean = torch.zeros(structures.n_systems, dtype=torch.float64).index_add(0, structures.system, order)
    return np.asarray(((mean / structures.counts).numpy() - below) / (above - below))


def _vectors(crystal: Structures, solid: Structures, atoms: int) -> Tensor:
    """Lattice vectors in the crystal of each run, [S, M, 3]."""
    (one,) = crystal.to_ase()
    inside = torch.from_numpy(lattice_vectors(one) @ np.linalg.inv(one.cell.array))
    times = torch.tensor(interface_repeats(crystal, atoms), dtype=torch.float64)
    return torch.einsum("mi,sij->smj", inside / times, solid.cell.double().cpu())


def _late(paths: Sequence[Path], vectors: Tensor, after: float, core: tuple[float, float] | None) -> np.ndarray:
    """Mean order in the last part of each trajectory, of atoms between two heights if given, [S]."""
    out = []
    for path, mine in zip(paths, vectors, strict=True):
        frames = list(iterate(path))
        values = []
        for atoms in frames[int(after * len(frames)) :][-20:]:
            order = crystal_order(Structures.from_ase(atoms), mine[None]).numpy()
            height = atoms.get_scaled_positions()[:, 2]
            values.append(order[(height > core[0]) & (height < core[1])].mean() if core else order.mean())
        out.append(np.mean(values))
    return np.array(out)


def _whole(structures: Structures | None, ends: Sequence[tuple[int, int, str]], what: str) -> Structures:
    """All runs of a stage.

    Raises:
        DataError: one ended early.
    """
    if ends or structures is None:
        _, step, why = ends[0]
        raise DataError(f"{what} ended after {step} steps: {why}; try a shorter timestep, or a lower `hot`")
    return structures.to(device="cpu")


def _check(above: np.ndarray, below: np.ndarray, hot: float) -> None:
    """Refuse what is no crystal beside a liquid."""
    if (above - below < CONTRAST).any():
        k = int((above - below).argmin())
        raise DataError(
            f"half of the crystal was to melt at {hot:.0f} K, but its order is {below[k]:.2f}, that of the crystal "
            f"{above[k]:.2f}: if the latter is above 0.6, melt longer or hotter (melt_time, hot), else begin colder "
            "(highest)"
        )


def _seen(one: Grown, path: Path, members: Sequence[Potential]) -> Seen | None:
    """What the members say of some frames of a run; None: there are too few."""
    if len(one.part) < 2:
        return None
    which = np.unique(np.linspace(0, len(one.part) - 1, FRAMES).round().astype(int))
    frames = list(iterate(path))
    batch = Structures.from_ase([frames[k] for k in which])
    every = [evaluate_many(batch, m, ATOMS_AT_ONCE, SilentReporter()).energy / batch.counts for m in members]
    return Seen(one.part[which], torch.stack(every).numpy(), (batch.volume / batch.counts).numpy())


def _grown(
    kelvin: float, path: Path, vectors: Tensor, above: float, below: float, why: str, how: MeltSettings
) -> Grown:
    """What became of one run."""
    time, part, n = [], [], 0
    for atoms in iterate(path):
        one = Structures.from_ase(atoms)
        n = one.n_atoms
        time.append(float(atoms.info["time"]) / 1000)
        part.append(float(_parts(one, vectors[None], np.array([above]), np.array([below]))[0]))
    if why in DECIDED:
        decided: Verdict = "froze" if why == "froze" else "melted"
        return Grown(kelvin, n, np.array(time), np.array(part), decided, "")
    if why:
        return Grown(kelvin, n, np.array(time), np.array(part), "undecided", why)
    return Grown(kelvin, n, np.array(time), np.array(part), verdict(np.array(part)), "")
