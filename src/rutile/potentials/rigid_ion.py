"""TiO2 of rigid ions: point charges, Born repulsion and dispersion between pairs.

    E = sum_{i<j} [ k q_i q_j / r + A_ij exp(-r / rho_ij) - C_ij / r^6 ]

A cheap truth for tests and benchmarks: with nothing fitted here it gives rutile, anatase and brookite near their
measured cells. The charges are summed by Ewald's method (`parts.ewald`); the rest goes smoothly to 0 over the last 2
Angstrom before the cutoff. Where two ions come so near that -C/r^6 (and, of unlike ions, the attraction of the charges)
wins over the repulsion, the energy falls without bound: `too_close` says so, and labelling refuses such structures.

Source: M. Matsui and M. Akaogi, Mol. Simul. 6, 239 (1991), doi:10.1080/08927029108022432. Letters of shapes: N atoms,
E edges.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from rutile.core.errors import ElementError
from rutile.core.units import COULOMB
from rutile.graph.graph import Graph
from rutile.potentials.parts.ewald import coulomb

CHARGES = {8: -1.098, 22: 2.196}
"""By atomic number (e)."""
PAIRS: dict[tuple[int, int], tuple[float, float, float]] = {
    (22, 22): (31120.2, 0.154, 5.25),
    (8, 22): (16957.5, 0.194, 12.59),
    (8, 8): (11782.7, 0.234, 30.22),
}
"""A (eV), rho (Angstrom) and C (eV Angstrom^6) of each pair of atomic numbers."""
FADE = 2.0
"""Length over which repulsion and dispersion go to 0 before the cutoff (Angstrom)."""


class RigidIon(nn.Module):
    """The energy function, in float64; has no parameters to train."""

    elements: tuple[int, ...] = (8, 22)
    cutoff: float

    def __init__(self, cutoff: float = 10.0) -> None:
        """Prepare.

        Args:
            cutoff: radius of the pairs and of the real-space part of Ewald's sum (Angstrom), more than 4.
        """
        super().__init__()
        self.cutoff = cutoff
        charges, table = torch.zeros(23, dtype=torch.float64), torch.zeros(23, 23, 3, dtype=torch.float64)
        table[..., 1] = 1.0
        for number, charge in CHARGES.items():
            charges[number] = charge
        for (a, b), values in PAIRS.items():
            table[a, b] = table[b, a] = torch.tensor(values, dtype=torch.float64)
        self.register_buffer("charges", charges)
        self.register_buffer("table", table)
        self.charges: Tensor
        self.table: Tensor

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N] float64: half of each of its pairs.

        Raises:
            ElementError: an element other than Ti and O.
            GeometryError: a system is periodic in one or two directions only.
        """
        known = (graph.numbers == 8) | (graph.numbers == 22)
        if not bool(known.all()):
            raise ElementError("the rigid-ion potential knows Ti and O only")
        r = graph.vectors.norm(dim=1).double()
        a, rho, c = self.table[graph.numbers[graph.i], graph.numbers[graph.j]].unbind(1)
        x = ((r - self.cutoff + FADE) / FADE).clamp(0.0, 1.0)
        fade = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
        pair = 0.5 * fade * (a * torch.exp(-r / rho) - c / r**6)
        energy = coulomb(self.charges[graph.numbers], graph, self.cutoff)
        return energy.index_add(0, graph.i, pair)


def too_close() -> dict[tuple[int, int], float]:
    """Distance (Angstrom) of the largest energy of each pair of atomic numbers: nearer, it falls without bound."""
    r = np.linspace(0.2, 1.5, 1301)
    out = {}
    for (a, b), (repulsion, rho, c) in PAIRS.items():
        pair = repulsion * np.exp(-r / rho) - c / r**6 + COULOMB * CHARGES[a] * CHARGES[b] / r
        out[a, b] = float(r[pair.argmax()])
    return out
