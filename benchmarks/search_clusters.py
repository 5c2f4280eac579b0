"""Lennard-Jones clusters from nothing: relaxations until the known minimum, of our search and of others.

    python benchmarks/search_clusters.py [sizes=13,26,38,55] [seeds=20] [most=4000] [ways=rutile,hopping,ase_ga]

Lennard-Jones without cutoff, known minima of D. J. Wales and J. P. K. Doye, J. Phys. Chem. A 101, 5111 (1997). A run
ends when the energy of the known minimum is reached within 1e-3 epsilon, or after `most` relaxations.

    rutile   `search.Genetic` with its defaults, children in groups of 8, relaxed together; a group counts whole
    hopping  plain basin hopping of our own: one walker from random atoms in a ball, moves up to 0.36 sigma in each
             coordinate, temperature 0.8 epsilon, angular moves of the loosest atom (all as in the source)
    ase_ga   ase-ga as its tutorial for clusters has it: pool of 20, cut and splice, a third of the children mirrored or
             shaken (skipped where ase-ga is not installed)

Seconds are processor time of one thread; the others are relaxed one by one with SciPy's L-BFGS. Runs that are in the
results already are not repeated. Writes results/search_clusters.{json,md} after every run.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import RESULTS, write
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.optimize import minimize

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


def quench(x: np.ndarray) -> tuple[np.ndarray, float]:
    """To the nearest minimum, in units of epsilon and sigma, without rutile."""
    done = minimize(_lennard_jones, x.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 2000, "gtol": 1e-4})
    return done.x.reshape(-1, 3), float(done.fun)


def _lennard_jones(flat: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy and gradient."""
    x = flat.reshape(-1, 3)
    v = x[:, None] - x
    r2 = np.maximum((v**2).sum(2), 0.01)
    np.fill_diagonal(r2, np.inf)
    sixth = r2**-3
    slope = 24 * (sixth - 2 * sixth**2) / r2
    return float(2 * (sixth**2 - sixth).sum()), (slope[:, :, None] * v).sum(1).ravel()


def hopping(size: int, seed: int, most: int, work: Work) -> tuple[int, float]:
    """The same for basin hopping."""
    del work
    rng = stream(seed, "hopping", size)
    radius = 2 ** (1 / 6) * (3 * size / (4 * np.sqrt(2) * np.pi)) ** (1 / 3)
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


def ase_ga(size: int, seed: int, most: int, work: Work) -> tuple[int, float]:
    """The same for ase-ga."""
    from ase_ga import set_raw_score
    from ase_ga.cutandsplicepairing import CutAndSplicePairing
    from ase_ga.data import DataConnection, PrepareDB
    from ase_ga.offspring_creator import OperationSelector
    from ase_ga.population import Population
    from ase_ga.standard_comparators import InteratomicDistanceComparator
    from ase_ga.standardmutations import MirrorMutation, RattleMutation
    from ase_ga.startgenerator import StartGenerator

    del work
    rng = np.random.RandomState(seed)
    side = 1.3 * size ** (1 / 3) + 4
    cell = Atoms(cell=[3 * side] * 3, pbc=False)
    bonds = {(18, 18): 0.7}
    box = [np.full(3, side), np.eye(3) * 1.3 * size ** (1 / 3)]
    start = StartGenerator(cell, [("Ar", size)], bonds, box_to_place_in=box, rng=rng)
    lowest, count = np.inf, 0
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "ga.db")
        new = PrepareDB(db_file_name=file, simulation_cell=cell, stoichiometry=[18] * size)
        for _ in range(20):
            new.add_unrelaxed_candidate(start.get_new_candidate())
        store = DataConnection(file)

        def relaxed(atoms: Atoms) -> None:
            nonlocal lowest, count
            x, energy = quench(atoms.positions)
            atoms.set_positions(x)
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((size, 3)))
            set_raw_score(atoms, -energy)
            store.add_relaxed_step(atoms)
            lowest, count = min(lowest, energy), count + 1

        while store.get_number_of_unrelaxed_candidates():
            relaxed(store.get_an_unrelaxed_candidate())
        same = InteratomicDistanceComparator(n_top=size, pair_cor_cum_diff=0.015, pair_cor_max=0.7, dE=0.02, mic=False)
        pairing = CutAndSplicePairing(cell, size, bonds, rng=rng)
        shake = OperationSelector(
            [1.0, 1.0], [MirrorMutation(bonds, size, rng=rng), RattleMutation(bonds, size, rng=rng)], rng=rng
        )
        pool = Population(store, population_size=20, comparator=same, rng=rng)
        while count < most and lowest > KNOWN[size] + NEAR:
            child, said = pairing.get_new_individual(pool.get_two_candidates())
            if child is None:
                continue
            store.add_unrelaxed_candidate(child, description=said)
            if rng.rand() < 0.3:
                other, said = shake.get_new_individual([child])
                if other is not None:
                    store.add_unrelaxed_step(other, said)
                    child = other
            relaxed(child)
            pool.update()
    return count, lowest


WAYS = {"rutile": genetic, "hopping": hopping, "ase_ga": ase_ga}


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
            for way in given.get("ways", "rutile,hopping,ase_ga").split(","):
                name = f"{way}:{size}:{seed}"
                if way == "ase_ga" and importlib.util.find_spec("ase_ga") is None:
                    continue  # pip install ase-ga
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
