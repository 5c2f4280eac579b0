"""Verlet list: neighbours within cutoff + skin are found once and filtered until an atom may have crossed the skin.

Let the cell map as C = C0 F from the time of the search, and u_i = R_i - R0_i F - mean be what each atom moved besides.
Then r_ij = r0_ij F + u_j - u_i, hence |r0_ij| <= (|r_ij| + 2 max|u|) / s with s the smallest singular value of F, and
the list is complete while (cutoff + 2 max|u|) / s <= cutoff + skin. With a fixed cell this is the usual
max|u| <= skin/2 (L. Verlet, Phys. Rev. 159, 98 (1967), doi:10.1103/PhysRev.159.98).
"""

from __future__ import annotations

import torch
from torch import Tensor

from rutile.graph.graph import Edges, Graph, build_graph, graph_of, join_edges, squared_lengths
from rutile.graph.near import Near, Scratch, Wide, farthest, join_wide, near_edges, searched_wide
from rutile.graph.neighbors import check_geometry, find_edges
from rutile.structures.structures import Structures, concatenate


class SkinList:
    """Neighbours of a batch that moves a little at each call; the same edges in the same order as a fresh search.

    Each structure of the batch is searched again on its own when it needs to be. Structures may come behind those of
    the last batch, and leave it (`keep`); of a batch that differs from the last one otherwise, in atoms, elements or
    periodic directions, all are searched.

    Args:
        cutoff: radius of the edges that come out (Angstrom).
        skin: extra radius of the search (Angstrom); larger: rarer searches, more to filter.
        reuse: a graph is lost when the next one is asked for, whose edges lie in the same memory.

    Raises:
        ValueError: the skin is negative.
    """

    cutoff: float
    """Radius of the edges (Angstrom)."""
    skin: float
    """Extra radius of the search (Angstrom)."""
    searches: int
    """Structures searched so far."""

    def __init__(self, cutoff: float, skin: float, *, reuse: bool = False) -> None:
        if skin < 0:
            raise ValueError(f"skin {skin} Å is negative")
        self.cutoff, self.skin, self.searches = cutoff, skin, 0
        self._at: Structures | None = None
        self._parts: list[Wide | Edges] = []
        self._wide: Wide | Edges = find_edges(concatenate([]), cutoff)
        self._scratch = Scratch() if reuse else None

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
        near, wide = self._near(self._current(structures), torch.float64, which=True), self._wide
        shift = wide.shifts(wide.image[near.which]) if isinstance(wide, Wide) else wide.shift[near.which]
        return Edges(near.i, near.j, shift, self.cutoff)

    def graph(
        self, structures: Structures, mode: Tensor | None = None, dtype: torch.dtype = torch.float64
    ) -> tuple[Graph, Tensor]:
        """The same as a graph without gradients, and of each structure the shortest distance.

        Args:
            structures: the batch.
            mode: as of `build_graph`.
            dtype: of the vectors, which are computed in float64.

        Returns:
            The graph, and distances (Angstrom), [S] float64; infinite where no two atoms are within the cutoff.

        Raises:
            GeometryError: as `find_edges`.
        """
        now = self._current(structures)
        near = self._near(now, dtype)
        return graph_of(structures, near.i, near.j, near.vectors, mode), near.closest

    def _near(self, now: Structures, dtype: torch.dtype, *, which: bool = False) -> Near:
        """The wide edges that are within the cutoff, by the kernel where there is one."""
        if isinstance(self._wide, Wide):
            return near_edges(self._wide, now, self.cutoff, dtype, which=which, scratch=self._scratch)
        vectors = build_graph(now.to(dtype=torch.float64), self._wide).vectors
        squared = squared_lengths(vectors)
        near = torch.nonzero(squared < self.cutoff**2).squeeze(1)
        i, j = self._wide.i[near], self._wide.j[near]
        closest = squared.new_full((now.n_systems,), torch.inf)
        closest = closest.scatter_reduce(0, now.system[i], squared[near], "amin").sqrt()
        return Near(i, j, vectors.index_select(0, near).to(dtype), near, closest)

    def _current(self, structures: Structures) -> Structures:
        """The structures without gradients, when the wide list holds for them."""
        now = structures.replace(positions=structures.positions.detach(), cell=structures.cell.detach())
        old = self._at
        if old is None or not _begins_with(now, old):
            self._search(now, list(range(now.n_systems)))
        else:
            front = now if old.n_systems == now.n_systems else _first(now, old.n_systems)
            holds = self._reach(old, front) <= self.cutoff + self.skin
            if front is not now or not bool(holds.all()):
                stale = torch.nonzero(~holds).flatten().tolist() + list(range(old.n_systems, now.n_systems))
                if stale:
                    self._search(now, stale)
        return now

    def _search(self, now: Structures, which: list[int]) -> None:
        """Search some structures, and remember where they were."""
        check_geometry(now)
        self.searches += len(which)
        if len(which) == now.n_systems:
            self._parts = self._found(now)
            self._at = now.replace(positions=now.positions.clone(), cell=now.cell.clone())
        else:
            assert self._at is not None, "nothing was searched before"
            some = concatenate(_some(now, which))
            known = self._at.n_systems
            self._parts += [self._wide] * (now.n_systems - known)
            for k, part in zip(which, self._found(some), strict=True):
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
        packed = [part for part in self._parts if isinstance(part, Wide)]
        if len(packed) == len(self._parts):
            self._wide = join_wide(packed)
        else:
            wide = self.cutoff + self.skin
            parts = [part.edges(wide) if isinstance(part, Wide) else part for part in self._parts]
            self._wide = join_edges(parts, self._at.counts.tolist())

    def _found(self, structures: Structures) -> list[Wide | Edges]:
        """What a search finds, structure by structure."""
        wide = searched_wide(structures, self.cutoff + self.skin)
        if wide is None:
            return [*_by_structure(find_edges(structures, self.cutoff + self.skin), structures)]
        return [*wide.split(structures.counts.tolist())] if structures.n_systems != 1 else [wide]

    def _reach(self, then: Structures, now: Structures) -> Tensor:
        """(cutoff + 2 max|u|) / s of each structure (Angstrom), [S]; NaN where coordinates are not finite."""
        if torch.equal(then.cell, now.cell):
            longest = farthest(now, then.positions)
            if longest is None:
                longest = _largest(now, now.positions.double() - then.positions.double())
            return self.cutoff + 2 * longest
        pbc = now.pbc[:, :, None]
        cell0, cell = (torch.where(pbc, x.cell.double(), 0.0) for x in (then, now))
        back = torch.linalg.pinv(cell0)  # [S, 3, 3]
        identity = torch.eye(3, dtype=torch.float64, device=cell.device)
        deform = back @ cell + identity - back @ cell0
        moved = now.positions.double() - torch.einsum("na,nab->nb", then.positions.double(), deform[now.system])
        smallest: Tensor = torch.linalg.svdvals(deform.nan_to_num())[:, -1]
        return (self.cutoff + 2 * _largest(now, moved)) / smallest


