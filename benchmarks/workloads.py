"""Structures and timing that the speed benchmarks share; does nothing when run itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
from ase import Atoms

RATTLE = 0.05  # Angstrom


def rutile_tio2(repeats: tuple[int, int, int], seed: int = 0) -> Atoms:
    """Rutile with 6 atoms in each repeated cell, rattled."""
    a, c, u = 4.594, 2.959, 0.305
    places = [(0, 0, 0), (0.5, 0.5, 0.5), (u, u, 0), (-u, -u, 0), (0.5 + u, 0.5 - u, 0.5), (0.5 - u, 0.5 + u, 0.5)]
    atoms = Atoms("Ti2O4", scaled_positions=np.mod(places, 1), cell=[a, a, c], pbc=True) * repeats
    atoms.rattle(RATTLE, seed=seed)
    return atoms


def water(seed: int = 0) -> Atoms:
    """64 molecules at 0.997 g/cm3: a jittered grid of molecules of random orientation."""
    rng = np.random.default_rng(seed)
    length, n, angle = 12.42, 4, np.deg2rad(104.52)
    molecule = 0.9572 * np.array([[0, 0, 0], [1, 0, 0], [np.cos(angle), np.sin(angle), 0]])
    places = []
    for grid in np.ndindex(n, n, n):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        places.append(molecule @ rotation + (np.array(grid) + 0.5) * length / n + rng.uniform(-0.15, 0.15, 3))
    atoms = Atoms("OH2" * n**3, positions=np.concatenate(places), cell=[length] * 3, pbc=True)
    atoms.wrap()
    return atoms


def moves(atoms: Atoms, n: int) -> list[np.ndarray]:
    """Positions of n small steps, as a simulation would make them."""
    rng = np.random.default_rng(1)
    return [atoms.positions + 0.002 * rng.normal(size=atoms.positions.shape) for _ in range(n)]


def time_calls(
    call: Callable[[int], object], repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median and minimum (ms) of call(0), call(1), ... after two calls that do not count."""
    call(0), call(1)
    times = []
    for k in range(repeats):
        began = clock()
        call(k)
        times.append(1e3 * (clock() - began))
    return {"median_ms": round(statistics.median(times), 3), "min_ms": round(min(times), 3)}
