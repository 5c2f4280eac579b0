"""Neighbours of every atom of a batch: vesin's cell list, and a brute-force oracle for tests."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
import vesin

from rutile.graph.graph import Edges, join_edges
from rutile.structures.structures import Structures


def find_edges(structures: Structures, cutoff: float) -> Edges:
    """All directed edges shorter than `cutoff` (Angstrom), sorted by centre; O(N)."""
    parts = structures.split()
    device = structures.positions.device
    edges = [_find_in_one(part, cutoff) for part in parts]
    if not edges:
        empty = torch.zeros(0, dtype=torch.long, device=device)
        return Edges(empty, empty, torch.zeros(0, 3, dtype=torch.long, device=device), cutoff)
    return join_edges(edges, [p.n_atoms for p in parts]).to(device)


def _find_in_one(one: Structures, cutoff: float) -> Edges:
    points = one.positions.detach().cpu().double().numpy()
    cell = one.cell[0].detach().cpu().double().numpy()
    pbc = one.pbc[0].cpu().numpy()
    i, j, shift = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1).compute(
        points=points, box=cell, periodic=pbc, quantities="ijS"
    )
    order = np.argsort(i, kind="stable")
    return Edges(
        torch.from_numpy(i.astype(np.int64)[order]),
        torch.from_numpy(j.astype(np.int64)[order]),
        torch.from_numpy(shift.astype(np.int64)[order].reshape(-1, 3)),
        cutoff,
    )


def find_edges_brute_force(structures: Structures, cutoff: float) -> Edges:
    """The same edges by trying every image of every pair, O(N^2): the oracle."""
    edges = []
    parts = structures.split()
    for one in parts:
        cell, points = one.cell[0].double().numpy(), one.positions.detach().double().numpy()
        reach = []
        for axis in range(3):
            if not one.pbc[0, axis]:
                reach.append(range(1))
                continue
            normal = np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
            spread = np.ptp(points @ normal / np.linalg.norm(normal)) if len(points) else 0.0
            height = abs(np.linalg.det(cell)) / np.linalg.norm(normal)
            n = int(np.ceil((cutoff + spread) / height)) + 1
            reach.append(range(-n, n + 1))
        found: list[tuple[int, int, tuple[int, ...]]] = []
        for shift in product(*reach):
            d = points[None] + np.array(shift) @ cell - points[:, None]
            for a, b in zip(*np.nonzero(np.linalg.norm(d, axis=-1) < cutoff), strict=True):
                if a != b or any(shift):
                    found.append((int(a), int(b), shift))
        found.sort()
        table = torch.tensor([(a, b, *s) for a, b, s in found], dtype=torch.long).reshape(-1, 5)
        edges.append(Edges(table[:, 0].clone(), table[:, 1].clone(), table[:, 2:].clone(), cutoff))
    return join_edges(edges, [p.n_atoms for p in parts])
