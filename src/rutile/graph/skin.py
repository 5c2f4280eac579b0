"""Verlet list: neighbours within cutoff + skin are found once and filtered until an atom may have crossed the skin.

Let the cell map as C = C0 F from the time of the search, and u_i = R_i - R0_i F - mean be what each atom moved besides.
Then r_ij = r0_ij F + u_j - u_i, hence |r0_ij| <= (|r_ij| + 2 max|u|) / s with s the smallest singular value of F, and
the list is complete while (cutoff + 2 max|u|) / s <= cutoff + skin. With a fixed cell this is the usual
max|u| <= skin/2 (L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.graph.graph import Edges, build_graph, join_edges
from rutile.graph.neighbors import check_geometry, find_edges
from rutile.structures.structures import Structures, concatenate


class SkinList:
    """Neighbours of a batch that moves a little at each call; the same edges in the same order as a fresh search.

    Each structure of the batch is searched again on its own when it needs to be, all of them when the batch holds other
    atoms, elements or periodic directions than before.

    Args:
        cutoff: radius of the edges that come out (Angstrom).
        skin: extra radius of the search (Angstrom); larger: rarer searches, more to filter.

    Raises:
        ValueError: the skin is negative.
    """

    cutoff: float
    """Radius of the edges (Angstrom)."""
    skin: float
    """Extra radius of the search (Angstrom)."""
    searches: int
    """Structures searched so far."""

    def __init__(self, cutoff: float, skin: float) -> None:
        if skin < 0:
            raise ValueError(f"skin {skin} Å is negative")
        self.cutoff, self.skin, self.searches = cutoff, skin, 0
        self._at: Structures | None = None
        self._parts: list[Edges] = []
        self._wide = find_edges(concatenate([]), cutoff)

    def edges(self, structures: Structures) -> Edges:
        """All directed edges shorter than the cutoff, as `find_edges`.

        Raises:
            GeometryError: as `find_edges`.
        """
        return self.near(structures)[0]

    def near(self, structures: Structures) -> tuple[Edges, Tensor]:
        """The same with the squared length of each edge (Angstrom^2), [E] float64 without gradient.

        Raises:
            GeometryError: as `find_edges`.
        """
        now = structures.replace(positions=structures.positions.detach(), cell=structures.cell.detach())
        if self._at is None or not _same_atoms(self._at, now):
            self._parts = _by_structure(find_edges(now, self.cutoff + self.skin), now)
            self._keep(now, list(range(now.n_systems)))
        else:
            enough = self._reach(self._at, now) <= self.cutoff + self.skin
            if not enough.all():
                check_geometry(now)
                stale, parts = torch.nonzero(~enough).flatten().tolist(), now.split()
                for k in stale:
                    self._parts[k] = find_edges(parts[k], self.cutoff + self.skin)
                self._keep(now, stale)
        squared = build_graph(now.to(dtype=torch.float64), self._wide).vectors.square().sum(1)
        near = (squared < self.cutoff**2).nonzero().squeeze(1)
        return Edges(self._wide.i[near], self._wide.j[near], self._wide.shift[near], self.cutoff), squared[near]

    def _keep(self, now: Structures, searched: list[int]) -> None:
        """Remember where the searched structures were, and join the edges of all."""
        self.searches += len(searched)
        if self._parts:
            self._wide = join_edges(self._parts, now.counts.tolist())
        if self._at is None or len(searched) == now.n_systems:
            self._at = now.replace(positions=now.positions.clone(), cell=now.cell.clone())
            return
        fresh = torch.zeros(now.n_systems, dtype=torch.bool, device=now.cell.device)
        fresh[searched] = True
        self._at = now.replace(
            positions=torch.where(fresh[now.system][:, None], now.positions, self._at.positions),
            cell=torch.where(fresh[:, None, None], now.cell, self._at.cell),
        )

    def _reach(self, then: Structures, now: Structures) -> Tensor:
        """(cutoff + 2 max|u|) / s of each structure (Angstrom), [S]; NaN where coordinates are not finite."""
        pbc = now.pbc[:, :, None]
        cell0, cell = (torch.where(pbc, x.cell.double(), 0.0) for x in (then, now))
        back = torch.linalg.pinv(cell0)  # [S, 3, 3]
        identity = torch.eye(3, dtype=torch.float64, device=cell.device)
        deform = back @ cell + identity - back @ cell0
        moved = now.positions.double() - torch.einsum("na,nab->nb", then.positions.double(), deform[now.system])
        counts = now.counts.clamp(min=1)[:, None]
        mean = torch.zeros_like(cell[:, 0]).index_add(0, now.system, moved) / counts
        length = (moved - mean[now.system]).norm(dim=1)
        largest = torch.zeros_like(cell[:, 0, 0]).scatter_reduce(0, now.system, length, "amax")
        smallest: Tensor = torch.linalg.svdvals(deform.nan_to_num())[:, -1]
        return (self.cutoff + 2 * largest) / smallest


def _same_atoms(a: Structures, b: Structures) -> bool:
    """Whether two batches differ in positions and cells only."""
    return all(
        x.device == y.device and torch.equal(x, y)
        for x, y in ((a.numbers, b.numbers), (a.system, b.system), (a.pbc, b.pbc))
    )


def _by_structure(edges: Edges, structures: Structures) -> list[Edges]:
    """Edges of each structure, atoms counted from 0."""
    starts = [0, *torch.cumsum(structures.counts, 0).tolist()]
    cuts = torch.searchsorted(edges.i, torch.tensor(starts, device=edges.i.device)).tolist()
    return [
        Edges(edges.i[a:b] - first, edges.j[a:b] - first, edges.shift[a:b], edges.cutoff)
        for a, b, first in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)
    ]
