"""Lennard-Jones clusters from nothing: relaxations until the known minimum, of our search and of basin hopping.

    python benchmarks/search_clusters.py [sizes=13,26,38,55] [seeds=20] [most=4000] [ways=rutile,hopping]

Lennard-Jones without cutoff, known minima of D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997). A run ends
when the energy of the known minimum is reached within 1e-3 epsilon, or after `most` relaxations. `rutile` is
`search.Genetic` with its defaults, children in groups of 8; `hopping` is plain basin hopping from random atoms in a ball:
all atoms move by up to 0.36 sigma in each coordinate, temperature 0.8 epsilon (the same source), the loosest atom moves
to the surface where its energy is above 0.4 of the lowest, both with the same relaxations. Seconds are processor time of
one thread. Runs that are in the results already are not repeated.

Writes results/search_clusters.{json,md} after every run.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accuracy import RESULTS, write
from ase import Atoms

from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.potentials.lennard_jones import LennardJones
from rutile.search.clusters import Clusters
from rutile.search.genetic import Genetic
from rutile.search.individual import Relaxed
from rutile.search.settings import ClusterSearch, GeneticSettings
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures

KNOWN = {13: -44.326801, 26: -108.315616, 38: -173.928427, 55: -279.248470, 75: -397.492331}
SIGMA = 2.55
"""Angstrom; epsilon is 1 eV."""
NEAR = 1e-3
GROUP = 8
STEP, HEAT, LOOSE = 0.36, 0.8, 0.4
Work = Callable[[list[Atoms]], list[tuple[Atoms, float]]]


def relaxer() -> Work:
    """Structures to their minima; NaN where that fails."""
    potential = LennardJones(1.0, SIGMA, 30 * SIGMA).double()
    how = RelaxSettings(fmax=0.02, max_steps=1000, max_move=0.4, closest=0.3)

    def work(images: list[Atoms]) -> list[tuple[Atoms, float]]:
        done = relax(Structures.from_ase(images), potential, how, SilentReporter())
        each = zip(done.structures.to_ase(), done.energy.tolist(), done.failure, strict=True)
        return [(atoms, float("nan") if why else energy) for atoms, energy, why in each]

    return work


def genetic(size: int, seed: int, most: int, work: Work) -> tuple[int, float]:
    """Relaxations until the known minimum (or all), and the lowest energy."""
    problem = Clusters(f"Ar{size}", ClusterSearch(distance=SIGMA * 2 ** (1 / 6)))
    search = Genetic(problem, GeneticSettings(), seed)
    for group in search.batches(GROUP, most):
        ends = work([c.atoms for c in group])
        search.receive(
            [
                (c.number, Relaxed(atoms, energy / size, "failed" if energy != energy else "", 0))
                for c, (atoms, energy) in zip(group, ends, strict=True)
            ]
        )
        if search.best is not None and search.best.energy * size < KNOWN[size] + NEAR:
            return search.done, search.best.energy * size
    return search.done, search.best.energy * size if search.best is not None else float("nan")


def hopping(size: int, seed: int, most: int, work: Work) -> tuple[int, float]:
    """The same for basin hopping; one walker."""
    rng = stream(seed, "hopping", size)
    radius = SIGMA * 2 ** (1 / 6) * (3 * size / (4 * np.sqrt(2) * np.pi)) ** (1 / 3)
    x = rng.normal(size=(size, 3))
    x *= radius * (rng.random(size) ** (1 / 3) / np.linalg.norm(x, axis=1))[:, None]
    ((now, energy),) = work([Atoms(f"Ar{size}", positions=x)])
    lowest = energy
    for k in range(1, most):
        if lowest < KNOWN[size] + NEAR:
            return k, lowest
        trial = now.copy()
        trial.positions += rng.uniform(-STEP, STEP, (size, 3)) * SIGMA
        _angular(trial, now, rng)
        ((after, e),) = work([trial])
        lowest = min(lowest, e) if e == e else lowest
        if e == e and (not energy == energy or rng.random() < np.exp(min(0.0, (energy - e) / HEAT))):
            now, energy = after, e
    return most, lowest


def _angular(trial: Atoms, now: Atoms, rng: np.random.Generator) -> None:
    """The loosest atom moves over the surface where its energy is above LOOSE times that of the tightest."""
    d = now.get_all_distances() / SIGMA + np.eye(len(now)) * 1e9
    each = 2 * (d**-12 - d**-6).sum(1)
    k = int(each.argmax())
    if each[k] > LOOSE * each.min():
        centre = now.positions.mean(0)
        to = rng.normal(size=3)
        trial.positions[k] = centre + np.linalg.norm(now.positions - centre, axis=1).max() * to / np.linalg.norm(to)


WAYS = {"rutile": genetic, "hopping": hopping}


def as_table(runs: dict[str, Any]) -> str:
    """Success and relaxations for each way and size."""
    lines = [
        "| atoms | way | found | relaxations, median (range) | seconds, median |",
        "|---:|---|---:|---:|---:|",
    ]
    for size in KNOWN:
        for way in WAYS:
            mine = [r for name, r in runs.items() if name.startswith(f"{way}:{size}:")]
            if not mine:
                continue
            counts = np.array([r["relaxations"] for r in mine])
            lines.append(
                f"| {size} | {way} | {sum(r['found'] for r in mine)}/{len(mine)} | {np.median(counts):.0f} "
                f"({counts.min()} to {counts.max()}) | {np.median([r['seconds'] for r in mine]):.1f} |"
            )
    note = "Runs that did not find the minimum count with all their relaxations."
    return "\n".join([*lines, "", note, ""])


def main(words: list[str]) -> None:
    """All runs, and the table."""
    torch.set_num_threads(1)
    given = dict(w.split("=", 1) for w in words)
    sizes = [int(n) for n in given.get("sizes", "13,26,38,55").split(",")]
    most = int(given.get("most", 4000))
    file = RESULTS / "search_clusters.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else {}
    work = relaxer()
    for size in sizes:
        for seed in range(int(given.get("seeds", 20))):
            for way in given.get("ways", "rutile,hopping").split(","):
                name = f"{way}:{size}:{seed}"
                if name in runs and (runs[name]["found"] or runs[name]["relaxations"] >= most):
                    continue
                began = time.process_time()
                count, energy = WAYS[way](size, seed, most, work)
                found = energy < KNOWN[size] + NEAR
                runs[name] = {"relaxations": count, "found": found, "energy": energy,
                              "seconds": round(time.process_time() - began, 2)}  # fmt: skip
                print(name, runs[name], flush=True)
                write("search_clusters", {"most": most, "runs": runs}, as_table(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
