"""Edges (integers, no gradient) and the graph that a potential sees (vectors, differentiable).

Letters of shapes: N atoms, S systems, E directed edges. An edge i -> j points from a centre to one
periodic image of a neighbour; every image inside the cutoff is its own neighbour, images of i itself included.
Both directions are stored. Edges are sorted by centre i.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Edges:
    """Who neighbours whom, for a batch; valid while no pair crosses the cutoff."""

    i: Tensor
    """Centre of each edge, [E] int64, non-decreasing."""
    j: Tensor
    """Neighbour of each edge, [E] int64."""
    shift: Tensor
    """Cell shift of the neighbour's image, [E, 3] int64: r_ij = R_j + shift @ cell - R_i."""
    cutoff: float
    """Radius (Angstrom); strictly smaller distances are neighbours."""

    def to(self, device: torch.device | str) -> Edges:
        """A copy on another device."""
        return Edges(self.i.to(device), self.j.to(device), self.shift.to(device), self.cutoff)


@dataclass(frozen=True)
class Graph:
    """What a potential sees of a batch."""

    numbers: Tensor
    """Atomic numbers, [N] int64."""
    system: Tensor
    """System of each atom, [N] int64."""
    n_systems: int
    """Number of systems S."""
    i: Tensor
    """Centre of each edge, [E] int64, non-decreasing."""
    j: Tensor
    """Neighbour of each edge, [E] int64."""
    vectors: Tensor
    """r_ij = R_j + shift @ cell - R_i (Angstrom), [E, 3]."""
    mode: Tensor
    """Which of the potential's calc modes each system is asked in, [S] int64."""
    positions: Tensor
    """Cartesian positions (Angstrom), [N, 3]: for energies beyond the neighbours, as those of charges."""
    cell: Tensor
    """Cell vectors as rows (Angstrom), [S, 3, 3]."""
    pbc: Tensor
    """Periodic directions, [S, 3] bool."""
    plan: Mapping[str, Tensor] = field(default_factory=dict)
    """Who goes where, counted before by the potential (`plan`), so that sizes are known; empty: it counts itself."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return self.numbers.shape[0]


def build_graph(structures: Structures, edges: Edges, mode: Tensor | None = None) -> Graph:
    """Vectors of the edges as a differentiable function of positions and cell.

    Args:
        structures: the batch.
        edges: its neighbours.
        mode: number of each system's calc mode among those of the potential, [S] int64 (default: the first).
    """
    cell = structures.cell[structures.system[edges.i]]
    offset = torch.einsum("ea,eab->eb", edges.shift.to(cell.dtype), cell)
    vectors = structures.positions[edges.j] + offset - structures.positions[edges.i]
    return graph_of(structures, edges.i, edges.j, vectors, mode)


def graph_of(structures: Structures, i: Tensor, j: Tensor, vectors: Tensor, mode: Tensor | None = None) -> Graph:
    """Edges whose vectors are known as a graph.

    Args:
        structures: the batch.
        i: centres, [E] int64.
        j: neighbours, [E] int64.
        vectors: r_ij (Angstrom), [E, 3].
        mode: as of `build_graph`.
    """
    if mode is None:
        mode = torch.zeros(structures.n_systems, dtype=torch.long, device=vectors.device)
    return Graph(
        numbers=structures.numbers,
        system=structures.system,
        n_systems=structures.n_systems,
        i=i,
        j=j,
        vectors=vectors,
        mode=mode,
        positions=structures.positions,
        cell=structures.cell,
        pbc=structures.pbc,
    )


def squared_lengths(vectors: Tensor) -> Tensor:
    """Of vectors [E, 3], [E]; as a product with ones, ten times faster than a sum over so short a dimension."""
    return vectors.square() @ vectors.new_ones(3)


def within(graph: Graph, cutoff: float) -> Graph:
    """The graph with only the edges shorter than a cutoff (Angstrom)."""
    near = (squared_lengths(graph.vectors.detach()) < cutoff**2).nonzero().squeeze(1)
    return dataclasses.replace(graph, i=graph.i[near], j=graph.j[near], vectors=graph.vectors[near], plan={})


def join_edges(parts: list[Edges], sizes: list[int]) -> Edges:
    """Edges of a batch from those of its structures; `sizes` are their atom counts.

    Raises:
        ValueError: the parts have different cutoffs.
    """
    if len({p.cutoff for p in parts}) > 1:
        raise ValueError(f"edges of different cutoffs: {sorted({p.cutoff for p in parts})}")
    if len(parts) == 1:
        return parts[0]
    counts = torch.tensor([len(part.i) for part in parts])
    starts = (torch.cumsum(torch.tensor(sizes), 0) - torch.tensor(sizes)).repeat_interleave(counts)
    starts = starts.to(parts[0].i.device)
    i, j, shift = (torch.cat([getattr(part, name) for part in parts]) for name in ("i", "j", "shift"))
    return Edges(i + starts, j + starts, shift, parts[0].cutoff)
