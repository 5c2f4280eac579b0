"""Neighbours of every atom of a batch: our kernel, vesin's cell list where there is none, and an oracle for tests.

Edges come in one canonical order (centre, neighbour, shift), whatever found them: a list from a Verlet skin, a cache or
a fresh search sums in the same order and gives bit-identical energies.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
import vesin

from rutile.core.errors import GeometryError
from rutile.graph.graph import Edges
from rutile.graph.near import searched
from rutile.structures.structures import Structures

FARTHEST = 1e9
"""Coordinates (Angstrom) from which on shifts could overflow and digits are lost."""
THREADS_FROM = 2000
"""Atoms of one structure from which on the search uses torch's number of threads."""


def find_edges(structures: Structures, cutoff: float) -> Edges:
    """All directed edges shorter than `cutoff` (Angstrom), sorted by centre, neighbour and shift; O(N).

    The kernel takes the whole batch, vesin one structure after another. Atoms may lie outside the cell; vectors
    of directions that are not periodic are ignored.

    Raises:
        GeometryError: a coordinate or cell vector is not finite, or the cell vectors of the periodic directions are
            not independent; names the structure.
    """
    check_geometry(structures)
    device = structures.positions.device
    found = searched(structures, cutoff)
    if found is not None:
        return found.to(device)
    points, cells, pbc, sizes = _arrays(structures)
    pairs, shifts = [np.zeros((0, 2), np.int64)], [np.zeros((0, 3), np.int32)]
    first = 0
    for size, cell, periodic in zip(sizes.tolist(), cells, pbc, strict=True):
        if size:
            pair, shift_of_pair = _in_one(points[first : first + size], cell, periodic, cutoff)
            pairs.append(pair + first)
            shifts.append(shift_of_pair)
        first += size
    return _sorted_edges(np.concatenate(pairs), np.concatenate(shifts), first, cutoff, device)


def _in_one(points: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs [E, 2] int64 and shifts [E, 3] int32 of one structure, in any order."""
    threads = torch.get_num_threads() if len(points) >= THREADS_FROM else 1
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=threads)
    box = np.where(pbc[:, None], cell, 0.0)
    pairs, shifts = finder.compute(points=points, box=box, periodic=pbc, quantities="PS")
    return pairs.view(np.int64), shifts


def _sorted_edges(pairs: np.ndarray, shifts: np.ndarray, n_atoms: int, cutoff: float, device: torch.device) -> Edges:
    """Edges in the order (i, j, shift), compared as one integer each where that fits 63 bits."""
    if len(pairs):
        lowest = shifts.min(0).astype(np.int64)
        counts = (shifts.max(0) - lowest + 1).tolist()
        if n_atoms**2 * counts[0] * counts[1] * counts[2] < 2**63:
            key = pairs[:, 0] * n_atoms
            key += pairs[:, 1]
            for axis, count in enumerate(counts):
                key *= count
                key += shifts[:, axis] - lowest[axis]
            order = np.argsort(key)
        else:
            order = np.lexsort((*shifts.T[::-1], pairs[:, 1], pairs[:, 0]))
        pairs, shifts = pairs[order], shifts[order]
    i, j = (torch.from_numpy(np.ascontiguousarray(column)) for column in pairs.T)
    return Edges(i, j, torch.from_numpy(shifts.astype(np.int64)), cutoff).to(device)


def _arrays(structures: Structures) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positions [N, 3], cells [S, 3, 3], periodic directions [S, 3] and sizes [S] in NumPy, float64."""
    points, cells = (x.detach().cpu().double().numpy() for x in (structures.positions, structures.cell))
    return points, cells, structures.pbc.cpu().numpy(), structures.counts.cpu().numpy()


def check_geometry(structures: Structures) -> None:
    """Refuse geometries that have no neighbours in any meaning.

    Raises:
        GeometryError: a coordinate or cell vector is not finite (or beyond 1e9 Angstrom), or the cell vectors of the
            periodic directions are not independent; names the structure.
    """
    points, cells, pbc, sizes = _arrays(structures)
    wrong = ~(np.abs(points) < FARTHEST).all(1)
    if wrong.any():
        atom = int(np.flatnonzero(wrong)[0])
        system = int(np.searchsorted(np.cumsum(sizes), atom, side="right"))
        inside = atom - int(sizes[:system].sum())
        raise GeometryError(f"structure {system}, atom {inside}: position {points[atom].tolist()} is not usable")
    sound = (np.abs(cells) < FARTHEST).all((1, 2))
    used = np.where((pbc & sound[:, None])[:, :, None], cells, 0.0)
    gram = used @ np.swapaxes(used, 1, 2) + np.eye(3) * ~pbc[:, :, None]  # others: unit vectors of their own
    bad = ~(sound & (np.linalg.det(gram) > 1e-14 * np.diagonal(gram, axis1=1, axis2=2).prod(1)))
    if bad.any():
        system = int(np.flatnonzero(bad)[0])
        raise GeometryError(
            f"structure {system}: the cell vectors {cells[system].tolist()} are not finite, or zero or dependent in "
            f"the periodic directions {pbc[system].tolist()}"
        )


def find_edges_brute_force(structures: Structures, cutoff: float) -> Edges:
    """The same edges by trying every image of every pair, O(N^2): the oracle."""
    found: list[tuple[int, ...]] = []
    first = 0
    for one in structures.split():
        points, pbc = one.positions.detach().double().numpy(), one.pbc[0].numpy()
        cell = one.cell[0].double().numpy() * pbc[:, None]
        for shift in product(*_reach(points, cell, pbc, cutoff)):
            d = points[None] + np.array(shift) @ cell - points[:, None]
            for a, b in zip(*np.nonzero(np.linalg.norm(d, axis=-1) < cutoff), strict=True):
                if a != b or any(shift):
                    found.append((int(a) + first, int(b) + first, *shift))
        first += one.n_atoms
    table = torch.tensor(sorted(found), dtype=torch.long).reshape(-1, 5)
    return Edges(table[:, 0], table[:, 1], table[:, 2:], cutoff).to(structures.positions.device)


def _reach(points: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> list[range]:
    """Shifts along each direction that could bring any two atoms within the cutoff."""
    reach = [range(1)] * 3
    normals = np.linalg.pinv(cell)  # column k: along the normal of direction k, 1 / height long
    for axis in np.flatnonzero(pbc):
        across = points @ normals[:, axis]
        n = int(np.ceil(cutoff * np.linalg.norm(normals[:, axis]) + np.ptp(across))) + 1 if len(points) else 0
        reach[axis] = range(-n, n + 1)
    return reach
