"""MatErials Graph Network (MEGNet) as a potential: edges, atoms and states have features that update each other.

With features v_i of atoms (at first a learned vector of the element), e_ij of edges (at first a network on Gaussians
of the distance) and u_i of states (at first a learned vector of the calc mode), weights f_ij = f_c(r_ij),
n_i = sum_j f_ij, and n the mean of n_i in the training set, each block does

    e'_ij = phi_e([v_i, u_i, v_j, e_ij])
    v'_i  = phi_v([v_i, (1/n) sum_j f_ij e'_ij, u_i])
    u'_i  = phi_u([u_i, sum_j f_ij e'_ij / (1 + n_i), (v'_i + sum_j f_ij v'_j) / (1 + n_i)])

and adds e', v' and u' to e, v and u; every phi is a network whose activation is the shifted softplus
ln(e^x / 2 + 1 / 2), and from the second block on v, e and u pass such a network first. In the end

    E_i = MLP([v_i, (1/n) sum_j f_ij e_ij, u_i]).

Source: C. Chen, W. Ye, Y. Zuo, C. Zheng and S. P. Ong, Chem. Mater. 31, 3564 (2019),
doi:10.1021/acs.chemmater.9b01294. That network predicts properties of whole molecules and crystals; as a potential it
differs so:

- The state. There, a structure has one, which sees the means of all edges and atoms of the structure. Supercells keep
  their energy per atom so, but two molecules far apart feel each other, and an atom alone beside a crystal has not its
  reference energy. Here every atom has a state, which sees the means over its own surroundings, weighted by f_ij: with
  all atoms alike it is the same state, and it is local. It starts, as the state of a structure does there (temperature,
  pressure, fidelity), as what is known of the whole: the calc mode.
- Each edge counts with f_ij in every sum, so that a neighbour comes and goes smoothly; there, edges end abruptly.
- Atoms take the sum over their edges divided by the constant n instead of the mean, which cannot count neighbours.
- The readout is a network on each atom, summed, instead of set2set and a network on the structure: its attention is
  over all atoms of the structure, and its result does not grow with their number.
- Edges are directed: e_ij and e_ji are two, each with the state of its centre.
- The last layer of every phi is linear: what is added to the features may have either sign (forces on TiO2 are learned
  faster so).

Letters of shapes: N atoms, E edges, F channels, K Gaussians.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.edges import EdgeLinear, NeighborNumber, sum_neighbors
from rutile.potentials.parts.mlp import MLP
from rutile.potentials.parts.network import NetworkPotential
from rutile.potentials.parts.products import unrounded
from rutile.potentials.parts.radial import even_centers, gaussians
from rutile.potentials.settings import MEGNetSettings


@dataclass(frozen=True)
class Surroundings:
    """A graph with the weights of its edges."""

    graph: Graph
    of_sum: Tensor
    """f_ij / n, [E, 1]."""
    of_mean: Tensor
    """f_ij / (1 + n_i), [E, 1]."""
    of_self: Tensor
    """1 / (1 + n_i), [N, 1]."""


class Block(nn.Module):
    """One round of updates of edges, atoms and states."""

    def __init__(self, settings: MEGNetSettings, generator: torch.Generator | None, *, first: bool) -> None:
        super().__init__()
        f, hidden, activation = settings.channels, settings.hidden, settings.activation
        before = [None if first else MLP((f, hidden[0], f), activation, generator) for _ in range(3)]
        self.before_v, self.before_e, self.before_u = (nn.Identity() if b is None else b for b in before)
        widths = (*hidden, f)
        self.phi_e_first = EdgeLinear(2 * f, f, f, widths[0], generator)
        self.phi_e = MLP(widths, activation, generator)
        self.phi_v = MLP((3 * f, *widths), activation, generator)
        self.phi_u = MLP((3 * f, *widths), activation, generator)
        self.activation = self.phi_v.activation

    def forward(self, v: Tensor, e: Tensor, u: Tensor, near: Surroundings) -> tuple[Tensor, Tensor, Tensor]:
        """Features of atoms [N, F], edges [E, F] and states [N, F] -> the same, updated."""
        graph, v0, e0, u0 = near.graph, self.before_v(v), self.before_e(e), self.before_u(u)
        new_e = self.phi_e(self.activation(self.phi_e_first(torch.cat([v0, u0], 1), v0, e0, graph)))
        new_v = self.phi_v(torch.cat([v0, sum_neighbors(new_e * near.of_sum, graph), u0], 1))
        mean_e = sum_neighbors(new_e * near.of_mean, graph)
        mean_v = new_v * near.of_self + sum_neighbors(new_v.index_select(0, graph.j) * near.of_mean, graph)
        new_u = self.phi_u(torch.cat([u0, mean_e, mean_v], 1))
        return v + new_v, e + new_e, u + new_u


class MEGNet(NetworkPotential):
    """MEGNet with local states, a cutoff function and a sum over atoms; made in float64."""

    name = "megnet"
    reads = "readout"
    knows_modes = True
    centers: Tensor

    def __init__(
        self,
        settings: MEGNetSettings,
        elements: tuple[int, ...],
        generator: torch.Generator | None = None,
        modes: tuple[str, ...] = ("",),
    ) -> None:
        """Make the layers with random weights.

        Args:
            settings: sizes.
            elements: atomic numbers.
            generator: source of the random weights (default: torch's own).
            modes: names of the calc modes, which are the states at first.
        """
        super().__init__(settings, elements, modes)
        self.cutoff, self.cutoff_function, self.gamma = settings.cutoff, settings.cutoff_function, settings.width**-2
        self.register_buffer("centers", even_centers(0.0, self.cutoff, settings.gaussians), persistent=False)
        f, activation = settings.channels, settings.activation
        self.atom, self.state = (
            nn.Parameter(torch.randn(n, f, generator=generator, dtype=torch.float64))
            for n in (len(self.elements), len(self.modes))
        )
        self.edge = MLP((settings.gaussians, settings.hidden[0], f), activation, generator)
        self.blocks = nn.ModuleList(Block(settings, generator, first=b == 0) for b in range(settings.blocks))
        self.readout = MLP((3 * f, *settings.readout, 1), activation, generator)
        self.neighbors = NeighborNumber()

    def outputs(self, graph: Graph, position: Tensor) -> Tensor:
        """Energy of each atom in units of the energy scale, [N]."""
        r = graph.vectors.norm(dim=1)
        near = self._surroundings(r, graph)
        v, u = self.atom[position], self.state[graph.mode[graph.system]]
        e = unrounded(self.edge, gaussians(r, self.centers, self.gamma))
        for block in self.blocks:
            v, e, u = block(v, e, u, near)
        return self.readout(torch.cat([v, sum_neighbors(e * near.of_sum, graph), u], 1)).squeeze(1)  # type: ignore[no-any-return]

    def learn_statistics(self, graphs: Iterable[Graph]) -> None:
        """Take n from the training set."""
        self.neighbors.learn(graphs, self._weight)

    def _weight(self, r: Tensor) -> Tensor:
        return cutoff(self.cutoff_function, r, self.cutoff)

    def _surroundings(self, r: Tensor, graph: Graph) -> Surroundings:
        weight = self._weight(r)[:, None]
        of_self = 1.0 / (1.0 + sum_neighbors(weight, graph))
        return Surroundings(graph, weight / self.neighbors.mean, weight * of_self.index_select(0, graph.i), of_self)
