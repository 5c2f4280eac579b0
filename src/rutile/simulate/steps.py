"""What optimizers see of a batch: rows of three coordinates, and what they remember of each structure.

Rows are the atoms of all structures, [N], then three for the strain of each cell, [S * 3], in Angstrom: strain times
s = sqrt(N) (V/N)^(1/3), which gives cells and atoms like stiffnesses. What is remembered belongs to a row or to a
structure, so that structures leave and enter with all that is known of them.
Letters of shapes: N atoms, S systems, R = N + 3 S rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rutile.structures.structures import Structures

LARGEST_STRAIN = 0.05
"""Largest strain component of one step."""


@dataclass(frozen=True)
class Layout:
    """Which rows belong to which structure, and how far they may move in one step."""

    system: Tensor
    """Structure of each row, [R] int64."""
    n_atoms: int
    """Rows of atoms, N."""
    scale: Tensor
    """s (Angstrom), [S]."""
    max_move: float
    """Longest move of an atom in one step (Angstrom)."""

    @staticmethod
    def of(structures: Structures, max_move: float) -> Layout:
        """Layout of a batch."""
        count = structures.counts.double()
        scale = (count.sqrt() * (structures.volume / count) ** (1 / 3)).clamp(min=1e-12)
        cells = torch.arange(structures.n_systems).repeat_interleave(3)
        return Layout(torch.cat([structures.system, cells]), structures.n_atoms, scale, max_move)

    def rows(self, atoms: Tensor, cells: Tensor) -> Tensor:
        """Forces on atoms (eV/Angstrom), [N, 3], and on the strain (eV), [S, 3, 3], as rows [R, 3]."""
        return torch.cat([atoms, (cells / self.scale[:, None, None]).reshape(-1, 3)])

    def moves(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [R, 3] as moves of atoms (Angstrom), [N, 3], and strains, [S, 3, 3]."""
        return rows[: self.n_atoms], rows[self.n_atoms :].reshape(-1, 3, 3) / self.scale[:, None, None]

    def sum(self, values: Tensor) -> Tensor:
        """Sums over the rows of each structure, [R, ...] -> [S, ...]."""
        return values.new_zeros(len(self.scale), *values.shape[1:]).index_add(0, self.system, values)

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Scalar products of rows [R, 3], for each structure, [S]."""
        return self.sum((a * b).sum(1))

    def shortening(self, move: Tensor) -> Tensor:
        """What a move [R, 3] must be multiplied by to keep within `max_move` and LARGEST_STRAIN, [S], at most 1."""
        atoms, strain = self.moves(move)
        longest = move.new_zeros(len(self.scale))
        longest = longest.scatter_reduce(0, self.system[: self.n_atoms], atoms.norm(dim=1), "amax")
        stretch = strain.abs().amax((1, 2))
        both = torch.maximum(longest / self.max_move, stretch / LARGEST_STRAIN)
        return 1 / both.clamp(min=1.0)


@dataclass(frozen=True)
class Memory:
    """What an optimizer remembers, by name."""

    rows: dict[str, Tensor]
    """Of rows, [R, ...]."""
    systems: dict[str, Tensor]
    """Of structures, [S, ...]."""

    def keep(self, atoms: Tensor, systems: Tensor) -> Memory:
        """Only of some structures, [S] bool; `atoms` [N] bool are theirs."""
        rows = torch.cat([atoms, systems.repeat_interleave(3)])
        return Memory({k: v[rows] for k, v in self.rows.items()}, {k: v[systems] for k, v in self.systems.items()})

    @staticmethod
    def joined(parts: Sequence[tuple[Memory, int]]) -> Memory:
        """Of several batches in a row, each with its number of atoms."""
        first = parts[0][0]
        return Memory(
            {
                k: torch.cat([*(m.rows[k][:n] for m, n in parts), *(m.rows[k][n:] for m, n in parts)])
                for k in first.rows
            },
            {k: torch.cat([m.systems[k] for m, _ in parts]) for k in first.systems},
        )


class Optimizer(Protocol):
    """Chooses moves. Each structure has its own memory and moves the same alone and in company."""

    def begin(self, n_rows: int, n_systems: int) -> Memory:
        """Memory of structures that have not moved yet."""
        ...

    def step(self, force: Tensor, layout: Layout, memory: Memory) -> tuple[Tensor, Memory]:
        """The next move (Angstrom), [R, 3], within the limits of the layout, and what is remembered.

        Args:
            force: minus the slope of the enthalpy (eV/Angstrom), [R, 3].
            layout: of the rows.
            memory: of `begin`, or of the last step.
        """
        ...
