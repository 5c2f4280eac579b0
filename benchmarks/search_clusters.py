"""Lennard-Jones clusters from nothing: relaxations until the known minimum, of our search and of others.

    python benchmarks/search_clusters.py [sizes=13,26,38,55,75] [seeds=20] [most=4000] [ways=rutile,hopping,...]

Lennard-Jones without cutoff; a run ends when the energy of the known minimum (lennard_jones.py) is reached, or after
`most` relaxations.

    rutile   `search.Genetic` with its defaults, children in groups of 8 that count whole, relaxed by our own batches
             (75 atoms: by the quench of the others)
    blind    the same without pieces of known packings (`structure.motifs=0`)
    hopping  plain basin hopping of our own: one walker from random atoms in a ball, moves up to 0.36 sigma in each
             coordinate, temperature 0.8 epsilon, angular moves of the loosest atom (all as in the source)
    ase_ga, agox_ea, agox_bh, pyxtal: see search_peers.py; left out unless SEARCH_PEERS names a Python that has them

Seconds are processor time of one thread, of peers with their imports; all but the first are relaxed one by one with
SciPy's L-BFGS. Runs that are in the results already are not repeated. Writes results/search_clusters.{json,md} after
every run.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import RESULTS, _version, write
from ase import Atoms
from lennard_jones import KNOWN, NEAR, PAIR, quench

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

SIGMA = 2.55
"""Angstrom; epsilon is 1 eV."""
GROUP = 8
LARGE = 75
"""From so many atoms on all ways relax with the same quench."""
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


def quenching(images: list[Atoms]) -> list[tuple[Atoms, float]]:
    """The same with the quench of the others: much faster one by one, for large clusters."""
    out = []
    for atoms in images:
        x, energy = quench(atoms.positions / SIGMA)
        out.append((Atoms(atoms.numbers, positions=x * SIGMA), energy))
    return out


def genetic(size: int, seed: int, most: int, work: Work, motifs: float | None = None) -> tuple[int, float]:
    """Relaxations until the known minimum (or all), and the lowest energy."""
    problem = Clusters(f"Ar{size}", ClusterSearch(distance=SIGMA * PAIR, motifs=motifs))
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
    """The same for basin hopping."""
    del work
    rng = stream(seed, "hopping", size)
    radius = PAIR * (3 * size / (4 * np.sqrt(2) * np.pi)) ** (1 / 3)
    x = rng.normal(size=(size, 3))
    now, energy = quench(x * radius * (rng.random(size) ** (1 / 3) / np.linalg.norm(x, axis=1))[:, None])
    lowest = energy
    for k in range(1, most):
        if lowest < KNOWN[size] + NEAR:
            return k, lowest
        trial = now + rng.uniform(-STEP, STEP, (size, 3))
        _angular(trial, now, rng)
        after, e = quench(trial)
        lowest = min(lowest, e)
        if rng.random() < np.exp(min(0.0, (energy - e) / HEAT)):
            now, energy = after, e
    return most, lowest


def _angular(trial: np.ndarray, now: np.ndarray, rng: np.random.Generator) -> None:
    """The loosest atom moves over the surface where its energy is above LOOSE times that of the tightest."""
    d = np.linalg.norm(now[:, None] - now, axis=2) + np.eye(len(now)) * 1e9
    each = 2 * (d**-12 - d**-6).sum(1)
    k = int(each.argmax())
    if each[k] > LOOSE * each.min():
        centre = now.mean(0)
        to = rng.normal(size=3)
        trial[k] = centre + np.linalg.norm(now - centre, axis=1).max() * to / np.linalg.norm(to)


class PeerError(Exception):
    """Another code broke off; that run is left out of the results."""


def peer(way: str) -> Callable[[int, int, int, Work], tuple[int, float]]:
    """The same by another code, in an environment of its own; see search_peers.py."""

    def search(size: int, seed: int, most: int, work: Work) -> tuple[int, float]:
        del work
        with tempfile.TemporaryDirectory() as folder:
            file, script = Path(folder) / "found.json", Path(__file__).with_name("search_peers.py")
            command = [os.environ["SEARCH_PEERS"], str(script), way, str(size), str(seed), str(most), str(file)]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            if not file.exists():
                raise PeerError(f"ended with {said.stderr.strip().splitlines()[-1:]}")
            found = json.loads(file.read_text())
        return found["relaxations"], found["energy"]

    return search


PEERS = ("ase_ga", "agox_ea", "agox_bh", "pyxtal")
WAYS = {"rutile": genetic, "blind": partial(genetic, motifs=0.0), "hopping": hopping} | {
    way: peer(way) for way in PEERS
}


def seconds() -> float:
    """Processor time of this process and of those that it ran."""
    ours, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


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
    sizes = [int(n) for n in given.get("sizes", "13,26,38,55,75").split(",")]
    most = int(given.get("most", 4000))
    file = RESULTS / "search_clusters.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else {}
    for size in sizes:
        for seed in range(int(given.get("seeds", 20))):
            for way in given.get("ways", ",".join(WAYS)).split(","):
                name = f"{way}:{size}:{seed}"
                if way in PEERS and "SEARCH_PEERS" not in os.environ:
                    continue
                if name in runs and (runs[name]["found"] or runs[name]["relaxations"] >= most):
                    continue
                began = seconds()
                try:
                    count, energy = WAYS[way](size, seed, most, relaxer() if size < LARGE else quenching)
                except PeerError as error:
                    print(name, error, flush=True)
                    continue
                found = energy < KNOWN[size] + NEAR
                runs[name] = {"relaxations": count, "found": found, "energy": energy, "code": _version(),
                              "seconds": round(seconds() - began, 2)}  # fmt: skip
                print(name, runs[name], flush=True)
                write("search_clusters", {"most": most, "runs": runs}, as_table(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
