"""Saddle points from one side: dimers climb along the softest direction, many at once.

Two images a small distance d apart turn into the direction n of the lowest curvature C, and the atoms move with the
force along n reversed, F - 2 (F.n) n; where C > 0, only uphill along n, -(F.n) n. One turn, in the plane of n and the
torque s = (F_1 - F)_perp / |.|, takes the curvature at two angles and goes to the minimum of a + b cos 2x + c sin 2x.

Sources: G. Henkelman and H. Jonsson, J. Chem. Phys. 111, 7010 (1999), doi:10.1063/1.480097; A. Heyden, A. T. Bell and
F. J. Keil, J. Chem. Phys. 123, 224101 (2005), doi:10.1063/1.2104507. Letters of shapes: N atoms, S systems.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.core.reporting import Reporter
from rutile.potentials.checks import check_structures
from rutile.potentials.potential import Potential
from rutile.simulate.fire import FireSteps
from rutile.simulate.forces import ForceField
from rutile.simulate.settings import SaddleSettings
from rutile.simulate.steps import Layout
from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Saddles:
    """Where the dimers ended, in the order given."""

    structures: Structures
    """Saddle points, where converged."""
    converged: Tensor
    """Forces are below the limit and the curvature is negative, [S] bool."""
    failure: tuple[str, ...]
    """Why a search failed, [S]; empty: it did not."""
    energy: Tensor
    """(eV), [S]."""
    fmax: Tensor
    """Largest force on an atom (eV/Angstrom), [S]."""
    curvature: Tensor
    """Along the direction (eV/Angstrom^2), [S]."""
    direction: Tensor
    """Softest direction, of length 1 in each structure, [N, 3]."""
    steps: int
    """Steps taken."""


def find_saddles(
    structures: Structures,
    direction: Tensor,
    potential: Potential,
    settings: SaddleSettings,
    reporter: Reporter,
    fixed: Tensor | None = None,
) -> Saddles:
    """Climb from structures to saddle points nearby.

    Args:
        structures: any number of them, best displaced a little from their minima along `direction`.
        direction: where to climb first (any length but 0), [N, 3].
        potential: gives the forces.
        settings: limits.
        reporter: told the steps.
        fixed: atoms that stay, [N] bool.

    Raises:
        GeometryError: a structure cannot be evaluated.
        ElementError: an element that the potential was not trained on.
    """
    given = structures.to(dtype=torch.float64, device="cpu")
    check_structures(given, potential.elements)
    free = torch.ones(given.n_atoms, dtype=torch.bool) if fixed is None else ~fixed
    search = _Search(given, direction.double() * free[:, None], free, potential, settings)
    for _ in reporter.track(search.steps(), "Climbing", total=settings.max_steps):
        pass
    return search.result()


class _Search:
    """All dimers on their way; those that are done stay where they are."""

    def __init__(
        self, given: Structures, direction: Tensor, free: Tensor, potential: Potential, settings: SaddleSettings
    ) -> None:
        self.now, self.free, self.settings = given, free, settings
        self.layout = Layout.of(given, settings.max_move)
        self.system = given.system
        self.direction = self._unit(direction)
        self.forces, self.second = ForceField(potential), ForceField(potential)
        count = given.n_systems
        self.energy = torch.zeros(count, dtype=torch.float64)
        self.fmax = torch.full((count,), torch.inf, dtype=torch.float64)
        self.curvature = torch.zeros(count, dtype=torch.float64)
        self.converged = torch.zeros(count, dtype=torch.bool)
        self.failure = [""] * count
        self.taken = 0

    def steps(self) -> Iterator[int]:
        """Climb; yields the number of each step."""
        optimizer = FireSteps()
        memory = optimizer.begin(len(self.layout.system), self.now.n_systems)
        for step in range(self.settings.max_steps + 1):
            self.taken = step
            force = self._look()
            self._turn(force)
            going = ~self.converged & torch.tensor([not f for f in self.failure])
            self.converged |= going & (self.fmax <= self.settings.fmax) & (self.curvature < 0)
            going &= ~self.converged
            if not bool(going.any()) or step == self.settings.max_steps:
                return
            along = self._dot(force, self.direction)[self.system, None] * self.direction
            uphill = torch.where((self.curvature < 0)[self.system, None], force - 2 * along, -along)
            push = torch.where(going[self.system, None], uphill, 0.0)
            rows = self.layout.rows(push, torch.zeros(self.now.n_systems, 3, 3, dtype=torch.float64))
            move, memory = optimizer.step(rows, self.layout, memory)
            moved, _ = self.layout.moves(move)
            moved = torch.where(going[self.system, None], moved, 0.0)
            self.now = self.now.replace(positions=self.now.positions + moved)
            yield step

    def _look(self) -> Tensor:
        """Forces on the atoms that move (eV/Angstrom), [N, 3]; notes energies and failures."""
        prediction, closest = self.forces(self.now)
        force = prediction.forces * self.free[:, None]
        self.energy = prediction.energy
        size = force.norm(dim=1).nan_to_num(nan=torch.inf)
        self.fmax = torch.zeros_like(self.energy).scatter_reduce(0, self.system, size, "amax")
        for s in range(self.now.n_systems):
            if self.failure[s] or self.converged[s]:
                continue
            if closest[s] < self.settings.closest:
                self.failure[s] = f"two atoms are {closest[s]:.2f} Å apart after {self.taken} steps"
            elif not self.fmax[s].isfinite():
                self.failure[s] = f"energy or forces are not finite after {self.taken} steps"
        return force.nan_to_num()

    def _turn(self, force: Tensor) -> None:
        """Turn the dimers towards the lowest curvature."""
        resting = self.converged | torch.tensor([bool(f) for f in self.failure])
        for _ in range(self.settings.turns):
            change = self._change(force, self.direction)
            self.curvature = torch.where(resting, self.curvature, -self._dot(change, self.direction))
            torque = change - self._dot(change, self.direction)[self.system, None] * self.direction
            strength = self._dot(torque, torque).sqrt()
            if bool(((strength < self.settings.turned) | resting).all()):
                return
            plane = self._unit(torque)
            angle = 0.5 * torch.atan2(strength, self.curvature.abs())
            trial = self._turned(plane, angle)
            middle = -self._dot(self._change(force, trial), trial)
            c = -strength  # C = a + b cos 2x + c sin 2x, dC/dx = 2 c at x = 0
            b = (self.curvature - middle + c * torch.sin(2 * angle)) / (1 - torch.cos(2 * angle)).clamp(min=1e-12)
            best = 0.5 * (torch.atan2(c, b) + torch.pi)
            still = resting | (strength < self.settings.turned)
            self.direction = self._turned(plane, torch.where(still, 0.0, best))
            lowest = self.curvature - b + b * torch.cos(2 * best) + c * torch.sin(2 * best)
            self.curvature = torch.where(still, self.curvature, lowest)

    def _change(self, force: Tensor, direction: Tensor) -> Tensor:
        """(F(R + d n) - F(R)) / d: minus the Hessian times the direction (eV/Angstrom^2), [N, 3]."""
        d = self.settings.separation
        moved = self.now.replace(positions=self.now.positions + d * direction)
        ahead = self.second(moved)[0].forces * self.free[:, None]
        return (ahead.nan_to_num() - force) / d

    def _turned(self, plane: Tensor, angle: Tensor) -> Tensor:
        """The directions, turned by angles [S] towards `plane`."""
        x = angle[self.system, None]
        return self._unit(torch.cos(x) * self.direction + torch.sin(x) * plane)

    def _dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Scalar products of each structure, [S]."""
        return torch.zeros(self.now.n_systems, dtype=torch.float64).index_add(0, self.system, (a * b).sum(1))

    def _unit(self, a: Tensor) -> Tensor:
        """Of length 1 in each structure."""
        return a / self._dot(a, a).sqrt().clamp(min=1e-300)[self.system, None]

    def result(self) -> Saddles:
        """Where they are."""
        return Saddles(
            self.now, self.converged, tuple(self.failure), self.energy, self.fmax, self.curvature, self.direction,
            self.taken,
        )  # fmt: skip
