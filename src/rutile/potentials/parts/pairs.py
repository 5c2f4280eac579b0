"""Pairs of neighbours taken once, for what depends on the distance alone: half the edges, half the work.

Both directions of an edge are in a graph, so those with i < j are every pair once; an atom and its own image
(i = j) stay as they are. A function of the pair then serves both atoms, and since r_ji = -r_ij as functions of the
positions, forces and stress follow from the vectors of these edges alone.
Letters of shapes: N atoms, P pairs, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.graph.graph import Graph
from rutile.potentials.parts.cutoff import cutoff
from rutile.potentials.parts.symmetry import CutoffName


@dataclass(frozen=True)
class Pairs:
    """Edges of a graph without the second direction."""

    i: Tensor
    """First atom, [P] int64; i < j for the first `n_mutual` pairs (there non-decreasing), i = j for the rest."""
    j: Tensor
    """Second atom, [P] int64."""
    vectors: Tensor
    """r_ij = R_j - R_i of the image (Angstrom), [P, 3]."""
    n_mutual: int
    """How many pairs, the first ones, stand for both directions; the others stand for i -> j alone."""


def plan_pairs(graph: Graph) -> dict[str, Tensor]:
    """Edges that stand for both directions, and those of an atom and its own image."""
    own, mutual = graph.i == graph.j, graph.i < graph.j
    return {"own": own.nonzero().squeeze(1), "mutual": mutual.nonzero().squeeze(1)}


def pairs_of(graph: Graph) -> Pairs:
    """Every pair of neighbours once."""
    plan = graph.plan or plan_pairs(graph)
    own, chosen = plan["own"], plan["mutual"]
    n_mutual = chosen.shape[0]
    if own.shape[0]:
        chosen = torch.cat([chosen, own])
    i, j, vectors = (x.index_select(0, chosen) for x in (graph.i, graph.j, graph.vectors))
    return Pairs(i, j, vectors, n_mutual)


def mean_neighbors(graphs: Iterable[Graph], name: CutoffName, r_c: float) -> float:
    """Mean over atoms of sum_j f_c(r_ij)^2, at least 1: sums of f_c(r_ij) w_j with random w have that many <w^2>.

    Args:
        graphs: the training set.
        name: cutoff function f_c.
        r_c: its cutoff (Angstrom).
    """
    atoms, total = 0, 0.0
    for graph in graphs:
        atoms += graph.n_atoms
        total += float(cutoff(name, graph.vectors.norm(dim=1), r_c).square().sum())
    return max(total / max(atoms, 1), 1.0)


def sum_neighbors(pairs: Pairs, x: Tensor, weight: Tensor) -> Tensor:
    """y_i = sum_j weight_ij x_j, over the neighbours of each atom, for a weight that is the same both ways.

    Args:
        pairs: the neighbours.
        x: [N, C].
        weight: [P, C].

    Returns:
        [N, C].
    """
    n = pairs.n_mutual
    there = x.index_select(0, pairs.j) * weight
    back = x.index_select(0, pairs.i[:n]) * weight[:n]
    return torch.zeros_like(x).index_add(0, pairs.i, there).index_add(0, pairs.j[:n], back)


def sum_directions(pairs: Pairs, x: Tensor, weight: Tensor, unit: Tensor) -> Tensor:
    """y_i = sum_j weight_ij x_j u_ij, vectors from scalars; u_ji = -u_ij.

    Args:
        pairs: the neighbours.
        x: [N, C].
        weight: the same both ways, [P, C].
        unit: u_ij, from i to j, [P, 3].

    Returns:
        [N, 3, C].
    """
    n = pairs.n_mutual
    u = unit.unsqueeze(2)
    there = (x.index_select(0, pairs.j) * weight).unsqueeze(1) * u
    back = (x.index_select(0, pairs.i[:n]) * weight[:n]).unsqueeze(1) * u[:n]
    total = x.new_zeros(x.shape[0], 3, x.shape[1]).index_add(0, pairs.i, there)
    return total.index_add(0, pairs.j[:n], back, alpha=-1)
