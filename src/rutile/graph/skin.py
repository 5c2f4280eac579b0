"""Verlet list: neighbours within cutoff + skin are found once and filtered until an atom may have crossed the skin.

Let the cell map as C = C0 F from the time of the search, and u_i = R_i - R0_i F - mean be what each atom moved besides.
Then r_ij = r0_ij F + u_j - u_i, hence |r0_ij| <= (|r_ij| + 2 max|u|) / s with s the smallest singular value of F, and
the list is complete while (cutoff + 2 max|u|) / s <= cutoff + skin. With a fixed cell this is the usual
max|u| <= skin/2 (L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from rutile.graph.graph import Edges, Graph, build_graph, join_edges, squared_lengths
from rutile.graph.neighbors import check_geometry, find_edges
from rutile.structures.structures import Structures, concatenate

ONE_BY_ONE = 200
"""Edges of a structure, on average, from which on the vectors of each are computed on their own."""


class SkinList:
    """Neighbours of a batch that moves a little at each call; the same edges in the same order as a fresh search.

    Each structure of the batch is searched again on its own when it needs to be. Structures may come behind those of
    the last batch, and leave it (`keep`); of a batch that differs from the last one otherwise, in atoms, elements or
    periodic directions, all are searched.

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
        self._sizes: list[int] = []
        self._shift = self._wide.shift.double()

    def keep(self, which: Tensor) -> None:
        """Forget structures that leave the batch, so that the others need not be searched again.

        Args:
            which: structures of the last batch that stay, [S] bool.
        """
        if self._at is None:
            return
        atoms = which[self._at.system]
        renumbered = (torch.cumsum(which, 0) - 1)[self._at.system[atoms]]
        at = self._at
        self._at = Structures(at.numbers[atoms], at.positions[atoms], at.cell[which], at.pbc[which], renumbered)
        self._parts = [self._parts[k] for k in torch.nonzero(which).flatten().tolist()]
        self._join()

    def edges(self, structures: Structures) -> Edges:
        """All directed edges shorter than the cutoff, as `find_edges`.

        Raises:
            GeometryError: as `find_edges`.
        """
        near, _ = self._near(structures)
        return Edges(self._wide.i[near], self._wide.j[near], self._wide.shift[near], self.cutoff)

    def graph(self, structures: Structures, mode: Tensor | None = None) -> Graph:
        """The same as a graph, without gradients, with vectors in float64.

        Args:
            structures: the batch.
            mode: as of `build_graph`.

        Raises:
            GeometryError: as `find_edges`.
        """
        near, vectors = self._near(structures)
        none = Edges(self._wide.i[:0], self._wide.j[:0], self._wide.shift[:0], self.cutoff)
        empty = build_graph(structures, none, mode)
        i, j = self._wide.i[near], self._wide.j[near]
        return dataclasses.replace(empty, i=i, j=j, vectors=vectors.index_select(0, near))

    def _near(self, structures: Structures) -> tuple[Tensor, Tensor]:
        """Which of the wide edges are within the cutoff, [E], and the vectors of all (Angstrom)."""
        now = structures.replace(positions=structures.positions.detach(), cell=structures.cell.detach())
        old = self._at
        if old is None or not _begins_with(now, old):
            self._search(now, list(range(now.n_systems)))
        else:
            front = now if old.n_systems == now.n_systems else _first(now, old.n_systems)
            far = ~(self._reach(old, front) <= self.cutoff + self.skin)
            stale = torch.nonzero(far).flatten().tolist() + list(range(old.n_systems, now.n_systems))
            if stale:
                self._search(now, stale)
        vectors = self._vectors(now)
        return torch.nonzero(squared_lengths(vectors) < self.cutoff**2).squeeze(1), vectors

    def _vectors(self, now: Structures) -> Tensor:
        """r_ij of the wide edges, in float64, as `build_graph`; large structures of one batch one by one."""
        wide, positions, cell = self._wide, now.positions.double(), now.cell.double()
        if now.n_systems == 0 or len(wide.i) < ONE_BY_ONE * now.n_systems:
            return build_graph(now.to(dtype=torch.float64), wide).vectors
        away = positions.index_select(0, wide.j) - positions.index_select(0, wide.i)
        for d, shift, c in zip(away.split(self._sizes), self._shift.split(self._sizes), cell, strict=True):
            d.addmm_(shift, c)
        return away

    def _search(self, now: Structures, which: list[int]) -> None:
        """Search some structures, and remember where they were."""
        check_geometry(now)
        self.searches += len(which)
        if len(which) == now.n_systems:
            self._parts = _by_structure(find_edges(now, self.cutoff + self.skin), now)
            self._at = now.replace(positions=now.positions.clone(), cell=now.cell.clone())
        else:
            assert self._at is not None, "nothing was searched before"
            some = concatenate(_some(now, which))
            known = self._at.n_systems
            self._parts += [self._wide] * (now.n_systems - known)
            for k, part in zip(which, _by_structure(find_edges(some, self.cutoff + self.skin), some), strict=True):
                self._parts[k] = part
            fresh = torch.zeros(now.n_systems, dtype=torch.bool, device=now.cell.device)
            fresh[which] = True
            atoms, old = fresh[now.system], self._at
            positions, cell = now.positions.clone(), now.cell.clone()
            positions[~atoms], cell[~fresh] = old.positions[~atoms[: old.n_atoms]], old.cell[~fresh[:known]]
            self._at = now.replace(positions=positions, cell=cell)
        self._join()

    def _join(self) -> None:
        """Edges of the batch from those of its structures."""
        assert self._at is not None, "nothing was searched"
        none = find_edges(concatenate([]), self.cutoff)
        self._wide = join_edges(self._parts, self._at.counts.tolist()) if self._parts else none
        self._sizes = [len(part.i) for part in self._parts]
        self._shift = self._wide.shift.double()

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


