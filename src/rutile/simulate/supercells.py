"""Supercells of crystals."""

from __future__ import annotations

import torch

from rutile.structures.structures import Structures

SKEWED = 1.5
"""A cell counts as at most so many times as thick as the distance of its opposite faces."""


def repeats(one: Structures, supercell: tuple[int, int, int] | None, length: float) -> tuple[int, int, int]:
    """How often the cell of one structure stands along each of its vectors.

    Args:
        one: a crystal.
        supercell: the answer, if it is known.
        length: otherwise each vector becomes at least so long (Angstrom).
    """
    if supercell is not None:
        return supercell
    heights = 1 / torch.linalg.inv(one.cell[0]).norm(dim=0)  # distances of opposite faces
    lengths = one.cell[0].norm(dim=1).minimum(SKEWED * heights)
    a, b, c = (max(1, int(n)) for n in torch.ceil(length / lengths - 1e-6).tolist())
    return a, b, c


def repeated(one: Structures, times: tuple[int, int, int]) -> Structures:
    """The supercell; the atoms of the first cell come first."""
    steps = torch.cartesian_prod(*(torch.arange(n) for n in times)).to(one.cell.dtype)
    shifts = steps @ one.cell[0]
    positions = (one.positions[None] + shifts[:, None]).reshape(-1, 3)
    return Structures(
        one.numbers.repeat(len(steps)),
        positions,
        one.cell * torch.tensor(times, dtype=one.cell.dtype)[None, :, None],
        one.pbc,
        torch.zeros(len(positions), dtype=torch.long),
    )
