"""Where a batch of runs stands: everything that decides what comes next.

Letters of shapes: N atoms, S systems (runs). Masses in amu, velocities in Angstrom/fs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from ase.data import atomic_masses
from torch import Tensor

from rutile.core.units import ACCELERATION, KB
from rutile.simulate.md.motion import kinetic_sums
from rutile.simulate.md.noise import noise
from rutile.structures.structures import Structures

LEAST = 1e-12
"""Moments of inertia (amu Angstrom^2, relative) below this are those of a line or a point."""


@dataclass(frozen=True)
class State:
    """A batch of runs between two time steps; all in float64, on the device of the potential."""

    structures: Structures
    """Positions, not wrapped into the cell."""
    velocities: Tensor
    """[N, 3] (Angstrom/fs)."""
    mass: Tensor
    """[N, 1] (amu)."""
    ease: Tensor
    """Acceleration by a force of 1 eV/Angstrom (Angstrom/fs^2), [N, 1]; 0 of atoms that are fixed."""
    number: Tensor
    """Which of the runs that were begun, [S] int64."""
    dof: Tensor
    """Degrees of freedom that carry kinetic energy, [S]."""
    energy: Tensor
    """Potential energy (eV), [S]."""
    forces: Tensor
    """[N, 3] (eV/Angstrom)."""
    stress: Tensor
    """Of the potential energy alone (eV/Angstrom^3), [S, 3, 3]; 0 where a system is not periodic in 3-D."""
    closest: Tensor
    """Shortest distance (Angstrom), [S]."""
    doubt: Tensor
    """Disagreement of a committee about the force on each atom (eV/Angstrom), [N]; 0 of a single potential."""
    heat: Tensor
    """Energy that thermostat and deformation have put in so far (eV), [S]."""
    step: int = 0
    """Time steps done."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Variables of thermostats and barostats, each [S, ...]."""

    @property
    def fixed(self) -> Tensor:
        """Atoms that no force moves, [N] bool."""
        return self.ease[:, 0] == 0

    @property
    def deviation(self) -> Tensor:
        """Largest disagreement about a force in each run (eV/Angstrom), [S]."""
        return self.heat.new_zeros(self.n_systems).scatter_reduce(0, self.structures.system, self.doubt, "amax")

    @property
    def n_systems(self) -> int:
        """Number of runs S."""
        return self.structures.n_systems

    def replace(self, **changes: object) -> State:
        """A copy with some values replaced; several times in each step, hence without `dataclasses.replace`."""
        new = object.__new__(State)
        new.__dict__.update(self.__dict__, **changes)
        return new

    def keep(self, which: Tensor) -> State:
        """Only some of the runs, [S] bool."""
        atoms = which[self.structures.system]
        out: dict[str, object] = {name: getattr(self, name)[atoms] for name in PER_ATOM}
        out |= {name: getattr(self, name)[which] for name in PER_SYSTEM}
        extra = {name: value[which] for name, value in self.extra.items()}
        return self.replace(structures=self.structures.select(which), extra=extra, **out)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint."""
        s = self.structures
        out = {name: getattr(s, name) for name in ("numbers", "positions", "cell", "pbc", "system")}
        out |= {name: getattr(self, name) for name in (*PER_ATOM, *PER_SYSTEM)}
        return out | {f"extra.{name}": value for name, value in self.extra.items()}

    @staticmethod
    def from_tensors(tensors: dict[str, Tensor], step: int, device: torch.device | str = "cpu") -> State:
        """The state of `tensors`, bit for bit."""
        t = {name: value.to(device) for name, value in tensors.items()}
        structures = Structures(*(t[name] for name in ("numbers", "positions", "cell", "pbc", "system")))
        extra = {name.removeprefix("extra."): value for name, value in t.items() if name.startswith("extra.")}
        return State(structures, step=step, extra=extra, **{name: t[name] for name in (*PER_ATOM, *PER_SYSTEM)})


PER_ATOM = ("velocities", "mass", "ease", "forces", "doubt")
PER_SYSTEM = ("number", "dof", "energy", "stress", "closest", "heat")


def masses_of(structures: Structures) -> Tensor:
    """Masses of the atoms (amu), [N] float64, where the structures are."""
    return torch.from_numpy(atomic_masses)[structures.numbers.cpu()].to(structures.positions.device)


def by_system(values: Tensor, structures: Structures) -> Tensor:
    """Sums of values of atoms [N, ...] in each system, [S, ...]."""
    zero = values.new_zeros(structures.n_systems, *values.shape[1:])
    return zero.index_add(0, structures.system, values)


def kinetic_energy(velocities: Tensor, mass: Tensor, structures: Structures) -> Tensor:
    """(eV), [S].

    Args:
        velocities: [N, 3] (Angstrom/fs).
        mass: [N, 1] (amu).
        structures: whose atoms.
    """
    return kinetic_sums(velocities, mass, structures) / ACCELERATION


def kinetic_tensor(velocities: Tensor, mass: Tensor, structures: Structures) -> Tensor:
    """Sum of m v v over the atoms (eV), [S, 3, 3]; its trace is twice the kinetic energy."""
    each = (velocities[:, :, None] * (velocities * (mass / ACCELERATION))[:, None, :]).flatten(1)
    return by_system(each, structures).reshape(-1, 3, 3)


def kinetic_of(state: State) -> Tensor:
    """Kinetic energy of each run (eV), [S]."""
    return kinetic_energy(state.velocities, state.mass, state.structures)


def temperature(kinetic: Tensor, dof: Tensor) -> Tensor:
    """2 K / (dof kB) in K, [S]; 0 without degrees of freedom."""
    return 2 * kinetic / (KB * dof.clamp(min=1))


def pressure_tensor(state: State) -> Tensor:
    """(sum of m v v)/V - stress (eV/Angstrom^3), [S, 3, 3]; 0 where a system is not periodic in 3-D."""
    periodic = state.structures.pbc.all(1)
    volume = torch.where(periodic, state.structures.volume, torch.inf)
    return kinetic_tensor(state.velocities, state.mass, state.structures) / volume[:, None, None] - state.stress


def thermal_velocities(
    structures: Structures, temperatures: Tensor, seed: int, fixed: Tensor, still: bool, numbers: Tensor
) -> Tensor:
    """Velocities of the Maxwell-Boltzmann distribution (Angstrom/fs), [N, 3].

    Args:
        structures: the batch.
        temperatures: of each system (K), [S].
        seed: of the random numbers.
        fixed: atoms that rest, [N] bool.
        still: take out what `still` takes out.
        numbers: of the runs: each has random numbers of its own, [S] int64.
    """
    v = maxwell_boltzmann(structures, temperatures, noise(structures, seed, numbers, "velocities", 0))
    v = torch.where(fixed[:, None], 0.0, v)
    return stilled(structures, v, fixed) if still else v


def maxwell_boltzmann(structures: Structures, temperatures: Tensor, normal: Tensor) -> Tensor:
    """Velocities (Angstrom/fs) for normal numbers [N, 3] at the temperature of each system (K), [S]."""
    width = (KB * temperatures[structures.system] * ACCELERATION / masses_of(structures)).sqrt()
    return width[:, None] * normal


def _isolated(structures: Structures, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Which systems may drift (no fixed atom), and which of them may turn as a whole (not periodic at all), [S]."""
    free = by_system(fixed.double(), structures) == 0
    return free, free & ~structures.pbc.any(1)


