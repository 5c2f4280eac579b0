"""Symmetry that a relaxation keeps: forces and stress of each crystal averaged over the operations it was given with.

With operations g of rotations Q_g that bring atom i into the place of g(i)

    F_g(i) <- (1/G) sum_g F_i Q_g,   stress <- (1/G) sum_g Q_g^T stress Q_g

Moves are made of forces, and so keep the symmetry, too; strains that have it leave the rotations as they are.
Letters of shapes: N atoms, S systems, G operations, K = sum of G N of the structures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rutile.structures.structures import Structures
from rutile.structures.symmetry import Operations, symmetrised


class KeptSymmetry:
    """Operations of the structures of a batch."""

    def __init__(self) -> None:
        self._of: list[Operations] = []

    def enter(self, one: Structures, free: Tensor) -> Structures:
        """The structure with its symmetry made exact; its operations are remembered behind those of the others.

        Args:
            one: a batch of one.
            free: its atoms that may move, [N] bool.

        Raises:
            GeometryError: no symmetry is found.
        """
        fixed = None if bool(free.all()) else ~free.numpy()
        positions, cell, operations = symmetrised(one.to_ase()[0], fixed)
        self._of.append(operations)
        self._join()
        return one.replace(positions=torch.from_numpy(positions), cell=torch.from_numpy(cell)[None])

    def keep(self, which: Tensor) -> None:
        """Forget structures that leave the batch, [S] bool."""
        self._of = [o for o, stays in zip(self._of, which.tolist(), strict=True) if stays]
        self._join()

    def __call__(self, forces: Tensor, stress: Tensor) -> tuple[Tensor, Tensor]:
        """Forces [N, 3] and stress [S, 3, 3] of the batch, averaged."""
        turned = torch.einsum("ka,kab->kb", forces[self._source], self._rotation[self._operation])
        mean_forces = torch.zeros_like(forces).index_add(0, self._target, turned * self._share[:, None])
        q, of = self._rotation, self._system
        each = q.mT @ stress[of] @ q / self._count[of][:, None, None]
        return mean_forces, torch.zeros_like(stress).index_add(0, of, each)

    def _join(self) -> None:
        """Arrays of the batch."""
        sizes = [o.images.shape for o in self._of]
        self._rotation = _cat([torch.from_numpy(o.rotations) for o in self._of], (3, 3), torch.float64)
        self._count = torch.tensor([float(g) for g, _ in sizes], dtype=torch.float64)
        self._system = torch.repeat_interleave(torch.tensor([g for g, _ in sizes], dtype=torch.long))
        source, target, operation, first, done = [], [], [], 0, 0
        for o, (g, n) in zip(self._of, sizes, strict=True):
            source.append(first + torch.arange(n).repeat(g))
            target.append(first + torch.from_numpy(o.images).reshape(-1))
            operation.append(done + torch.arange(g).repeat_interleave(n))
            first, done = first + n, done + g
        self._source, self._target = _cat(source, (), torch.long), _cat(target, (), torch.long)
        self._operation = _cat(operation, (), torch.long)
        self._share = 1 / self._count[self._system[self._operation]]


def _cat(parts: Sequence[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """One after another; empty where there are none."""
    return torch.cat([torch.zeros(0, *shape, dtype=dtype), *parts])
