"""Curves of two atoms in vacuum: does a potential push atoms apart where no training data lie?

Two atoms that attract each other at short distance are a hole into which a simulation falls. With the bond length b,
the sum of the covalent radii, a pair is safe if everywhere on a grid from 0.2 b to 0.7 b the force pushes the atoms
apart and the energy rises inwards. All pairs of elements are evaluated together.

Radii: B. Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j.
Letters of shapes: D dimers, P distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from ase.data import covalent_radii
from torch import Tensor

from rutile.core.elements import symbol
from rutile.graph.graph import Edges
from rutile.potentials.evaluate import evaluate
from rutile.potentials.placement import placement
from rutile.potentials.potential import Potential
from rutile.structures.structures import Structures

CORE = 0.7
"""Below this part of the bond length a pair must be repulsive."""
FRACTIONS = (*(round(0.2 + 0.05 * k, 2) for k in range(11)), *(round(0.8 + 0.1 * k, 1) for k in range(8)))
"""Distances in bond lengths, from 0.2 to 1.5, ascending."""
FAR = 1e4
"""Atoms so far apart (Angstrom) are isolated, charges included."""
AT_ONCE = 300
"""Dimers of one batch; larger ones are slower on a CPU."""


@dataclass(frozen=True)
class DimerCurve:
    """Two atoms at several distances."""

    elements: tuple[int, int]
    """Atomic numbers."""
    mode: int
    """Number of the calc mode."""
    bond: float
    """Sum of the covalent radii (Angstrom)."""
    energy: np.ndarray
    """Energy minus that of the isolated atoms (eV) at `FRACTIONS` of the bond length, [P]."""
    force: np.ndarray
    """Force that pushes the atoms apart (eV/Angstrom), [P]; negative: they attract each other."""

    @property
    def name(self) -> str:
        """Such as "O-Ti"."""
        return "-".join(symbol(z) for z in self.elements)

    @property
    def hole(self) -> float | None:
        """Largest distance (Angstrom) below 0.7 bond lengths where the pair is not repulsive; None: there is none."""
        n = sum(f <= CORE for f in FRACTIONS)
        bad = ~(self.force[:n] > 0)  # NaN is bad, too
        bad[1:] |= ~(np.diff(self.energy[:n]) < 0)
        bad |= ~np.isfinite(self.energy[:n])
        return None if not bad.any() else self.bond * FRACTIONS[int(np.flatnonzero(bad)[-1])]


def dimer_curves(potential: Potential, modes: Sequence[int] = (0,)) -> list[DimerCurve]:
    """The curves of all pairs of the potential's elements (none for a potential of any element).

    Args:
        potential: any, committees (`combine.Mean`) included; in its own precision and on its own device.
        modes: numbers of the calc modes to ask it in.
    """
    pairs = list(combinations_with_replacement(sorted(potential.elements), 2))
    kinds = [(pair, mode) for mode in modes for pair in pairs]
    if not kinds:
        return []
    numbers, mode = torch.tensor([pair for pair, _ in kinds]), torch.tensor([m for _, m in kinds])
    bond = torch.from_numpy(covalent_radii)[numbers].sum(1)
    apart, _ = _dimers(potential, numbers, torch.full_like(bond, FAR), mode)
    fractions = torch.tensor(FRACTIONS, dtype=torch.float64)
    n = len(fractions)
    energy, force = _dimers(
        potential,
        numbers.repeat_interleave(n, 0),
        (bond[:, None] * fractions).reshape(-1),
        mode.repeat_interleave(n),
    )
    curves = zip(kinds, bond.tolist(), energy.view(-1, n) - apart[:, None], force.view(-1, n), strict=True)
    return [DimerCurve(pair, m, length, e.numpy(), f.numpy()) for (pair, m), length, e, f in curves]


def worst_first(curves: Sequence[DimerCurve]) -> list[DimerCurve]:
    """Those with holes first, wide ones before narrow ones; then by the force at 0.7 bond lengths, weak ones first."""
    edge = FRACTIONS.index(CORE)
    return sorted(curves, key=lambda c: (-(c.hole or 0.0) / c.bond, float(c.force[edge])))


def _dimers(potential: Potential, numbers: Tensor, distance: Tensor, mode: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (eV) and forces that push apart (eV/Angstrom) of pairs of atoms, [D] each, float64 on the CPU.

    Args:
        potential: any.
        numbers: atomic numbers, [D, 2].
        distance: of the two atoms (Angstrom), [D].
        mode: number of the calc mode, [D].
    """
    batches = zip(numbers.split(AT_ONCE), distance.split(AT_ONCE), mode.split(AT_ONCE), strict=True)
    parts = [_batch(potential, *batch) for batch in batches]
    return torch.cat([energy for energy, _ in parts]), torch.cat([force for _, force in parts])


def _batch(potential: Potential, numbers: Tensor, distance: Tensor, mode: Tensor) -> tuple[Tensor, Tensor]:
    """As `_dimers`, all at once."""
    dtype, device = placement(potential)
    n = len(numbers)
    positions = torch.zeros(2 * n, 3, dtype=torch.float64)
    positions[1::2, 0] = distance
    structures = Structures(
        numbers.reshape(-1),
        positions,
        torch.zeros(n, 3, 3, dtype=torch.float64),
        torch.zeros(n, 3, dtype=torch.bool),
        torch.arange(n).repeat_interleave(2),
    )
    near = torch.arange(2 * n)[(distance < potential.cutoff).repeat_interleave(2)]
    edges = Edges(near, near ^ 1, torch.zeros(len(near), 3, dtype=torch.long), potential.cutoff)
    p = evaluate(potential, structures.to(dtype=dtype, device=device), edges=edges.to(device), mode=mode.to(device))
    return p.energy.double().cpu(), p.forces[1::2, 0].double().cpu()
