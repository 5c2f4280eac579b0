"""Runs of molecular dynamics in folders: they go on where they were stopped, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rutile.core.errors import SettingsError
from rutile.core.reporting import Reporter

if TYPE_CHECKING:
    from rutile.simulate.md.loop import Dynamics
    from rutile.simulate.md.record import Record
    from rutile.simulate.md.state import State


def note_atoms(record: Record, numbers: Sequence[np.ndarray], pbc: Sequence[np.ndarray]) -> None:
    """Tell the record of which atoms the runs are: atomic numbers [N] and periodic directions [3] of each."""
    from ase.data import atomic_masses

    record.note_runs(numbers, [atomic_masses[z] for z in numbers], pbc)


def resumed(record: Record) -> State:
    """The stored state, if it belongs to the same work.

    Raises:
        SettingsError: settings that matter are others; names them.
        FileError: checkpoint or files are damaged.
    """
    from rutile.simulate.md.record import CHECKPOINT, read_checkpoint
    from rutile.train.loggers import flat

    _, facts = read_checkpoint(record.folder)
    a, b = flat(facts["identity"]), flat(record.identity)
    different = [f"{k} was {a.get(k)!r}, now {b.get(k)!r}" for k in sorted(a | b) if a.get(k) != b.get(k)]
    if different:
        raise SettingsError(
            f"{record.folder / CHECKPOINT} belongs to another run: {'; '.join(different)}. Restore these settings, or "
            "begin in another folder (out=...)"
        )
    return record.resume()


def to_the_end(
    state: State,
    dynamics: Dynamics,
    record: Record,
    checkpoint_seconds: float,
    reporter: Reporter,
    stop: Callable[[], str | None],
    label: str = "Molecular dynamics",
    quiet: bool = False,
) -> State:
    """All steps that are left, recorded; ends the process where a signal has asked for it, after a checkpoint.

    Args:
        state: where the runs stand.
        dynamics: that made it.
        record: receives every step.
        checkpoint_seconds: time between two checkpoints.
        reporter: told how far it is.
        stop: names a signal that came.
        label: what the work is called.
        quiet: say nothing of runs that ended early.

    Raises:
        FileError: the disk is full.
    """
    timestep, shown, saved = dynamics.settings.timestep, time.monotonic(), time.monotonic()
    signal = None
    for moment in reporter.track(dynamics.run(state), label, dynamics.settings.steps - state.step):
        state = moment.state
        record.write(state, moment.stopped)
        for end in () if quiet else moment.stopped:
            at = end.step * timestep
            reporter.warn(f"run {end.number} ({record.sources[end.number]}) ended after {at:g} fs: {end.why}")
        now = time.monotonic()
        if now - shown > 1 and state.n_systems:
            shown = now
            reporter.metrics(_live(state, timestep))
        signal = stop()
        if signal or now - saved >= checkpoint_seconds:
            record.checkpoint(state)
            saved = now
        if signal:
            break
    else:
        record.checkpoint(state)
    if signal:
        reporter.info(f"stopped by {signal}; run the same command again to go on from {record.folder}")
        if signal == "SIGINT":
            raise KeyboardInterrupt
        raise SystemExit(143)
    return state


def _live(state: State, timestep: float) -> dict[str, float | int | str]:
    """A row of the live table: means over the runs."""
    from rutile.core.units import GPA
    from rutile.simulate.md.state import kinetic_of, pressure_tensor, temperature

    atoms = state.structures.n_atoms
    row: dict[str, float | int | str] = {
        "step": state.step,
        "time_ps": state.step * timestep / 1000,
        "runs": state.n_systems,
        "temperature_K": float(temperature(kinetic_of(state), state.dof).mean()),
        "potential_eV_atom": float(state.energy.sum()) / atoms,
    }
    if bool(state.structures.pbc.all()):
        pressure = pressure_tensor(state).diagonal(dim1=1, dim2=2).mean()
        row |= {"pressure_GPa": float(pressure) / GPA, "volume_A3_atom": float(state.structures.volume.sum()) / atoms}
    if bool((state.deviation > 0).any()):
        row["disagreement_eV_A"] = float(state.deviation.max())
    return row
