"""Sums over neighbours and dense layers on edges, shared by networks that pass messages.

Letters of shapes: N atoms, E edges, F channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from rutile.graph.graph import Graph
from rutile.potentials.parts.products import Linear, linear


class EdgeLinear(nn.Module):
    """y_e = W [a_i, b_j, u_e] + c for each edge e from centre i to neighbour j.

    The products of W with the atoms' parts are made once for each atom and then spread to its edges: the same numbers
    as a dense layer on the concatenation, for a fraction of the work.
    """

    def __init__(self, centre: int, neighbor: int, edge: int, out: int, generator: torch.Generator | None) -> None:
        """Weights normal with variance 2 / (fan in + fan out), bias 0, float64.

        Args:
            centre: width of a.
            neighbor: width of b.
            edge: width of u.
            out: width of y.
            generator: source of the random weights.
        """
        super().__init__()
        self.widths = (centre, neighbor, edge)
        self.linear = Linear(sum(self.widths), out, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.normal_(0.0, (2.0 / (sum(self.widths) + out)) ** 0.5, generator=generator)
            self.linear.bias.zero_()

    def forward(self, a: Tensor, b: Tensor, u: Tensor, graph: Graph) -> Tensor:
        """[N, centre], [N, neighbor], [E, edge] -> [E, out]."""
        of_a, of_b, of_u = self.linear.weight.split(self.widths, 1)
        from_centre = linear(a, of_a, self.linear.bias).index_select(0, graph.i)
        from_neighbor = linear(b, of_b).index_select(0, graph.j)
        return from_centre + from_neighbor + linear(u, of_u)


class NeighborNumber(nn.Module):
    """Mean over the atoms of the training set of n_i = sum_j f_c(r_ij): what sums over neighbours are divided by."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(16.0, dtype=torch.float64))

    def learn(self, graphs: Iterable[Graph], weight: Callable[[Tensor], Tensor]) -> None:
        """Set it from graphs, in one pass; `weight` is f_c of distances. Kept as it was if no atom has neighbours."""
        total, atoms = 0.0, 0
        with torch.no_grad():
            for graph in graphs:
                total += float(weight(graph.vectors.norm(dim=1)).sum())
                atoms += graph.n_atoms
        if total > 0:
            self.mean.fill_(total / atoms)


def sum_neighbors(values: Tensor, graph: Graph) -> Tensor:
    """Sum over the edges of each centre, [E, F] -> [N, F]."""
    return values.new_zeros(graph.n_atoms, *values.shape[1:]).index_add(0, graph.i, values)
