"""What became of each structure of a relaxation, kept as it was last sound. Letters of shapes: N atoms, S systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.potentials.potential import Prediction
from rutile.structures.structures import Structures

PLAIN = ("converged", "steps", "fmax", "smax", "start_energy", "energy", "forces", "stress")
"""What a ledger says of a structure besides where it is and why it failed."""


@dataclass(frozen=True)
class RelaxResult:
    """What became of each structure, in the order given."""

    structures: Structures
    """Where they ended; where they were last sound, for failed ones."""
    converged: Tensor
    """[S] bool: forces (and stress, if the cell moved) are below the limits."""
    failure: tuple[str, ...]
    """Why a structure failed, [S]; empty for those that did not. Not converged and not failed: out of steps."""
    steps: Tensor
    """Steps taken, [S] int64."""
    fmax: Tensor
    """Largest force on an atom that may move at the end (eV/Angstrom), [S]."""
    smax: Tensor
    """Largest difference of stress and outer pressure among components that may move (eV/Angstrom^3), [S]."""
    start_energy: Tensor
    """Energy of the structures given (eV), [S]."""
    energy: Tensor
    """Energy at the end (eV), [S]."""
    forces: Tensor
    """Forces at the end, also on fixed atoms (eV/Angstrom), [N, 3]."""
    stress: Tensor
    """Stress at the end (eV/Angstrom^3), [S, 3, 3]; 0 where a system is not periodic in 3-D."""


class Ledger:
    """Where every structure stood when it was last sound, and why it left.

    Args:
        given: the structures.
        free: atoms that may move, [N] bool.
    """

    def __init__(self, given: Structures, free: Tensor) -> None:
        n, s = given.n_atoms, given.n_systems
        nan = float("nan")
        self.given, self.free = given, free
        self.volume = given.volume
        self.counts = given.counts
        self.start = torch.cumsum(self.counts, 0) - self.counts
        self.positions, self.cell = given.positions.clone(), given.cell.clone()
        self.forces, self.stress = torch.full((n, 3), nan).double(), torch.full((s, 3, 3), nan).double()
        self.energy, self.start_energy = torch.full((s,), nan).double(), torch.full((s,), nan).double()
        self.fmax, self.smax = torch.full((s,), nan).double(), torch.full((s,), nan).double()
        self.steps = torch.zeros(s, dtype=torch.long)
        self.converged = torch.zeros(s, dtype=torch.bool)
        self.failure = [""] * s

    def begin(self, number: Tensor, energy: Tensor) -> None:
        """Take down the energies of structures as given."""
        self.start_energy[number] = energy

    def note(
        self, number: Tensor, atom: Tensor, now: tuple[Structures, Prediction, Tensor, Tensor, Tensor], of: Tensor
    ) -> None:
        """Take down some structures of a batch.

        Args:
            number: of the structures of the batch among those given, [S'].
            atom: of its atoms, [N'].
            now: the batch, what is predicted, largest forces, largest unbalanced stresses and steps, [S'].
            of: which of them, [S'] bool.
        """
        structures, p, fmax, smax, steps = now
        atoms = of[structures.system]
        number, atom = number[of], atom[atoms]
        self.positions[atom], self.forces[atom] = structures.positions[atoms], p.forces[atoms]
        self.cell[number], self.stress[number] = structures.cell[of], p.stress[of]
        self.energy[number], self.fmax[number], self.smax[number] = p.energy[of], fmax[of], smax[of]
        self.steps[number] = steps[of]

    def one(self, number: int) -> RelaxResult:
        """What became of one structure."""
        s, first = slice(number, number + 1), int(self.start[number])
        n = slice(first, first + int(self.counts[number]))
        system = torch.zeros(int(self.counts[number]), dtype=torch.long)
        return RelaxResult(
            Structures(self.given.numbers[n], self.positions[n], self.cell[s], self.given.pbc[s], system),
            self.converged[s],
            (self.failure[number],),
            self.steps[s],
            self.fmax[s],
            self.smax[s],
            self.start_energy[s],
            self.energy[s],
            self.forces[n],
            self.stress[s],
        )

    def plain(self, number: int) -> dict[str, np.ndarray]:
        """What became of one structure, as arrays by name."""
        one = self.one(number)
        tensors = {name: getattr(one, name).numpy() for name in PLAIN}
        return tensors | {
            "positions": one.structures.positions.numpy(),
            "cell": one.structures.cell.numpy(),
            "failure": np.frombuffer(one.failure[0].encode(), dtype=np.uint8),
        }

    def take(self, number: int, values: Mapping[str, np.ndarray]) -> None:
        """Take down what `plain` gave for a structure like this one."""
        s, first = slice(number, number + 1), int(self.start[number])
        n = slice(first, first + int(self.counts[number]))
        for name in ("positions", "forces"):
            getattr(self, name)[n] = torch.from_numpy(np.array(values[name]))
        for name in ("cell", *(p for p in PLAIN if p != "forces")):
            getattr(self, name)[s] = torch.from_numpy(np.array(values[name]))
        self.failure[number] = values["failure"].tobytes().decode()

    def result(self) -> RelaxResult:
        """Everything, in the order given."""
        return RelaxResult(
            self.given.replace(positions=self.positions, cell=self.cell),
            self.converged,
            tuple(self.failure),
            self.steps,
            self.fmax,
            self.smax,
            self.start_energy,
            self.energy,
            self.forces,
            self.stress,
        )
