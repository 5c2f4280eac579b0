"""Charges that flow along bonds, and their Coulomb energy beyond the neighbours.

Neighbours exchange charge, which vanishes smoothly at the cutoff, and the charge of an atom is what it got:

    q_i = c sum_j f(r_ij) (u_i . v_j - v_i . u_j)

with vectors u and v of each atom, linear in the features that a network has for it. What one gives the other gets, so
that every system, and every group of atoms without neighbours outside, is neutral by itself without any correction
shared by all atoms: charges are local, the energy is extensive, and far apart groups of atoms cannot change each
other's charges. The price: a charge that is free to sit on either of two groups that are not neighbours (ions in vacuum
beyond the cutoff, charged systems) does not exist here.

Between neighbours the interaction is screened: 1/r becomes (1 - f(r))/r, 0 at r = 0 and 1/r from the cutoff on,

    E = Ewald's sum (`parts.ewald`)  -  1/2 sum_e k q_i q_j f(r_e) / r_e

because a network knows best what happens between neighbours: the steep and large attraction inside a molecule, which it
would have to cancel whenever a charge changes, keeps charges from growing to what the far field asks for.

Charges from differences of neighbours as in the split charge model of R. A. Nistor, J. G. Polihronov, M. H. Mueser and
N. J. Mosey, J. Chem. Phys. 125, 094108 (2006), doi:10.1063/1.2346671, but predicted instead of equilibrated; screened
as in T. W. Ko, J. A. Finkler, S. Goedecker and J. Behler, Nat. Commun. 12, 398 (2021), doi:10.1038/s41467-020-20427-2.
Letters of shapes: N atoms, E edges, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rutile.core.units import COULOMB
from rutile.graph.graph import Graph
from rutile.potentials.parts.dense import Dense
from rutile.potentials.parts.ewald import coulomb

CHANNELS = 8
"""Length of u and v."""
START = 0.2
"""c: size of the first charges (e)."""


class BondCharges(nn.Module):
    """Charges from features.

    Args:
        n_in: number of features F.
        generator: source of the first weights.
    """

    def __init__(self, n_in: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.give = Dense(n_in, CHANNELS, generator)
        self.take = Dense(n_in, CHANNELS, generator)

    def forward(self, features: Tensor, graph: Graph, weight: Tensor) -> Tensor:
        """Charge of each atom (e), [N]; the sum over each system is 0.

        Args:
            features: of the atoms, [N, F].
            graph: the batch.
            weight: f of each edge, equal in both directions, smoothly 0 at the cutoff, [E].
        """
        return features.new_zeros(graph.n_atoms).index_add(0, graph.i, self._flow(features, graph, weight))

    def moments(self, features: Tensor, graph: Graph, weight: Tensor) -> Tensor:
        """Dipole moment of the bonds of each atom (e Angstrom), half of each: -1/2 sum_j flow_ij r_ij, [N, 3].

        Their sum is that of q R in a molecule. In a crystal it has no branches, either: charge flows along bonds only.
        Arguments are those of `forward`.
        """
        moved = -0.5 * self._flow(features, graph, weight)[:, None] * graph.vectors
        return features.new_zeros(graph.n_atoms, 3).index_add(0, graph.i, moved)

    def _flow(self, features: Tensor, graph: Graph, weight: Tensor) -> Tensor:
        """Charge that the atom i of each edge gets from j (e), [E]."""
        u, v = self.give(features), self.take(features)
        i, j = graph.i, graph.j
        flow: Tensor = (u[i] * v[j] - v[i] * u[j]).sum(1) * (weight * (START / CHANNELS**0.5))
        return flow


def far_coulomb(charges: Tensor, graph: Graph, cutoff: float, fade: Tensor) -> Tensor:
    """Coulomb energy of each atom (eV), screened between neighbours, [N].

    Args:
        charges: of each atom (e), [N].
        graph: with all edges to the cutoff.
        cutoff: of the graph (Angstrom).
        fade: f of each edge, 1 at short distances and smoothly 0 at the cutoff, [E].

    Raises:
        GeometryError: a system is periodic in one or two directions only.
    """
    near = fade * graph.vectors.square().sum(1).rsqrt()
    pair = 0.5 * COULOMB * charges[graph.i] * charges[graph.j] * near
    return coulomb(charges, graph, cutoff) - torch.zeros_like(charges).index_add(0, graph.i, pair)
