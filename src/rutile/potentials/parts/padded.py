"""Edges in rows of equal length, one row for each centre, so that sums over neighbours are batched matrix products.

Letters of shapes: N atoms, E edges, M the largest number of neighbours in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rutile.graph.graph import Graph


@dataclass(frozen=True)
class Padded:
    """Neighbours of each atom within a cutoff; an empty place holds atom 0 at exactly the cutoff."""

    j: Tensor
    """Neighbours, [N * M] int64."""
    vectors: Tensor
    """r_ij (Angstrom), [N * M, 3]."""
    n_places: int
    """M, at least 1."""


def plan_places(graph: Graph, cutoff: float) -> dict[str, Tensor]:
    """Edges shorter than a cutoff (Angstrom), the place of each, and a row's places, whose length is M."""
    near = (graph.vectors.detach().square().sum(1) < cutoff * cutoff).nonzero().squeeze(1)
    i = graph.i[near]
    counts = torch.bincount(i, minlength=graph.n_atoms)
    n_places = max(int(counts.max()), 1) if len(counts) else 1
    first = counts.cumsum(0) - counts
    place = i * n_places + torch.arange(len(i), device=i.device) - first[i]
    return {f"near {cutoff}": near, f"place {cutoff}": place, f"row {cutoff}": torch.arange(n_places, device=i.device)}


def pad_edges(graph: Graph, cutoff: float) -> Padded:
    """The edges of a graph shorter than a cutoff, in rows.

    What is made of them must vanish at the cutoff, with its derivatives: then empty places add nothing.

    Args:
        graph: the batch; centres non-decreasing, as always.
        cutoff: Angstrom.
    """
    plan = graph.plan or plan_places(graph, cutoff)
    near, place, n_places = plan[f"near {cutoff}"], plan[f"place {cutoff}"], plan[f"row {cutoff}"].shape[0]
    j, vectors = graph.j, graph.vectors
    if near.shape[0] < j.shape[0]:
        j, vectors = j[near], vectors[near]
    empty = vectors.new_tensor([cutoff, 0.0, 0.0]).expand(graph.n_atoms * n_places, 3)
    return Padded(
        j.new_zeros(graph.n_atoms * n_places).index_copy(0, place, j), empty.index_copy(0, place, vectors), n_places
    )
