"""Lithium ions in a framework of anions and cations: bond-valence site energies.

    E = sum_{i in Li} [ sum_{j in anions} D_0 / 2 ((exp(alpha (R_min - r)) - 1)^2 - 1)
                        + sum_{j in cations} k q_i q_j / (r sqrt(n_i n_j)) erfc(r / (f (R_i + R_j))) ],  f = 0.74,

n principal quantum numbers, R covalent radii, q formal charges. It says where a lithium ion finds room and how high the
saddles between such places are; the framework has no energy of its own (it would fall apart: hold it), and lithium
ions do not see each other. Both terms go smoothly to 0 over the last 2 Angstrom before the cutoff.

Sources: H. Chen and S. Adams, IUCrJ 4, 614 (2017), doi:10.1107/S2052252517010211 (parameters); H. Chen, L. L. Wong and
S. Adams, Acta Cryst. B 75, 18 (2019), doi:10.1107/S2052520618015718 (energies, f). Letters of shapes: N atoms, E edges.
"""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from rutile.core.errors import ElementError
from rutile.core.units import COULOMB
from rutile.graph.graph import Graph

LITHIUM = 3
ANIONS: dict[int, tuple[float, float, float]] = {8: (0.98816, 1.940013, 1.937984), 9: (0.49611, 1.87265, 1.968504)}
"""D_0 (eV), R_min (Angstrom) and alpha (1/Angstrom) of Li-O and Li-F."""
CATIONS: dict[int, tuple[float, int]] = {15: (5.0, 3), 16: (6.0, 3), 26: (2.0, 4)}
"""Formal charge (e) and principal quantum number of P (phosphate), S (sulfate) and Fe (divalent)."""
SCREENING = 0.74
FADE = 2.0
"""Length over which the energy goes to 0 before the cutoff (Angstrom)."""


class BondValence(nn.Module):
    """The energy function, in float64; has no parameters to train."""

    elements: tuple[int, ...] = (3, 8, 9, 15, 16, 26)
    cutoff: float

    def __init__(self, cutoff: float = 10.0) -> None:
        """Prepare.

        Args:
            cutoff: radius (Angstrom), more than 4.
        """
        super().__init__()
        self.cutoff = cutoff
        size = max(self.elements) + 1
        morse, repulsion = torch.zeros(size, 3, dtype=torch.float64), torch.zeros(size, 2, dtype=torch.float64)
        repulsion[:, 1] = 1.0
        for number, values in ANIONS.items():
            morse[number] = torch.tensor(values, dtype=torch.float64)
        for number, (charge, n) in CATIONS.items():
            reach = SCREENING * (covalent_radii[LITHIUM] + covalent_radii[number])
            repulsion[number] = torch.tensor([COULOMB * charge / (2 * n) ** 0.5, reach], dtype=torch.float64)
        self.register_buffer("morse", morse)
        self.register_buffer("repulsion", repulsion)
        self.morse: Tensor
        self.repulsion: Tensor

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N] float64; 0 of all but lithium.

        Raises:
            ElementError: an element that has no parameters here.
        """
        known = torch.isin(graph.numbers, torch.tensor(self.elements, device=graph.numbers.device))
        if not bool(known.all()):
            raise ElementError("bond-valence energies are known here of Li with O, F, P, S and Fe only")
        energy = torch.zeros(len(graph.numbers), dtype=torch.float64, device=graph.vectors.device)
        mine = graph.numbers[graph.i] == LITHIUM
        i, z = graph.i[mine], graph.numbers[graph.j[mine]]
        r = graph.vectors[mine].norm(dim=1).double()
        depth, best, alpha = self.morse[z].unbind(1)
        strength, reach = self.repulsion[z].unbind(1)
        pair = 0.5 * depth * ((torch.exp(alpha * (best - r)) - 1.0) ** 2 - 1.0)
        pair = pair + strength / r * torch.erfc(r / reach)
        x = ((r - self.cutoff + FADE) / FADE).clamp(0.0, 1.0)
        return energy.index_add(0, i, pair * (1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)))
