"""The batch: many structures as concatenated tensors, frozen.

Letters of shapes: N atoms, S systems (structures). Cell vectors are rows; a non-periodic direction may
have a zero cell vector. Positions in Angstrom.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from torch import Tensor


@dataclass(frozen=True)
class Structures:
    """A batch of atomic structures."""

    numbers: Tensor
    """Atomic numbers, [N] int64."""
    positions: Tensor
    """Cartesian positions (Angstrom), [N, 3]."""
    cell: Tensor
    """Cell vectors as rows (Angstrom), [S, 3, 3]."""
    pbc: Tensor
    """Periodic directions, [S, 3] bool."""
    system: Tensor
    """Index of each atom's system, [N] int64, non-decreasing."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms N of the whole batch."""
        return self.numbers.shape[0]

    @property
    def n_systems(self) -> int:
        """Number of systems S."""
        return self.cell.shape[0]

    @property
    def counts(self) -> Tensor:
        """Atoms in each system, [S] int64."""
        return torch.bincount(self.system, minlength=self.n_systems)

    @property
    def volume(self) -> Tensor:
        """Cell volume (Angstrom^3), [S]; 0 where the cell does not span three dimensions."""
        a, b, c = self.cell.unbind(1)
        volume: Tensor = (a * torch.linalg.cross(b, c)).sum(1).abs()
        return volume

    def replace(self, **changes: Tensor) -> Structures:
        """A copy with some tensors replaced."""
        return dataclasses.replace(self, **changes)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Structures:
        """A copy in another precision or on another device."""
        return Structures(
            self.numbers.to(device=device),
            self.positions.to(device=device, dtype=dtype),
            self.cell.to(device=device, dtype=dtype),
            self.pbc.to(device=device),
            self.system.to(device=device),
        )

    def select(self, which: Tensor) -> Structures:
        """Only some of the systems, [S] bool, renumbered in order."""
        atoms = which[self.system]
        renumber = torch.cumsum(which, 0) - 1
        return Structures(
            self.numbers[atoms], self.positions[atoms], self.cell[which], self.pbc[which], renumber[self.system[atoms]]
        )

    def split(self) -> list[Structures]:
        """One batch of size 1 for each system."""
        sizes = self.counts.tolist()
        parts = zip(self.numbers.split(sizes), self.positions.split(sizes), self.cell, self.pbc, strict=True)
        return [
            Structures(n, p, c[None], b[None], torch.zeros(len(n), dtype=torch.long, device=n.device))
            for n, p, c, b in parts
        ]

    @staticmethod
    def from_arrays(
        numbers: np.ndarray,
        positions: np.ndarray,
        cell: np.ndarray,
        pbc: np.ndarray,
        dtype: torch.dtype = torch.float64,
    ) -> Structures:
        """A batch of one structure from NumPy arrays ([N], [N, 3], [3, 3], [3])."""
        return Structures(
            torch.as_tensor(np.array(numbers, dtype=np.int64)),
            torch.as_tensor(np.array(positions, dtype=np.float64)).to(dtype),
            torch.as_tensor(np.array(cell, dtype=np.float64)).to(dtype)[None],
            torch.as_tensor(np.array(pbc, dtype=bool))[None],
            torch.zeros(len(numbers), dtype=torch.long),
        )

    @staticmethod
    def from_ase(atoms: Atoms | Sequence[Atoms], dtype: torch.dtype = torch.float64) -> Structures:
        """A batch from one or several ASE Atoms."""
        images = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        return concatenate(Structures.from_arrays(a.numbers, a.positions, a.cell.array, a.pbc, dtype) for a in images)

    def to_ase(self) -> list[Atoms]:
        """One ASE Atoms for each system, without calculator."""
        return [
            Atoms(
                s.numbers.cpu().numpy(),
                positions=s.positions.detach().cpu().double().numpy(),
                cell=s.cell[0].detach().cpu().double().numpy(),
                pbc=s.pbc[0].cpu().numpy(),
            )
            for s in self.split()
        ]


def concatenate(parts: Iterable[Structures]) -> Structures:
    """One batch from several; systems are renumbered in order."""
    batches = list(parts)
    if not batches:
        empty = torch.zeros(0, dtype=torch.long)
        return Structures(
            empty, torch.zeros(0, 3).double(), torch.zeros(0, 3, 3).double(), torch.zeros(0, 3, dtype=torch.bool), empty
        )
    offsets = np.cumsum([0] + [b.n_systems for b in batches[:-1]]).tolist()
    return Structures(
        torch.cat([b.numbers for b in batches]),
        torch.cat([b.positions for b in batches]),
        torch.cat([b.cell for b in batches]),
        torch.cat([b.pbc for b in batches]),
        torch.cat([b.system + o for b, o in zip(batches, offsets, strict=True)]),
    )


def in_batches(structures: Structures, atoms: int) -> Iterator[Structures]:
    """Consecutive systems together, up to so many atoms; a larger one alone."""
    waiting: list[Structures] = []
    for one in structures.split():
        if waiting and sum(w.n_atoms for w in waiting) + one.n_atoms > atoms:
            yield concatenate(waiting)
            waiting = []
        waiting.append(one)
    if waiting:
        yield concatenate(waiting)
