"""Velocity Verlet: molecular dynamics at constant energy (NVE), many structures at once, in float64.

    v += F(R) dt / 2m,   R += v dt,   v += F(R) dt / 2m

Time-reversible and symplectic: with continuous forces the total energy oscillates with an amplitude proportional to
dt^2 and does not drift. What drifts, or does not shrink with dt, is the fault of the forces.

Sources: L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98; W. C. Swope et al., J. Chem. Phys. 76, 637
(1982), doi:10.1063/1.442716.
Letters of shapes: N atoms, S systems, T times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from ase.data import atomic_masses
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.core.units import ACCELERATION, KB
from rutile.graph.skin import SkinList
from rutile.potentials.evaluate import evaluate
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures

SKIN = 0.5
"""Extra radius of the neighbour list (Angstrom)."""


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


def masses_of(structures: Structures) -> Tensor:
    """Masses of the atoms (amu), [N] float64."""
    return torch.from_numpy(atomic_masses)[structures.numbers.cpu()]


def thermal_velocities(structures: Structures, temperature: float, generator: torch.Generator) -> Tensor:
    """Velocities (Angstrom/fs) of the Maxwell-Boltzmann distribution without momentum of each system, [N, 3].

    Args:
        structures: the batch.
        temperature: of the distribution (K).
        generator: source of the random numbers.
    """
    m = masses_of(structures)[:, None]
    width = (KB * temperature * ACCELERATION / m).sqrt()
    v = width * torch.randn(len(m), 3, generator=generator, dtype=torch.float64)
    zero = torch.zeros(structures.n_systems, 3, dtype=torch.float64)
    mean = zero.index_add(0, structures.system, m * v) / zero[:, :1].index_add(0, structures.system, m)
    return v - mean[structures.system]


def velocity_verlet(
    structures: Structures,
    velocities: Tensor,
    potential: Potential,
    time_step: float,
    steps: int,
    reporter: Reporter,
) -> Trajectory:
    """Move all structures for some steps.

    Args:
        structures: where they start; not changed.
        velocities: of the atoms at the start (Angstrom/fs), [N, 3].
        potential: gives the forces, in its own precision and on its own device; the path is kept in float64.
        time_step: dt (fs).
        steps: how many.
        reporter: told how far it is.

    Raises:
        GeometryError: the atoms have flown apart beyond all numbers.
    """
    now, v = structures.to(dtype=torch.float64, device="cpu"), velocities.double()
    m, neighbors = masses_of(now)[:, None], SkinList(potential.cutoff, SKIN)
    energy, forces = _look(now, potential, neighbors)
    energies, kinetic = [energy], [_kinetic(m, v, now)]
    for _ in reporter.track(range(steps), f"NVE at {time_step:g} fs", steps):
        v = v + (0.5 * time_step * ACCELERATION) * forces / m
        now = now.replace(positions=now.positions + time_step * v)
        energy, forces = _look(now, potential, neighbors)
        v = v + (0.5 * time_step * ACCELERATION) * forces / m
        energies.append(energy)
        kinetic.append(_kinetic(m, v, now))
    time = time_step * torch.arange(steps + 1, dtype=torch.float64)
    return Trajectory(time, torch.stack(energies), torch.stack(kinetic), now, v)


def _kinetic(m: Tensor, v: Tensor, structures: Structures) -> Tensor:
    """Kinetic energies (eV), [S]."""
    atoms = (0.5 / ACCELERATION) * (m * v.square()).sum(1)
    return atoms.new_zeros(structures.n_systems).index_add(0, structures.system, atoms)


def _look(structures: Structures, potential: Potential, neighbors: SkinList) -> tuple[Tensor, Tensor]:
    """Energies [S] (eV) and forces [N, 3] (eV/Angstrom) in float64 on the CPU."""
    dtype, device = placement(potential)
    edges = neighbors.edges(structures).to(device)
    p = evaluate(potential, structures.to(dtype=dtype, device=device), edges=edges)
    return p.energy.double().cpu(), p.forces.double().cpu()
