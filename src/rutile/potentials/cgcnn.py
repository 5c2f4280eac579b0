"""Crystal graph convolutional network (CGCNN) as a potential.

With features v_i of atoms, at first a learned vector of the element and the calc mode, Gaussians u_ij of the distance
and a few layers

    z_ij = [v_i, v_j, u_ij],   u_ij,k = exp(-(r_ij - k d)^2 / d^2),   k = 0 ... r_c / d
    v_i <- ssp(v_i + g * n^(-1/2) sum_j f_c(r_ij) sigmoid(W_f z_ij + b_f) * ssp(W_s z_ij + b_s) + h)
    E_i  = MLP(v_i)

where * is the product of channels, ssp(x) = ln(e^x / 2 + 1 / 2), g and h are weights of a channel, and n is the mean of
sum_j f_c(r_ij) over the atoms of the training set.

Source: T. Xie and J. C. Grossman, Phys. Rev. Lett. 120, 145301 (2018), doi:10.1103/PhysRevLett.120.145301. That network
predicts properties of whole crystals; as a potential it differs so:

- every atom within the cutoff is a neighbour, not the 12 nearest: a list of the nearest jumps when two of them change
  places, and the energy with it;
- messages are multiplied by a cutoff function, so that a neighbour comes and goes smoothly;
- no batch normalisation: an energy must not depend on the other structures of a batch. Its place has the division by
  the constant n^(1/2) and the affine map (g, h) that it has, too;
- softplus is shifted to pass through 0: without the normalisation, messages that are all positive would add up to a
  large constant;
- energies of atoms are summed, instead of a network on the mean of the atoms' features: N atoms have N times the energy
  of one;
- elements have learned vectors instead of a table of their properties.

Letters of shapes: N atoms, E edges, F channels, K Gaussians.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.edges import EdgeLinear, NeighborNumber, sum_neighbors
from rutile.potentials.parts.embedding import ElementEmbedding
from rutile.potentials.parts.mlp import MLP, shifted_softplus
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.radial import even_centers, gaussians
from rutile.potentials.settings import CGCNNSettings


class GatedConvolution(nn.Module):
    """One layer: what each neighbour says, times a gate of the pair, summed."""

    def __init__(self, channels: int, gaussians: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.gate_and_core = EdgeLinear(channels, channels, gaussians, 2 * channels, generator)
        self.gain = nn.Parameter(torch.ones(channels, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(channels, dtype=torch.float64))

    def forward(self, v: Tensor, u: Tensor, weight: Tensor, graph: Graph) -> Tensor:
        """Features [N, F], Gaussians [E, K] and weights f_c / n^(1/2) [E, 1] -> features [N, F]."""
        gate, core = self.gate_and_core(v, v, u, graph).chunk(2, 1)
        message = torch.sigmoid(gate) * shifted_softplus(core) * weight
        return shifted_softplus(v + self.gain * sum_neighbors(message, graph) + self.shift)


class CGCNN(NetworkPotential):
    """CGCNN with a cutoff function and a sum over atoms; made in float64."""

    name = "cgcnn"
    reads = "readout"
    knows_modes = True
    centers: Tensor

    def __init__(
        self,
        settings: CGCNNSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the layers with random weights.

        Args:
            settings: sizes.
            elements: atomic numbers.
            generator: source of the random weights (default: torch's own).
            modes: names of the calc modes.
        """
        super().__init__(settings, elements, modes)
        self.cutoff, self.cutoff_function, self.gamma = settings.cutoff, settings.cutoff_function, settings.spacing**-2
        n = round(settings.cutoff / settings.spacing) + 1
        self.register_buffer("centers", even_centers(0.0, settings.cutoff, n), persistent=False)
        self.embedding = ElementEmbedding(self.elements, len(self.modes), settings.channels, generator)
        self.layers = nn.ModuleList(GatedConvolution(settings.channels, n, generator) for _ in range(settings.layers))
        self.readout = MLP((settings.channels, *settings.hidden, 1), "shifted_softplus", generator)
        self.neighbors = NeighborNumber()

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """Energy of each atom in units of the energy scale, [N]."""
        r = graph.vectors.norm(dim=1)
        u = gaussians(r, self.centers, self.gamma)
        weight = (self._weight(r) * self.neighbors.mean.rsqrt())[:, None]
        v: Tensor = self.embedding(graph, position)
        for layer in self.layers:
            v = layer(v, u, weight, graph)
        return self.readout(v).squeeze(1)  # type: ignore[no-any-return]

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Take n from the training set."""
        self.neighbors.learn(graphs, self._weight)

    def _weight(self, r: Tensor) -> Tensor:
        return cutoff(self.cutoff_function, r, self.cutoff)
