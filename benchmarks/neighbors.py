"""Neighbour search: rutile (edges in canonical order) beside vesin, ASE and matscipy, and how it grows with size.

    python benchmarks/neighbors.py

Rutile TiO2 rattled by 0.05 Å, cutoff 6.5 Å (the published symmetry functions), one thread, processor time. The best of
several runs is kept. The edges of every program are compared before they are timed. A second table: many small
structures in one batch, fresh and through a Verlet list of skin 1 Å whose atoms move by less than half of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import vesin
from accuracy import write
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list
from ase.spacegroup import crystal

from rutile.graph.graph import Edges
from rutile.graph.neighbors import find_edges
from rutile.graph.skin import SkinList
from rutile.structures.structures import Structures

CUTOFF = 6.5
COPIES = ((6, 6, 7), (8, 8, 12), (10, 10, 15), (13, 13, 18), (16, 16, 16))
RUNS = 5
SLOWEST = 10_000
"""Atoms up to which ASE is asked."""


def rutile_tio2(copies: tuple[int, int, int]) -> Atoms:
    """A rattled supercell of rutile."""
    sites, lattice = [(0, 0, 0), (0.3053, 0.3053, 0)], [4.65, 4.65, 2.97, 90, 90, 90]
    cell = crystal(("Ti", "O"), sites, spacegroup=136, cellpar=lattice)
    atoms = cell.repeat(copies)
    atoms.rattle(0.05, seed=1)
    return atoms


def best(work: Callable[[], Any], runs: int = RUNS) -> float:
    """Processor time of the fastest of several runs (s)."""
    times = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def others() -> dict[str, Callable[[Atoms], tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Other programs that are installed: atoms -> (i, j, shift)."""

    def by_vesin(a: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        finder = vesin.NeighborList(cutoff=CUTOFF, full_list=True, n_threads=1)
        i, j, shift = finder.compute(points=a.positions, box=a.cell.array, periodic=a.pbc, quantities="ijS")
        return i, j, shift

    found = {
        "vesin": by_vesin,
        "ase": lambda a: primitive_neighbor_list("ijS", a.pbc, a.cell.array, a.positions, CUTOFF),
    }
    try:
        from matscipy.neighbours import neighbour_list
    except ImportError:
        return found
    return found | {"matscipy": lambda a: neighbour_list("ijS", a, CUTOFF)}


def check(edges: Edges, i: np.ndarray, j: np.ndarray, shift: np.ndarray) -> None:
    """Stop if two programs do not agree on the edges."""
    rows = np.column_stack([i, j, shift])
    rows = rows[np.lexsort(rows.T[::-1])]
    ours = np.column_stack([edges.i, edges.j, edges.shift])
    if not np.array_equal(rows, ours):
        raise SystemExit("edges differ")


def by_size() -> list[dict[str, Any]]:
    """Seconds for one structure of growing size."""
    rows = []
    for copies in COPIES:
        atoms = rutile_tio2(copies)
        one = Structures.from_ase(atoms)
        edges = find_edges(one, CUTOFF)
        row: dict[str, Any] = {"atoms": len(atoms), "edges": len(edges.i)}
        row["rutile"] = best(partial(find_edges, one, CUTOFF))
        for name, find in others().items():
            if name != "ase" or len(atoms) <= SLOWEST:
                check(edges, *find(atoms))
                row[name] = best(partial(find, atoms), runs=2)
        rows.append(row)
    return rows


def small_ones(n: int = 200, steps: int = 20) -> dict[str, float]:
    """Microseconds for one structure of 12 atoms in a batch of n that moves a little at each step."""
    batch = Structures.from_ase([rutile_tio2((1, 1, 2)) for _ in range(n)])
    rng = np.random.default_rng(0)
    walk = [
        batch.replace(positions=batch.positions + torch.from_numpy(rng.uniform(-0.2, 0.2, (batch.n_atoms, 3))))
        for _ in range(steps)
    ]
    skinned = SkinList(CUTOFF, 1.0)
    skinned.edges(batch)
    fresh = best(lambda: [find_edges(s, CUTOFF) for s in walk], runs=2)
    kept = best(lambda: [skinned.edges(s) for s in walk], runs=2)
    return {"fresh": fresh / n / steps * 1e6, "skin": kept / n / steps * 1e6, "searches": float(skinned.searches)}


def main() -> None:
    """Write results/neighbors.json and .md."""
    torch.set_num_threads(1)
    rows, small = by_size(), small_ones()
    size, seconds = (np.log([row[key] for row in rows]) for key in ("atoms", "rutile"))
    exponent = float(np.polyfit(size, seconds, 1)[0])
    names = [n for n in ("rutile", "vesin", "matscipy", "ase") if n in rows[0]]
    lines = [f"| atoms | edges | {' (s) | '.join(names)} (s) |", "|---" * (2 + len(names)) + "|"]
    for row in rows:
        times = (f"{row[n]:.3f}" if n in row else "" for n in names)
        lines.append(f"| {row['atoms']} | {row['edges']} | {' | '.join(times)} |")
    text = [
        f"# Neighbour search, TiO2, cutoff {CUTOFF} Å, one thread",
        "",
        *lines,
        "",
        f"Time grows as atoms^{exponent:.2f}.",
        "",
        f"Batch of structures of 12 atoms: {small['fresh']:.0f} µs each when searched afresh, {small['skin']:.0f} µs "
        "through a Verlet list of skin 1 Å.",
    ]
    results = {"cutoff": CUTOFF, "exponent": exponent, "by_size": rows, "microseconds_per_small_structure": small}
    write("neighbors", results, "\n".join(text) + "\n")


if __name__ == "__main__":
    main()