def stilled(structures: Structures, velocities: Tensor, fixed: Tensor) -> Tensor:
    """Velocities without the drift of each system, and without its rotation where nothing of it is periodic, [N, 3].

    Systems with fixed atoms are left as they are: they do not keep their momentum.
    """
    free, turning = _isolated(structures, fixed)
    m, system = masses_of(structures)[:, None], structures.system
    total = by_system(m, structures)
    drift = by_system(m * velocities, structures) / total
    v = velocities - torch.where(free[:, None], drift, 0.0)[system]
    if not bool(turning.any()):
        return v
    r = structures.positions - (by_system(m * structures.positions, structures) / total)[system]
    spin = by_system(m * torch.linalg.cross(r, v), structures)
    omega = torch.einsum("sab,sb->sa", torch.linalg.pinv(_inertia(r, m, structures), hermitian=True), spin)
    turn: Tensor = torch.linalg.cross(torch.where(turning[:, None], omega, 0.0)[system], r)
    return v - turn


def _inertia(r: Tensor, m: Tensor, structures: Structures) -> Tensor:
    """Tensors of inertia about the centres of mass (amu Angstrom^2), [S, 3, 3]."""
    each = m[:, :, None] * (r.square().sum(1)[:, None, None] * torch.eye(3).to(r) - r[:, :, None] * r[:, None, :])
    return by_system(each.flatten(1), structures).reshape(-1, 3, 3)


def degrees_of_freedom(structures: Structures, fixed: Tensor, still: bool) -> Tensor:
    """How many carry kinetic energy, [S] float64: three for each atom that moves.

    With `still` those that are taken out do not count: three of the drift; and of a system that is not periodic at all
    three of its rotation, two if its atoms lie on a line, none of a single atom.
    """
    moving = 3 * by_system((~fixed).double(), structures)
    if not still:
        return moving
    free, turning = _isolated(structures, fixed)
    m = masses_of(structures)[:, None]
    r = (
        structures.positions
        - (by_system(m * structures.positions, structures) / by_system(m, structures))[structures.system]
    )
    moments = torch.linalg.eigvalsh(_inertia(r, m, structures))
    turns = (moments > LEAST * (1 + moments[:, -1:])).sum(1).double()
    return (moving - 3.0 * free - torch.where(turning, turns, 0.0)).clamp(min=0)


def beginning(structures: Structures, velocities: Tensor, fixed: Tensor, dof: Tensor) -> State:
    """A state at step 0 whose forces are not known yet (NaN)."""
    s, x = structures.n_systems, structures.positions
    nan, mass = x.new_full((s,), np.nan), masses_of(structures)[:, None]
    return State(
        structures=structures,
        velocities=velocities.to(x),
        mass=mass,
        ease=torch.where(fixed.to(x.device)[:, None], 0.0, ACCELERATION / mass),
        number=torch.arange(s, device=x.device),
        dof=dof.to(x.device),
        energy=nan,
        forces=torch.full_like(x, np.nan),
        stress=x.new_full((s, 3, 3), np.nan),
        closest=nan,
        doubt=torch.zeros_like(x[:, 0]),
        heat=torch.zeros_like(nan),
    )
