"""Lennard-Jones: pairs of one kind, whatever the elements.

    E = sum_{i<j} 4 epsilon [(sigma/r)^12 - (sigma/r)^6] f(r)

f goes from 1 to 0 with two continuous derivatives over the last third of the cutoff. The defaults are those of argon
(A. Rahman, Phys. Rev. 136, A405 (1964), doi:10.1103/PhysRev.136.A405). Letters of shapes: N atoms, E edges.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph


class LennardJones(nn.Module):
    """The energy function; has no parameters to train."""

    name = "lennard_jones"
    elements: tuple[int, ...] = ()
    cutoff: float

    def __init__(self, epsilon: float = 0.0103, sigma: float = 3.4, cutoff: float = 10.2) -> None:
        """Prepare.

        Args:
            epsilon: depth of the well (eV).
            sigma: where the energy of a pair is 0 (Angstrom).
            cutoff: radius of the pairs (Angstrom).
        """
        super().__init__()
        self.epsilon, self.sigma, self.cutoff = epsilon, sigma, cutoff
        self.places: Tensor
        self.register_buffer("places", torch.zeros(1, dtype=torch.float64))  # says where and how precisely it computes

    def forward(self, graph: Graph) -> Tensor:
        """Energy of each atom (eV), [N]: half of each of its pairs."""
        r = graph.vectors.norm(dim=1)
        x = (3.0 * r / self.cutoff - 2.0).clamp(0.0, 1.0)
        fade = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
        sixth = (self.sigma / r) ** 6
        pair = 2.0 * self.epsilon * (sixth**2 - sixth) * fade
        return torch.zeros(graph.n_atoms, dtype=pair.dtype, device=pair.device).index_add(0, graph.i, pair)