def _largest(structures: Structures, moved: Tensor) -> Tensor:
    """Of displacements [N, 3], the longest of each structure after its mean is taken off (Angstrom), [S]."""
    sums = moved.new_zeros(structures.n_systems, 3).index_add(0, structures.system, moved)
    mean = sums / structures.counts.clamp(min=1)[:, None]
    length = (moved - mean[structures.system]).norm(dim=1)
    return torch.zeros_like(mean[:, 0]).scatter_reduce(0, structures.system, length, "amax")


def _begins_with(a: Structures, b: Structures) -> bool:
    """Whether a batch begins with the structures of another, up to positions and cells."""
    n, s = b.n_atoms, b.n_systems
    if a.n_atoms < n or a.n_systems < s or (a.n_atoms > n and int(a.system[n]) < s):
        return False
    pairs = [(a.numbers, b.numbers), (a.system, b.system), (a.pbc, b.pbc)]
    if a.n_atoms > n or a.n_systems > s:
        pairs = [(x[: len(y)], y) for x, y in pairs]
    return all(x is y or (x.device == y.device and torch.equal(x, y)) for x, y in pairs)


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
    if structures.n_systems == 1:
        return [edges]
    starts = [0, *torch.cumsum(structures.counts, 0).tolist()]
    cuts = torch.searchsorted(edges.i, torch.tensor(starts, device=edges.i.device)).tolist()
    return [
        Edges(edges.i[a:b] - first, edges.j[a:b] - first, edges.shift[a:b], edges.cutoff)
        for a, b, first in zip(cuts[:-1], cuts[1:], starts[:-1], strict=True)
    ]
