"""Labelled frames: one structure with its reference labels (NumPy), and batches of them (torch).

Labels are optional one by one; an absent label is None in a `Frame` and masked in a `Labelled` batch, never a
zero that would be trained on. Units: eV, eV/Angstrom, eV/Angstrom^3 (ASE's sign: positive under tension).
Energies are total energies of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rutile.structures.structures import Structures, concatenate


@dataclass(frozen=True)
class Frame:
    """One structure with labels, on its way from a file to a store."""

    numbers: np.ndarray
    """[N] int64."""
    positions: np.ndarray
    """[N, 3] float64 (Angstrom)."""
    cell: np.ndarray
    """[3, 3] float64, rows are vectors (Angstrom)."""
    pbc: np.ndarray
    """[3] bool."""
    energy: float | None = None
    """Total energy (eV)."""
    forces: np.ndarray | None = None
    """[N, 3] (eV/Angstrom)."""
    stress: np.ndarray | None = None
    """[3, 3] (eV/Angstrom^3)."""
    group: str = ""
    """Name of the kind of frame (config_type), for metrics by group and splits by group."""
    calc_mode: str = ""
    """Name of the reference method and its settings."""
    weight: float = 1.0
    """Factor of this frame in the loss."""
    source: str = ""
    """Where it came from: "file.extxyz#12" (0-based frame)."""

    def structures(self, dtype: torch.dtype = torch.float64) -> Structures:
        """A batch of one."""
        return Structures.from_arrays(self.numbers, self.positions, self.cell, self.pbc, dtype)


@dataclass(frozen=True)
class Labelled:
    """A batch of labelled structures; NaN where a label is absent, with a mask that says so."""

    structures: Structures
    energy: Tensor
    """[S] (eV); NaN where absent."""
    forces: Tensor
    """[N, 3] (eV/Angstrom); NaN where absent."""
    stress: Tensor
    """[S, 3, 3] (eV/Angstrom^3); NaN where absent."""
    has_energy: Tensor
    """[S] bool."""
    has_forces: Tensor
    """[S] bool."""
    has_stress: Tensor
    """[S] bool."""
    weight: Tensor
    """[S]."""
    index: Tensor
    """[S] int64: number of each frame in its store."""

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Labelled:
        """A copy in another precision or on another device."""
        return Labelled(
            self.structures.to(dtype=dtype, device=device),
            self.energy.to(dtype=dtype, device=device),
            self.forces.to(dtype=dtype, device=device),
            self.stress.to(dtype=dtype, device=device),
            self.has_energy.to(device=device),
            self.has_forces.to(device=device),
            self.has_stress.to(device=device),
            self.weight.to(dtype=dtype, device=device),
            self.index.to(device=device),
        )


def batch_frames(frames: Sequence[Frame], index: Sequence[int] | None = None) -> Labelled:
    """A float64 CPU batch of frames; `index` are their numbers in the store (default 0..S-1)."""
    nan = float("nan")
    energy = [nan if f.energy is None else f.energy for f in frames]
    forces = [np.full(f.positions.shape, nan) if f.forces is None else f.forces for f in frames]
    stress = [np.full((3, 3), nan) if f.stress is None else f.stress for f in frames]
    return Labelled(
        concatenate(f.structures() for f in frames),
        torch.tensor(energy, dtype=torch.float64),
        torch.as_tensor(np.concatenate(forces) if forces else np.zeros((0, 3))),
        torch.as_tensor(np.stack(stress) if stress else np.zeros((0, 3, 3))),
        torch.tensor([f.energy is not None for f in frames], dtype=torch.bool),
        torch.tensor([f.forces is not None for f in frames], dtype=torch.bool),
        torch.tensor([f.stress is not None for f in frames], dtype=torch.bool),
        torch.tensor([f.weight for f in frames], dtype=torch.float64),
        torch.tensor(range(len(frames)) if index is None else list(index), dtype=torch.long),
    )
