"""Melts and their quenches, many at once: hot for a while, then cooled down evenly, at constant volume (Langevin)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms

from rutile.build.recipe import Snapshot
from rutile.build.settings import Melt
from rutile.potentials.potential import Potential
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.settings import LangevinSettings, MdSettings
from rutile.simulate.md.state import State
from rutile.structures.structures import Structures


def melts(
    starts: Sequence[Atoms], melt: Melt, potential: Potential, temperatures: Sequence[float], seed: int
) -> list[list[Snapshot] | None]:
    """Structures along each melt and its quench; None: the run ended early (atoms too close, too hot, not finite).

    Args:
        starts: one structure for each run.
        melt: times, temperature at the end of the quench, number of snapshots.
        potential: moves the atoms.
        temperatures: of each melt (K).
        seed: of velocities and noise.

    Raises:
        GeometryError: a structure cannot be evaluated.
        ElementError: the potential does not know an element.
    """
    out: list[list[Snapshot] | None] = [[] for _ in starts]
    hot, cold = (max(1, round(t / melt.timestep)) if t else 0 for t in (melt.time, melt.quench_time))
    kelvin = torch.tensor(temperatures, dtype=torch.float64)
    quenched = torch.full_like(kelvin, melt.quench_temperature)
    stages = [(hot, kelvin, 0), (cold, quenched, melt.snapshots)] if cold else [(hot, kelvin, melt.snapshots)]
    left, begun, state = torch.arange(len(starts)), 0, None
    for k, (steps, end, snapshots) in enumerate(stages):
        how = MdSettings(
            ensemble=LangevinSettings(friction_time=melt.friction_time), time=steps * melt.timestep / 1000,
            timestep=melt.timestep, seed=seed + k,
        )  # fmt: skip
        dynamics, ramp = Dynamics([potential], how), torch.stack([kelvin, end], 1)[left]
        if state is None:
            state = dynamics.begin(Structures.from_ase(list(starts)), temperatures=ramp)
        else:
            state = dynamics.begin(state.structures, temperatures=ramp, velocities=state.velocities)
        due = [max(1, steps * n // snapshots) for n in range(1, snapshots + 1)]
        for moment in dynamics.run(state):
            state = moment.state
            for one in moment.stopped:
                out[int(left[one.number])] = None
            for _ in range(due.count(state.step)):
                part = state.step / steps
                _take(out, state, left, ramp[:, 0] + part * (ramp[:, 1] - ramp[:, 0]), begun + state.step, melt)
        left, begun = left[state.number.cpu()], begun + steps
        if not len(left):
            break
    return out


def _take(
    out: list[list[Snapshot] | None], state: State, left: torch.Tensor, kelvin: torch.Tensor, steps: int, melt: Melt
) -> None:
    """Snapshots of all runs that go on."""
    for number, atoms in zip(state.number.tolist(), state.structures.to(device="cpu").to_ase(), strict=True):
        path = out[int(left[number])]
        assert path is not None
        path.append(Snapshot(atoms, float(kelvin[number]), steps * melt.timestep))
