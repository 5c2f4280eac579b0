"""Pairs of edges with a common centre: the angles of three-body terms. Whole-array, no Python loop.

Letters of shapes: E edges sorted by centre, T triplets. A centre with n neighbours has n (n - 1) / 2 triplets.
"""

from __future__ import annotations

import torch
from torch import Tensor


def triplets(edges_i: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """All unordered pairs of edges of the same centre.

    Args:
        edges_i: centre of each edge, [E] int64, non-decreasing.
        n_atoms: number of atoms N.

    Returns:
        Edge indices a and b, [T] int64 each, a < b, sorted by a then b.
    """
    n_edges = edges_i.shape[0]
    edge = torch.arange(n_edges, device=edges_i.device)
    end = torch.cumsum(torch.bincount(edges_i, minlength=n_atoms), 0)  # [N], one past the last edge of each centre
    partners = end[edges_i] - 1 - edge  # [E], edges of the same centre that come later
    a = torch.repeat_interleave(edge, partners)
    first = torch.cumsum(partners, 0) - partners  # [E], where the pairs of each edge begin
    b = a + 1 + torch.arange(a.shape[0], device=edges_i.device) - first[a]
    return a, b


def triplets_within(edges_i: Tensor, distances: Tensor, n_atoms: int, cutoff: float) -> tuple[Tensor, Tensor]:
    """As `triplets`, of the edges shorter than an angular cutoff only; indices refer to all edges.

    Args:
        edges_i: centre of each edge, [E] int64, non-decreasing.
        distances: length of each edge (Angstrom), [E].
        n_atoms: number of atoms N.
        cutoff: angular cutoff (Angstrom).
    """
    near = torch.nonzero(distances < cutoff).squeeze(1)
    a, b = triplets(edges_i[near], n_atoms)
    return near[a], near[b]


def chunks_of_centres(edges_i: Tensor, n_atoms: int, max_triplets: int) -> list[tuple[slice, slice]]:
    """Consecutive ranges of centres with at most `max_triplets` triplets each, so that memory stays bounded.

    A centre that alone has more is a chunk of its own. Every centre, also one without edges, is in exactly one chunk.

    Returns:
        For each chunk its (atoms, edges) as slices; its triplets are `triplets(edges_i[edges] - atoms.start, n)`.
    """
    counts = torch.bincount(edges_i, minlength=n_atoms)
    edge_ends = [0, *torch.cumsum(counts, 0).tolist()]
    triplet_ends = torch.cumsum(counts * (counts - 1) // 2, 0).cpu()  # [N]
    out: list[tuple[slice, slice]] = []
    begin, done = 0, 0
    while begin < n_atoms:
        end = max(int(torch.searchsorted(triplet_ends, done + max_triplets, right=True)), begin + 1)
        out.append((slice(begin, end), slice(edge_ends[begin], edge_ends[end])))
        begin, done = end, int(triplet_ends[end - 1])
    return out
