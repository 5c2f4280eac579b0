"""Repulsion of two nuclei at short distance, screened by their electrons (Ziegler, Biersack, Littmark).

    V(r) = k Z_i Z_j / r * phi(r / a) * w(r / r_s),   a = 0.8854 a_0 / (Z_i^0.23 + Z_j^0.23),   r_s = c (R_i + R_j),
    phi(x) = 0.1818 e^(-3.2 x) + 0.5099 e^(-0.9423 x) + 0.2802 e^(-0.4029 x) + 0.02817 e^(-0.2016 x),
    w(x)   = exp(-x^2 / (1 - x^2)),

with the covalent radii R and a fraction c below 1, so that nothing is added to a bond that vibrates; w has all
derivatives, also at r_s. With c = 1 the repulsion of a bond squeezed by a tenth is steep, and outside of most training
sets: it then stands unchecked beside what the network makes of that bond.

Source: J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Solids, Pergamon, 1985; radii of
B. Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/b801115j.
"""

from __future__ import annotations

import torch
from ase.data import covalent_radii
from torch import Tensor, nn

from rutile.core.units import BOHR, COULOMB
from rutile.graph.graph import Graph

SCREENING = ((0.1818, 3.2), (0.5099, 0.9423), (0.2802, 0.4029), (0.02817, 0.2016))


def zbl(z_i: Tensor, z_j: Tensor, r: Tensor) -> Tensor:
    """Screened repulsion of pairs without taper (eV); floating-point atomic numbers, r in Angstrom, any shape."""
    x = r * (z_i**0.23 + z_j**0.23) / (0.8854 * BOHR)
    screening = sum(c * torch.exp(-b * x) for c, b in SCREENING)
    return COULOMB * z_i * z_j / r * screening


class CoreRepulsion(nn.Module):
    """The tapered repulsion of the atoms of a graph; a part of other potentials.

    Args:
        end: c, where it ends as a fraction of the sum of the covalent radii.
    """

    radius: Tensor

    def __init__(self, end: float) -> None:
        super().__init__()
        self.register_buffer("radius", end * torch.tensor(covalent_radii, dtype=torch.float64), persistent=False)

    def reach(self, elements: tuple[int, ...]) -> float:
        """Distance (Angstrom) from which on it is 0 for all pairs of these elements."""
        return 2.0 * float(self.radius[list(elements)].max())

    def forward(self, graph: Graph, cutoff: float = torch.inf) -> Tensor:
        """Energy of each atom (eV): half of each of its pairs, [N].

        Args:
            graph: the batch.
            cutoff: the repulsion ends here (Angstrom) for pairs whose r_s is larger.
        """
        r = graph.vectors.norm(dim=1)
        z_i, z_j = graph.numbers[graph.i], graph.numbers[graph.j]
        end = (self.radius[z_i] + self.radius[z_j]).clamp_max(cutoff).to(r.dtype)
        x2 = (r / end).square()
        inside = x2 < 1.0
        # Where the gap is at its floor the taper has underflowed to 0, and so have its derivatives.
        gap = torch.where(inside, 1.0 - x2, torch.ones_like(x2)).clamp_min(1e-3)
        taper = torch.where(inside, torch.exp(-x2 / gap), torch.zeros_like(r))
        pair = 0.5 * taper * zbl(z_i.to(r.dtype), z_j.to(r.dtype), r)
        energy: Tensor = r.new_zeros(graph.n_atoms).index_add(0, graph.i, pair)
        return energy
