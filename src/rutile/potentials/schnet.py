"""SchNet: interaction blocks of continuous-filter convolutions.

    x_i = e(Z_i) + e(mode)
    x_i <- x_i + V( n^(-1/2) sum_j (U x_j) * W(r_ij) ),   W(r) = F(g(r)) f_c(r)   in each block
    N_i = head(x_i)

with g_k(r) = exp(-(r - mu_k)^2 / 2 d^2), mu_k evenly spaced by d from 0 to r_c, F and V and the head perceptrons
with one hidden layer and shifted softplus ssp(x) = ln(e^x / 2 + 1 / 2), U linear without bias, * by channel.

Differences from the paper, which has no cutoff function and sums the neighbours as they are: f_c makes forces
continuous where a neighbour leaves, and n, the mean number of neighbours in the training set (1 until learned), keeps
the sums of dense matter of order 1. Calc modes add to the embedding. As in SchNetPack the head has half the width.

Sources: K. T. Schuett et al., NeurIPS 2017, arXiv:1706.08566, and J. Chem. Phys. 148, 241722 (2018),
doi:10.1063/1.5019779; SchNetPack 2, representation/schnet.py, for the Gaussians.
Letters of shapes: N atoms, P pairs, K Gaussians, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.embedding import ElementEmbedding
from rutile.potentials.parts.mlp import MLP
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.pairs import Pairs, mean_neighbors, pairs_of, plan_pairs, sum_neighbors
from rutile.potentials.parts.products import Linear, unrounded
from rutile.potentials.parts.radial import even_centers, gaussians
from rutile.potentials.settings import SchNetSettings


class SchNet(NetworkPotential):
    """A network on distances; made in float64."""

    name = "schnet"
    knows_modes = True
    centers: Tensor
    mean_neighbors: Tensor

    def __init__(
        self,
        settings: SchNetSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the network with random weights.

        Args:
            settings: its parameters.
            elements: atomic numbers.
            generator: source of the random weights (default: torch's own).
            modes: names of the calc modes.
        """
        super().__init__(settings, elements, modes)
        self.cutoff, self.cutoff_function = settings.cutoff, settings.cutoff_function
        channels = settings.features
        spacing = settings.cutoff / (settings.radial - 1)
        self.gamma = 0.5 / spacing**2
        self.gain = (settings.radial / math.pi**0.5) ** 0.5  # mean square 1, as the weights of F expect
        self.register_buffer("centers", even_centers(0.0, settings.cutoff, settings.radial))
        self.register_buffer("mean_neighbors", torch.ones((), dtype=torch.float64))
        self.embedding = ElementEmbedding(self.elements, len(self.modes), channels, generator)
        self.blocks = nn.ModuleList(
            Interaction(channels, settings.radial, generator) for _ in range(settings.interactions)
        )
        self.head = MLP((channels, channels // 2, 1), "shifted_softplus", generator)

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """The network's number for each atom, [N]."""
        pairs = pairs_of(graph)
        r = pairs.vectors.norm(dim=1)
        basis = self.gain * gaussians(r, self.centers, self.gamma)
        scale = cutoff(self.cutoff_function, r, self.cutoff) * self.mean_neighbors.rsqrt()
        x = self.embedding(graph, position)
        for block in self.blocks:
            x = x + block(x, pairs, basis, scale.unsqueeze(1))
        out: Tensor = self.head(x).squeeze(1)
        return out

    def plan_edges(self, graph: Graph) -> dict[str, Tensor]:
        """Every pair of neighbours once."""
        return plan_pairs(graph)

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """n, how many neighbours an atom has."""
        self.mean_neighbors.fill_(mean_neighbors(graphs, self.cutoff_function, self.cutoff))


class Interaction(nn.Module):
    """One block: V( sum_j (U x_j) * W(r_ij) )."""

    def __init__(self, channels: int, radial: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.inward = Linear(channels, channels, bias=False, dtype=torch.float64)
        nn.init.xavier_normal_(self.inward.weight, generator=generator)
        self.filter = MLP((radial, channels, channels), "shifted_softplus", generator)
        self.outward = MLP((channels, channels, channels), "shifted_softplus", generator)

    def forward(self, x: Tensor, pairs: Pairs, basis: Tensor, scale: Tensor) -> Tensor:
        """Change of the features.

        Args:
            x: features of the atoms, [N, C].
            pairs: the neighbours.
            basis: Gaussians of the distances, [P, K].
            scale: what the filters are multiplied by, 0 at the cutoff, [P, 1].

        Returns:
            [N, C].
        """
        change: Tensor = self.outward(sum_neighbors(pairs, self.inward(x), unrounded(self.filter, basis) * scale))
        return change