def _begins_with(a: Structures, b: Structures) -> bool:
    """Whether a batch begins with the structures of another, up to positions and cells."""
    n, s = b.n_atoms, b.n_systems
    if a.n_atoms < n or a.n_systems < s or (a.n_atoms > n and int(a.system[n]) < s):
        return False
    pairs = ((a.numbers[:n], b.numbers), (a.system[:n], b.system), (a.pbc[:s], b.pbc))
    return all(x.device == y.device and torch.equal(x, y) for x, y in pairs)


def _first(structures: Structures, n: int) -> Structures:
    """The first n structures of a batch."""
    last = int(torch.searchsorted(structures.system, n))
    numbers, positions, system = (x[:last] for x in (structures.numbers, structures.positions, structures.system))
    return Structures(numbers, positions, structures.cell[:n], structures.pbc[:n], system)


def _some(structures: Structures, which: list[int]) -> list[Structures]:
    """Some structures of a batch, one by one."""
    ends = torch.cumsum(structures.counts, 0).tolist()
    starts = [0, *ends[:-1]]
    return [
        Structures(
            structures.numbers[starts[k] : ends[k]],
            structures.positions[starts[k] : ends[k]],
            structures.cell[k : k + 1],
            structures.pbc[k : k + 1],
            torch.zeros(ends[k] - starts[k], dtype=torch.long, device=structures.system.device),
        )
        for k in which
    ]


def _by_structure(edges: Edges, structures: Structures) -> list[Edges]:
    """Edges of each structure, atoms counted from 0."""
    starts = [0, *torch.cumsum(structures.counts, 0).tolist()]
    cuts = torch.searchsorted(edges.i, torch.tensor(starts, device=edges.i.device)).tolist()
    return [
        Edges(edges.i[a:b] - first, edges.j[a:b] - first, edges.shift[a:b], edges.cutoff)
        for a, b, first in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)
    ]
