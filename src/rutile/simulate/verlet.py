"""What the total energy does along molecular dynamics at constant energy: a test of forces.

Velocity Verlet is time-reversible and symplectic: with continuous forces the total energy oscillates with an amplitude
proportional to dt^2 and does not drift. What drifts, or does not shrink with dt, is the fault of the forces.

Sources: L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98; W. C. Swope et al., J. Chem. Phys. 76, 637
(1982), doi:10.1063/1.442716.
Letters of shapes: N atoms, S systems, T times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.errors import GeometryError
from rutile.core.reporting import Reporter
from rutile.potentials.potential import Potential
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.settings import MdSettings, NveSettings
from rutile.simulate.md.state import State, by_system, kinetic_of, masses_of, maxwell_boltzmann
from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Trajectory:
    """Energies along the way, and the end."""

    time: Tensor
    """From 0 to the end (fs), [T]."""
    potential: Tensor
    """Potential energy (eV), [T, S]."""
    kinetic: Tensor
    """Kinetic energy (eV), [T, S]."""
    structures: Structures
    """The last positions, not wrapped into the cell."""
    velocities: Tensor
    """The last velocities (Angstrom/fs), [N, 3]."""

    @property
    def total(self) -> Tensor:
        """Total energy (eV), [T, S]."""
        return self.potential + self.kinetic

    def drift(self) -> Tensor:
        """Slope of the line through the total energy (eV/fs), [S]."""
        t = (self.time - self.time.mean())[:, None]
        slope: Tensor = (t * self.total).sum(0) / t.square().sum()
        return slope

    def scatter(self) -> Tensor:
        """Standard deviation of the total energy around that line (eV), [S]."""
        line = self.total.mean(0) + (self.time - self.time.mean())[:, None] * self.drift()
        return (self.total - line).square().mean(0).sqrt()


def thermal_velocities(structures: Structures, temperature: float, generator: torch.Generator) -> Tensor:
    """Velocities (Angstrom/fs) of the Maxwell-Boltzmann distribution without momentum of each system, [N, 3].

    Args:
        structures: the batch.
        temperature: of the distribution (K).
        generator: source of the random numbers.
    """
    normal = torch.randn(structures.n_atoms, 3, generator=generator, dtype=torch.float64)
    v = maxwell_boltzmann(structures, torch.full((structures.n_systems,), temperature).double(), normal)
    m = masses_of(structures)[:, None]
    return v - (by_system(m * v, structures) / by_system(m, structures))[structures.system]


def velocity_verlet(
    structures: Structures,
    velocities: Tensor,
    potential: Potential,
    time_step: float,
    steps: int,
    reporter: Reporter,
) -> Trajectory:
    """Move all structures for some steps, and note their energies.

    Args:
        structures: where they start; not changed.
        velocities: of the atoms at the start (Angstrom/fs), [N, 3].
        potential: gives the forces, in its own precision and on its own device; the path is kept in float64.
        time_step: dt (fs).
        steps: how many.
        reporter: told how far it is.

    Raises:
        GeometryError: an atom moves farther than any atom can in one step.
    """
    how = MdSettings(ensemble=NveSettings(), time=max(1, steps) * time_step / 1000, timestep=time_step)
    dynamics = Dynamics([potential], how, rule=lambda state: [""] * state.n_systems)
    state = dynamics.begin(structures, velocities=velocities)
    energies, kinetic = [state.energy], [kinetic_of(state)]
    moments = dynamics.run(state) if steps else iter(())
    for moment in reporter.track(moments, f"NVE at {time_step:g} fs", steps):
        for end in moment.stopped:
            raise GeometryError(f"structure {end.number}, step {end.step}: {end.why}")
        state = moment.state
        energies.append(state.energy)
        kinetic.append(kinetic_of(state))
    time = time_step * torch.arange(steps + 1, dtype=torch.float64)
    return Trajectory(time, torch.stack(energies).cpu(), torch.stack(kinetic).cpu(), *_end(state))


def _end(state: State) -> tuple[Structures, Tensor]:
    """Structures and velocities on the CPU."""
    return state.structures.to(device="cpu"), state.velocities.cpu()
