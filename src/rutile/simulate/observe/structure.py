"""Where atoms are: radial distribution, coordination, structure factor. Letters of shapes: N atoms, M bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from rutile.core.errors import GeometryError
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.simulate.observe.trajectory import Trajectory
from rutile.structures.structures import Structures


@dataclass(frozen=True)
class Radial:
    """Radial distribution of one pair of elements."""

    pair: tuple[int, int]
    """Atomic numbers: of the centre and of its neighbours."""
    r: np.ndarray
    """Middles of the bins (Angstrom), [M]."""
    g: np.ndarray
    """g(r): 1 where neighbours are spread evenly, [M]."""
    neighbours: np.ndarray
    """Mean number of neighbours up to the end of each bin, [M]."""

    @property
    def first_shell(self) -> tuple[float, float] | None:
        """Where g first falls to a minimum after its first peak (Angstrom), and the coordination number up to there."""
        smooth = np.convolve(self.g, np.ones(5) / 5, mode="same")
        if smooth.max() < 1.0:
            return None
        above = int(np.argmax(smooth > 1.0))
        below = np.flatnonzero(smooth[above:] < 1.0)
        if not len(below):
            return None
        start = above + int(below[0])
        again = np.flatnonzero(smooth[start:] > 1.0)
        stop = start + int(again[0]) if len(again) else len(smooth)
        at = start + int(smooth[start:stop].argmin())
        empty = np.flatnonzero(smooth[start:stop] == smooth[at])
        at = start + int(empty[len(empty) // 2])
        return float(self.r[at]), float(self.neighbours[at])


def radial_distributions(
    trajectory: Trajectory, furthest: float = 8.0, bins: int = 200, most: int = 200
) -> list[Radial]:
    """g(r) and running coordination of every pair of elements; both orders, as coordination differs.

    Args:
        trajectory: periodic in three directions.
        furthest: largest distance (Angstrom); may exceed half the cell: all images count.
        bins: number of them.
        most: look at so many frames, evenly spaced.

    Raises:
        GeometryError: not periodic in three directions: there is no density to compare with.
    """
    if not trajectory.pbc.all():
        raise GeometryError("a radial distribution needs a structure that is periodic in three directions")
    elements = sorted(set(trajectory.numbers.tolist()))
    index = np.zeros(119, dtype=np.int64)
    index[elements] = np.arange(len(elements))
    kind, kinds = index[trajectory.numbers], len(elements)
    counts, density = np.zeros((kinds, kinds, bins)), 0.0
    edges_of_bins = np.linspace(0.0, furthest, bins + 1)
    frames = _spread(len(trajectory), most)
    for f in frames:
        for (a, b), distances in _distances(trajectory, f, furthest, kind, kinds):
            counts[a, b] += np.histogram(distances, edges_of_bins)[0]
        density += 1.0 / abs(float(np.linalg.det(trajectory.cell[f])))
    shell = 4.0 / 3.0 * np.pi * np.diff(edges_of_bins**3)
    number = np.bincount(kind, minlength=kinds)
    middle = 0.5 * (edges_of_bins[1:] + edges_of_bins[:-1])
    out = []
    for a in range(kinds):
        for b in range(kinds):
            expected = number[a] * number[b] * density * shell
            around = counts[a, b].cumsum() / (number[a] * len(frames))
            out.append(Radial((elements[a], elements[b]), middle, counts[a, b] / expected, around))
    return out


def _distances(
    trajectory: Trajectory, f: int, furthest: float, kind: np.ndarray, kinds: int
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Distances of all pairs in a frame, by kinds of both atoms."""
    structures = Structures.from_arrays(trajectory.numbers, _wrapped(trajectory, f), trajectory.cell[f], trajectory.pbc)
    edges = find_edges(structures, furthest)
    length = build_graph(structures, edges).vectors.norm(dim=1).numpy()
    code = kind[edges.i.numpy()] * kinds + kind[edges.j.numpy()]
    order = np.argsort(code, kind="stable")
    cuts = np.searchsorted(code[order], np.arange(kinds * kinds + 1))
    return [((c // kinds, c % kinds), length[order[cuts[c] : cuts[c + 1]]]) for c in range(kinds * kinds)]


def _wrapped(trajectory: Trajectory, f: int) -> np.ndarray:
    """Positions in the cell of a frame (those of the trajectory are in the mean cell where cells change), [N, 3]."""
    cells = trajectory.cell
    if np.allclose(cells, cells[:1], rtol=0, atol=1e-9):
        return np.asarray(trajectory.positions[f])
    return np.asarray(trajectory.positions[f] @ np.linalg.inv(cells.mean(axis=0)) @ cells[f])


def structure_factor(
    trajectory: Trajectory, largest: float = 8.0, bins: int = 160, most: int = 50, waves: int = 4000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """S(q) = |sum_i exp(i q R_i)|^2 / N, mean over frames and directions of the wave vectors that fit the cell.

    Args:
        trajectory: periodic in three directions.
        largest: q (1/Angstrom).
        bins: of q.
        most: look at so many frames, evenly spaced.
        waves: take at most so many wave vectors, drawn evenly over the bins.
        seed: of that.

    Returns:
        q (1/Angstrom) and S(q) of the bins that hold wave vectors.

    Raises:
        GeometryError: not periodic in three directions.
    """
    if not trajectory.pbc.all():
        raise GeometryError("a structure factor needs a structure that is periodic in three directions")
    reciprocal = 2 * np.pi * np.linalg.inv(trajectory.cell.mean(axis=0)).T
    steps = np.ceil(largest * np.linalg.norm(trajectory.cell.mean(axis=0), axis=1) / (2 * np.pi)).astype(int)
    h = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in steps], indexing="ij"), -1).reshape(-1, 3)
    h = h[(h[:, 0] > 0) | ((h[:, 0] == 0) & ((h[:, 1] > 0) | ((h[:, 1] == 0) & (h[:, 2] > 0))))]
    q = np.linalg.norm(h @ reciprocal, axis=1)
    h, q = h[q < largest], q[q < largest]
    bin_of = (q / largest * bins).astype(int)
    order = np.random.default_rng(seed).permutation(len(h))
    rank = np.zeros(len(h), dtype=int)
    rank[order[np.argsort(bin_of[order], kind="stable")]] = _places(np.sort(bin_of))
    chosen = rank < max(1, waves // bins)
    h, bin_of = h[chosen], bin_of[chosen]
    total = np.zeros(len(h))
    frames = _spread(len(trajectory), most)
    vectors = torch.as_tensor(h, dtype=torch.float64)
    for f in frames:
        scaled = torch.as_tensor(trajectory.positions[f] @ np.linalg.inv(_cell_of_positions(trajectory)))
        for part in range(0, len(h), 512):
            phase = 2 * torch.pi * vectors[part : part + 512] @ scaled.T
            total[part : part + 512] += (torch.cos(phase).sum(1) ** 2 + torch.sin(phase).sum(1) ** 2).numpy()
    total /= len(frames) * len(trajectory.numbers)
    held = np.bincount(bin_of, minlength=bins)
    mean = np.bincount(bin_of, weights=total, minlength=bins) / np.maximum(held, 1)
    middle = (np.arange(bins) + 0.5) * largest / bins
    return middle[held > 0], mean[held > 0]


def _cell_of_positions(trajectory: Trajectory) -> np.ndarray:
    """The cell in which the positions are given, [3, 3]."""
    return np.asarray(trajectory.cell.mean(axis=0))


def _places(sorted_bins: np.ndarray) -> np.ndarray:
    """Place of each among the equal ones, for a sorted array."""
    first = np.searchsorted(sorted_bins, sorted_bins)
    return np.asarray(np.arange(len(sorted_bins)) - first)


def _spread(frames: int, most: int) -> np.ndarray:
    """Numbers of evenly spaced frames, at most so many."""
    return np.unique(np.linspace(0, frames - 1, min(frames, most)).round().astype(int))
