"""Monte Carlo exchanges of atoms in alloys (particles or crystals): many runs at once.

In each step each run exchanges the elements of two atoms, drawn at random among pairs of different elements (as likely
there as back, since the composition stays), and takes the new structure with the probability min(1, exp(-dE / kT)).
With relaxations E is the energy of the minimum that is reached from the exchanged structure: then minima are sampled by
their energies, without the entropy of their vibrations. Bursts of molecular dynamics let the lattice itself change.

Every random number follows from seed, run and step alone, so that what comes next follows from a state alone, and a run
that goes on from a stored state equals one that was never interrupted.
Source: N. Metropolis et al., J. Chem. Phys. 21, 1087 (1953), doi:10.1063/1.1699114. Letters of shapes: N atoms, S runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.core.reporting import Reporter, SilentReporter
from rutile.core.seeds import integer, stream
from rutile.core.units import KB
from rutile.graph.graph import Edges, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.checks import check_structures
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.settings import LangevinSettings, MdSettings
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.simulate.swap_settings import SwapSettings
from rutile.structures.structures import Structures


@dataclass(frozen=True)
class SwapState:
    """Where all runs stand: everything that decides what comes next."""

    structures: Structures
    """Of all runs, in float64 on the CPU."""
    energy: Tensor
    """[S] (eV)."""
    accepted: Tensor
    """Exchanges so far, [S]."""
    best: Structures
    """Of the lowest energy so far."""
    best_energy: Tensor
    """[S] (eV)."""
    lost: Tensor
    """Trials and bursts whose relaxation or dynamics failed, [S]."""
    step: int = 0
    """Steps done."""


class Swaps:
    """The runs; a state after each step while it is iterated from a state.

    Args:
        potential: gives energies and forces.
        temperatures: of each run at the end (K), [S].
        settings: how.
        reporter: told how far the first relaxation is.
    """

    def __init__(
        self, potential: Potential, temperatures: Tensor, settings: SwapSettings, reporter: Reporter | None = None
    ) -> None:
        self.potential, self.settings = potential, settings
        self.temperatures = temperatures.double()
        self.reporter = reporter or SilentReporter()
        self.how = RelaxSettings(fmax=settings.fmax, max_steps=settings.max_steps)
        self._edges: tuple[Tensor, Edges] | None = None

    def begin(self, structures: Structures) -> SwapState:
        """The state at step 0: relaxed, unless no relaxation is wanted.

        Args:
            structures: one for each run.

        Raises:
            GeometryError: a structure cannot be evaluated.
            ElementError: it holds an element that the potential was not trained on.
        """
        given = structures.to(dtype=torch.float64, device="cpu")
        check_structures(given, self.potential.elements)
        if self.settings.relax != "never":
            given = relax(given, self.potential, self.how, self.reporter).structures
        energy, none = self.energies(given), torch.zeros(given.n_systems, dtype=torch.long)
        return SwapState(given, energy, none, given, energy, none)

    def run(self, state: SwapState) -> Iterator[SwapState]:
        """All steps that are left."""
        while state.step < self.settings.steps:
            state = self.step(state)
            yield state

    def temperature(self, step: int) -> Tensor:
        """Of each run in a step (K), [S]."""
        if self.settings.hot is None:
            return self.temperatures
        part = min(1.0, 2 * step / self.settings.steps)
        hot = torch.full_like(self.temperatures, self.settings.hot)
        return hot * (self.temperatures / hot) ** part

    def step(self, state: SwapState) -> SwapState:
        """One exchange in each run, and what is due after it."""
        trial, luck = self._exchanged(state)
        failed = torch.zeros(len(luck), dtype=torch.bool)
        if self.settings.relax == "trial":
            done = relax(trial, self.potential, self.how, SilentReporter())
            trial, energy = done.structures, done.energy
            failed = torch.tensor([bool(why) for why in done.failure])
        else:
            energy = self.energies(trial)
        change = (energy - state.energy) / (KB * self.temperature(state.step))
        taken = (luck < torch.exp(-change.clamp(min=0))) & ~failed & torch.isfinite(energy)
        state = dataclasses.replace(
            _chosen(state, trial, energy, taken),
            accepted=state.accepted + taken, lost=state.lost + failed, step=state.step + 1,
        )  # fmt: skip
        if self.settings.md_every and state.step % self.settings.md_every == 0:
            state = self._burst(state)
        if self.settings.relax == "sometimes" and state.step % self.settings.relax_every == 0:
            state = self._settled(state)
        return state

    def energies(self, structures: Structures) -> Tensor:
        """Potential energies (eV), [S] float64; neighbours are found anew only where atoms have moved."""
        if self._edges is None or not torch.equal(self._edges[0], structures.positions):
            self._edges = structures.positions, find_edges(structures, self.potential.cutoff)
        dtype, device = placement(self.potential)
        placed = structures.to(dtype=dtype, device=device)
        with torch.no_grad():
            atoms = self.potential(build_graph(placed, self._edges[1].to(device))).double().cpu()
        return atoms.new_zeros(structures.n_systems).index_add(0, structures.system, atoms)

    def _exchanged(self, state: SwapState) -> tuple[Structures, Tensor]:
        """The structures with two atoms exchanged in each, and a number from 0 to 1 for each run."""
        numbers, start = state.structures.numbers.clone(), 0
        luck = []
        for run, size in enumerate(state.structures.counts.tolist()):
            rng = stream(self.settings.seed, "swap", run, state.step)
            mine = numbers[start : start + size]
            first = int(rng.integers(size))
            others = (mine != mine[first]).nonzero().squeeze(1)
            second = int(others[int(rng.integers(len(others)))])
            mine[[first, second]] = mine[[second, first]]
            luck.append(float(rng.random()))
            start += size
        return state.structures.replace(numbers=numbers), torch.tensor(luck, dtype=torch.float64)

    def _burst(self, state: SwapState) -> SwapState:
        """Molecular dynamics at the temperatures of the runs; runs that end early stay where they were."""
        seed = integer(self.settings.seed, "burst", state.step) % 2**31
        now = self.temperature(state.step)
        ensemble = LangevinSettings(temperature=float(now.max()))
        how = MdSettings(ensemble=ensemble, time=self.settings.md_time, timestep=self.settings.timestep, seed=seed)
        dynamics = Dynamics([self.potential], how)
        moving = dynamics.begin(state.structures, temperatures=now[:, None].repeat(1, 2))
        lost = torch.zeros_like(state.lost)
        for moment in dynamics.run(moving):
            moving = moment.state
            for stopped in moment.stopped:
                lost[stopped.number] = 1
        positions = state.structures.positions.clone()
        alive = torch.ones(state.structures.n_systems, dtype=torch.bool)
        alive[lost.bool()] = False
        positions[alive[state.structures.system]] = moving.structures.positions.cpu()
        moved = state.structures.replace(positions=positions)
        after = _chosen(state, moved, self.energies(moved), alive)
        after = dataclasses.replace(after, lost=state.lost + lost)
        return after if self.settings.relax == "never" else self._settled(after)

    def _settled(self, state: SwapState) -> SwapState:
        """All runs relaxed; those that fail stay where they were."""
        done = relax(state.structures, self.potential, self.how, SilentReporter())
        failed = torch.tensor([bool(why) for why in done.failure])
        after = _chosen(state, done.structures, done.energy, ~failed)
        return dataclasses.replace(after, lost=state.lost + failed)


def _chosen(state: SwapState, other: Structures, energy: Tensor, taken: Tensor) -> SwapState:
    """The state with the other structures where they are taken, [S] bool; remembers the best."""
    structures, now = _mixed(state.structures, other, taken), torch.where(taken, energy, state.energy)
    better = taken & (energy < state.best_energy)
    return dataclasses.replace(
        state, structures=structures, energy=now, best=_mixed(state.best, other, better),
        best_energy=torch.where(better, energy, state.best_energy),
    )  # fmt: skip


def _mixed(a: Structures, b: Structures, of_b: Tensor) -> Structures:
    """Structures of b where [S] bool says so, else of a; cells are the same."""
    atoms = of_b[a.system]
    return a.replace(
        numbers=torch.where(atoms, b.numbers, a.numbers),
        positions=torch.where(atoms[:, None], b.positions, a.positions),
    )


def frozen_arrays(state: SwapState) -> dict[str, np.ndarray]:
    """What changes in a state, for a file."""
    return {
        "numbers": state.structures.numbers.numpy(), "positions": state.structures.positions.numpy(),
        "energy": state.energy.numpy(), "accepted": state.accepted.numpy(), "best_numbers": state.best.numbers.numpy(),
        "best_positions": state.best.positions.numpy(), "best_energy": state.best_energy.numpy(),
        "lost": state.lost.numpy(), "step": np.array(state.step),
    }  # fmt: skip


def thawed(given: Structures, arrays: dict[str, np.ndarray]) -> SwapState:
    """The state of `frozen_arrays`, bit for bit; cells are those of the structures given."""
    t = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    base = given.to(dtype=torch.float64, device="cpu")
    return SwapState(
        base.replace(numbers=t["numbers"], positions=t["positions"]), t["energy"], t["accepted"],
        base.replace(numbers=t["best_numbers"], positions=t["best_positions"]), t["best_energy"], t["lost"],
        int(t["step"]),
    )  # fmt: skip
