"""PaiNN: polarisable atom interaction network, message passing with scalars s and vectors v.

    s_i = e(Z_i) + e(mode),   v_i = 0
    message   (a, b, c)_j = phi(s_j),   (A, B, C)_ij = linear(b(r_ij)) f_c(r_ij) n^(-1/2)
              s_i <- s_i + sum_j A_ij * a_j
              v_i <- v_i + sum_j B_ij * b_j u_ij + C_ij * c_j v_j
    update    (alpha, beta, gamma)_i = psi(s_i, |V v_i|)
              s_i <- s_i + alpha_i + beta_i * <V v_i, W v_i>
              v_i <- v_i + gamma_i * W v_i
    N_i = head(s_i)

in each block, with * by channel, u_ij the unit vector from i to j, b_k(r) = sqrt(2 / r_c) sin(k pi r / r_c) / r,
perceptrons phi, psi and head of one hidden layer with SiLU, and V, W linear on channels without bias.

Differences from the paper: n, the mean number of neighbours in the training set (1 until learned), keeps the sums of
dense matter of order 1; |x| is sqrt(|x|^2 + 0.01) - 0.1, because |x| itself has no derivative at 0, where the vectors
of a symmetric crystal are; what cannot reach the energy is left out (C and c of the first block, where v = 0, and
gamma of the last). Calc modes add to the embedding.

Sources: K. T. Schuett, O. T. Unke and M. Gastegger, ICML 2021, arXiv:2102.03150; SchNetPack 2,
representation/painn.py, for the order of the products.
Letters of shapes: N atoms, P pairs, K Bessel functions, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.embedding import ElementEmbedding
from rutile.potentials.parts.mlp import MLP
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.pairs import Pairs, mean_neighbors, pairs_of, plan_pairs, sum_directions, sum_neighbors
from rutile.potentials.parts.products import Linear
from rutile.potentials.parts.radial import bessel
from rutile.potentials.settings import PaiNNSettings

SOFTNESS = 0.1
"""|x| is quadratic in x below about this."""


class PaiNN(NetworkPotential):
    """A network on scalars and vectors; made in float64."""

    name = "painn"
    knows_modes = True
    mean_neighbors: Tensor

    def __init__(
        self,
        settings: PaiNNSettings,
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
        self.cutoff, self.cutoff_function, self.radial = settings.cutoff, settings.cutoff_function, settings.radial
        channels, n = settings.features, settings.interactions
        self.register_buffer("mean_neighbors", torch.ones((), dtype=torch.float64))
        self.embedding = ElementEmbedding(self.elements, len(self.modes), channels, generator)
        self.messages = nn.ModuleList(Message(channels, settings.radial, k == 0, generator) for k in range(n))
        self.updates = nn.ModuleList(Update(channels, k == n - 1, generator) for k in range(n))
        self.head = MLP((channels, channels // 2, 1), "silu", generator)

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """The network's number for each atom, [N]."""
        pairs = pairs_of(graph)
        r = pairs.vectors.norm(dim=1)
        unit = pairs.vectors / r.unsqueeze(1)
        scale = (cutoff(self.cutoff_function, r, self.cutoff) * self.mean_neighbors.rsqrt()).unsqueeze(1)
        basis = torch.cat([bessel(r, self.cutoff, self.radial), torch.ones_like(scale)], 1) * scale
        s = self.embedding(graph, position)
        v = s.new_zeros(s.shape[0], 3, s.shape[1])
        for message, update in zip(self.messages, self.updates, strict=True):
            s, v = update(*message(s, v, pairs, unit, basis))
        out: Tensor = self.head(s).squeeze(1)
        return out

    def plan_edges(self, graph: Graph) -> dict[str, Tensor]:
        """Every pair of neighbours once."""
        return plan_pairs(graph)

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """n, how many neighbours an atom has."""
        self.mean_neighbors.fill_(mean_neighbors(graphs, self.cutoff_function, self.cutoff))


class Message(nn.Module):
    """From the neighbours to an atom."""

    def __init__(self, channels: int, radial: int, first: bool, generator: torch.Generator | None) -> None:
        super().__init__()
        self.first = first
        parts = 2 if first else 3
        self.context = MLP((channels, channels, parts * channels), "silu", generator)
        weight = 0.2 * torch.randn(radial + 1, parts * channels, generator=generator, dtype=torch.float64)
        weight[:radial] /= torch.arange(1, radial + 1, dtype=torch.float64).unsqueeze(1)  # smooth filters to begin with
        self.filter = nn.Parameter(weight)

    def forward(self, s: Tensor, v: Tensor, pairs: Pairs, unit: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
        """New scalars [N, C] and vectors [N, 3, C].

        Args:
            s: scalars, [N, C].
            v: vectors, [N, 3, C]; not looked at in the first block.
            pairs: the neighbours.
            unit: directions of the pairs, [P, 3].
            basis: radial functions and 1 (for a bias), times what the filters are multiplied by, [P, K + 1].
        """
        n, channels = s.shape
        parts = self.context(s).split(channels, 1)
        filters = (basis @ self.filter).split(channels, 1)
        ds = sum_neighbors(pairs, parts[0], filters[0])
        dv = sum_directions(pairs, parts[1], filters[1], unit)
        if self.first:
            return s + ds, dv
        moved = (parts[2].unsqueeze(1) * v).flatten(1)
        passed = sum_neighbors(pairs, moved, filters[2].repeat(1, 3)).reshape(n, 3, channels)
        return s + ds, v + dv + passed


class Update(nn.Module):
    """Between the channels of an atom."""

    def __init__(self, channels: int, last: bool, generator: torch.Generator | None) -> None:
        super().__init__()
        self.last = last
        self.mix = Linear(channels, 2 * channels, bias=False, dtype=torch.float64)
        nn.init.xavier_normal_(self.mix.weight, generator=generator)
        self.context = MLP((2 * channels, channels, (2 if last else 3) * channels), "silu", generator)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """New scalars [N, C] and vectors [N, 3, C] (the last block leaves the vectors)."""
        channels = s.shape[1]
        left, right = self.mix(v).split(channels, 2)
        length = torch.sqrt(left.square().sum(1) + SOFTNESS**2) - SOFTNESS
        parts = self.context(torch.cat([s, length], 1)).split(channels, 1)
        s = s + parts[0] + parts[1] * (left * right).sum(1)
        return s, v if self.last else v + parts[2].unsqueeze(1) * right
