"""Integrators with a cell that answers to a pressure. Cells are rows: strains act from the right.

P = (sum m v v)/V - stress is the pressure of the moment, a symmetric matrix; only the part that the cell may follow
(`free`: all of it, its diagonal, or its mean) acts. The cell never turns.

Stochastic cell rescaling, in each time step with a symmetric matrix G of normal numbers (variance 1 on the diagonal,
1/2 beside it):

    d = (beta/3 tau) (P - P0) dt + sqrt(2 kT beta dt/(3 V tau)) G,   cell -> cell e^d, R -> R e^d, v -> v e^-d

For the size alone this is d ln V = (beta/tau) (P - P0) dt + sqrt(2 kT beta dt/(V tau)) g of Bernetti and Bussi; for
more of the cell it is diffusion in the group of its deformations, whose drift follows from the same density
V exp(-(H + P0 V)/kT) in the invariant measure. Temperature: CSVR, or friction and noise on each atom.

Parrinello and Rahman's cell in the form of Martyna, Tobias and Klein, with its rate e (1/fs) and Nose-Hoover chains on
atoms and cell, W = (g + 3) kT tau^2 / 3:

    dR/dt = v + R e,  dv/dt = F/m - v (e + tr(e)/g),  dcell/dt = cell e,  W de/dt = V (P - P0) + 2K/g

Sources: M. Bernetti and G. Bussi, J. Chem. Phys. 153, 114107 (2020), doi:10.1063/5.0020514; V. Del Tatto et al.,
Appl. Sci. 12, 1139 (2022), doi:10.3390/app12031139; G. J. Martyna, D. J. Tobias and M. L. Klein, J. Chem. Phys. 101,
4177 (1994), doi:10.1063/1.467468; T.-Q. Yu et al., Chem. Phys. 370, 294 (2010), doi:10.1016/j.chemphys.2010.02.014.
Letters of shapes: N atoms, S systems (runs).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rutile.simulate.md.noise import generator
from rutile.simulate.md.settings import CellFreedom
from rutile.simulate.md.state import State, kinetic_of, kinetic_tensor
from rutile.simulate.md.thermostats import Chain, Nve, Targets, kick, moved, rescaled, warmed


class Freedom:
    """What of the cell moves.

    Args:
        cell: its size, its lengths, or all.
        driven: components [3, 3] that are given from outside: they do not answer.
    """

    def __init__(self, cell: CellFreedom, driven: np.ndarray) -> None:
        self.cell = cell
        open_ = np.eye(3) if cell == "axes" else np.ones((3, 3))
        self.mask = torch.from_numpy(np.where(driven != 0, 0.0, open_))

    def part(self, matrix: Tensor) -> Tensor:
        """The part of symmetric matrices [S, 3, 3] that acts."""
        if self.cell == "isotropic":
            size = matrix.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
            return size * torch.eye(3, dtype=matrix.dtype, device=matrix.device)
        return matrix * self.mask.to(matrix)

    @property
    def count(self) -> float:
        """Degrees of freedom of the cell."""
        return 1.0 if self.cell == "isotropic" else float(self.mask.triu().sum())


def strained(state: State, strain: Tensor) -> State:
    """Cell and positions of each run under a symmetric logarithmic strain [S, 3, 3]."""
    s, deform = state.structures, torch.linalg.matrix_exp(strain)
    positions = torch.einsum("na,nab->nb", s.positions, deform[s.system])
    return state.replace(structures=s.replace(positions=positions, cell=s.cell @ deform))


def turned(vectors: Tensor, matrix: Tensor, state: State) -> Tensor:
    """Vectors of atoms [N, 3] times a matrix of each run [S, 3, 3]."""
    return torch.einsum("na,nab->nb", vectors, matrix[state.structures.system])


class CellRescale(Nve):
    """Stochastic rescaling of the cell and of velocities.

    Args:
        freedom: what of the cell moves.
        thermostat_time: of the velocities (fs).
        barostat_time: tau (fs).
        compressibility: beta (Angstrom^3/eV).
        local: friction and noise on each atom instead of CSVR.
    """

    def __init__(
        self,
        freedom: Freedom,
        thermostat_time: float,
        barostat_time: float,
        compressibility: float,
        *,
        local: bool = False,
    ) -> None:
        self.freedom, self.thermostat_time, self.local = freedom, thermostat_time, local
        self.pace = compressibility / (3 * barostat_time)

    def first(self, state: State, targets: Targets) -> State:
        """B, strain, A (with O in its middle): positions are still those of the stress."""
        state = state.replace(velocities=kick(state, targets.dt / 2))
        strain = self._strain(state, targets)
        back = torch.linalg.matrix_exp(-strain)
        state = strained(state, strain).replace(velocities=turned(state.velocities, back, state))
        if not self.local:
            return moved(state, state.velocities, targets.dt)
        warm = warmed(moved(state, state.velocities, targets.dt / 2), self.thermostat_time, targets)
        return moved(warm, warm.velocities, targets.dt / 2)

    def _strain(self, state: State, targets: Targets) -> Tensor:
        """d, [S, 3, 3]."""
        volume = state.structures.volume[:, None, None]
        eye = torch.eye(3).to(state.stress)
        push = kinetic_tensor(state.velocities, state.mass, state.structures) / volume - state.stress
        push = push - targets.pressure * eye
        numbers = [
            generator(targets.seed, run, "cell", state.step).standard_normal((3, 3)) for run in state.number.tolist()
        ]
        g = torch.from_numpy(np.stack(numbers)).to(volume.device)
        g = (g + g.mT) / 2
        width = (2 * targets.kt[:, None, None] * self.pace * targets.dt / volume).sqrt()
        return self.freedom.part(self.pace * targets.dt * push + width * g)

    def second(self, state: State, targets: Targets) -> State:
        """B (and S)."""
        state = super().second(state, targets)
        return state if self.local else rescaled(state, self.thermostat_time, targets)

    def conserved(self, state: State, targets: Targets) -> Tensor:
        """The noise of the cell has no ledger."""
        return torch.full_like(state.energy, torch.nan)


class ParrinelloRahman(Nve):
    """A cell with a mass, and chains of thermostats on atoms and cell.

    Args:
        freedom: what of the cell moves.
        thermostat_time: of both chains (fs).
        barostat_time: tau (fs).
        length: thermostats in each chain.
    """

    def __init__(self, freedom: Freedom, thermostat_time: float, barostat_time: float, length: int) -> None:
        self.freedom, self.time = freedom, barostat_time
        self.atoms = Chain("chain", thermostat_time, length)
        self.cell = Chain("cell_chain", barostat_time, length)

    def begin(self, state: State, targets: Targets) -> State:
        """With everything at rest."""
        state = self.cell.begin(self.atoms.begin(state))
        return state.replace(extra=state.extra | {"cell_rate": torch.zeros_like(state.structures.cell)})

    def _inertia(self, state: State, targets: Targets) -> Tensor:
        """W (eV fs^2), [S]."""
        return (state.dof + 3) * targets.kt * self.time**2 / 3

    def _terms(self, state: State) -> Tensor:
        return torch.full_like(state.dof, self.freedom.count)

    def _chains(self, state: State, targets: Targets) -> State:
        """Half a time step of both chains."""
        state, scale = self.atoms.half(state, 2 * kinetic_of(state), state.dof, targets)
        rate = state.extra["cell_rate"]
        twice = self._inertia(state, targets) * rate.square().sum((1, 2))
        state, cell_scale = self.cell.half(state, twice, self._terms(state), targets)
        extra = state.extra | {"cell_rate": rate * cell_scale[:, None, None]}
        return state.replace(velocities=state.velocities * scale[state.structures.system, None], extra=extra)

    def _push_cell(self, state: State, targets: Targets) -> State:
        """Half a time step of the force on the cell."""
        eye = torch.eye(3).to(state.stress)
        twice = kinetic_tensor(state.velocities, state.mass, state.structures)
        volume = state.structures.volume[:, None, None]
        mean = twice.diagonal(dim1=1, dim2=2).sum(1) / state.dof.clamp(min=1)
        force = twice - volume * (state.stress + targets.pressure * eye) + mean[:, None, None] * eye
        step = targets.dt / 2 / self._inertia(state, targets)
        rate = state.extra["cell_rate"] + step[:, None, None] * self.freedom.part(force)
        return state.replace(extra=state.extra | {"cell_rate": rate})

    def _kick(self, state: State, targets: Targets) -> State:
        """Half a time step of forces, and of what the moving cell takes from velocities."""
        rate, eye = state.extra["cell_rate"], torch.eye(3).to(state.stress)
        trace = rate.diagonal(dim1=1, dim2=2).sum(1) / state.dof.clamp(min=1)
        slow = torch.linalg.matrix_exp(-(rate + trace[:, None, None] * eye) * targets.dt / 4)
        state = state.replace(velocities=turned(state.velocities, slow, state))
        return state.replace(velocities=turned(kick(state, targets.dt / 2), slow, state))

    def first(self, state: State, targets: Targets) -> State:
        """Chains, cell, velocities, positions: (R e^(dt e/2) + v dt) e^(dt e/2)."""
        state = self._kick(self._push_cell(self._chains(state, targets), targets), targets)
        half = state.extra["cell_rate"] * (targets.dt / 2)
        return strained(moved(strained(state, half), state.velocities, targets.dt), half)

    def second(self, state: State, targets: Targets) -> State:
        """The same backwards."""
        return self._chains(self._push_cell(self._kick(state, targets), targets), targets)

    def conserved(self, state: State, targets: Targets) -> Tensor:
        """Enthalpy with what cell and chains carry."""
        cell = 0.5 * self._inertia(state, targets) * state.extra["cell_rate"].square().sum((1, 2))
        chains = self.atoms.energy(state, state.dof, targets) + self.cell.energy(state, self._terms(state), targets)
        return super().conserved(state, targets) + cell + chains + targets.pressure * state.structures.volume


def strain_per_femtosecond(rates: tuple[float, ...]) -> np.ndarray:
    """Rates xx, yy, zz, yz, xz, xy (1/ps) as a symmetric matrix (1/fs), [3, 3]."""
    xx, yy, zz, yz, xz, xy = (r / 1000 for r in rates)
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def is_still(rate: np.ndarray) -> bool:
    """Whether nothing is deformed."""
    return math.isclose(float(np.abs(rate).max()), 0.0)
