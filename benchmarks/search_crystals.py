"""TiO2 crystals from nothing: relaxations until the ground state of a potential and two further known phases are found.

    python benchmarks/search_crystals.py [atoms=12,24,48] [seeds=10] [most=2000] [ways=rutile,random,symmetric,...]
                                         [model=rigid_ion] [known=2]

From random structures with this number of atoms in the cell, of which nothing is known but the formula. The answer is
known by exhaustive check: the polymorphs of the starter set tio2 (rutile, anatase, brookite, columbite, pyrite,
fluorite; the structure types of BO2), relaxed with the same potential; a structure counts as one of them if fingerprint
and energy are the same. A run ends when the lowest of them and `known` others were found, or after `most` relaxations.
Relaxations are counted
one by one in the order in which they were begun, also where a group of them runs together. Ways beside `rutile`, the
search with its defaults in groups of 8:

    random     the same new structures, nothing bred
    symmetric  new structures with random space groups only, which repeat nothing, nothing bred
    pyxtal     PyXtal's random crystals, nothing bred; left out unless SEARCH_PEERS names a Python that has PyXtal
    ase_ga     ase-ga as its tutorial for crystals has it (cut and splice, soft modes, strain), with permutations of
               elements besides; left out unless ase-ga is installed

All relax with the same task to the same limits. Runs that are in the results already are not repeated. Writes
results/search_crystals.{json,md} after every run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import RESULTS, _version, write
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import iread

from rutile.core.seeds import integer
from rutile.search.breeding import NEW
from rutile.search.crystals import Crystals
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate, Relaxed
from rutile.search.relaxing import Raiser, Relaxer
from rutile.search.settings import CrystalSearch, GeneticSettings
from rutile.simulate.settings import RelaxSettings
from rutile.starter import dft_polymorphs
from rutile.tasks.search import SearchSettings

GROUP = 8
SAME, SAME_ENERGY = 0.1, 0.004
"""A structure relaxed as in a search is one that was relaxed ten times better (dimensionless, eV/atom)."""


def relaxer(model: Path, better: float = 1.0) -> Relaxer:
    """As `rutile search` relaxes."""
    how = RelaxSettings(fmax=0.05 / better, smax=0.2 / better, max_steps=round(300 * better), max_move=0.4, cell="full")
    return Relaxer(model, "float64", "cpu", None, how)


@dataclass
class Hunt:
    """What is looked for, and what was found."""

    model: Path
    problem: Crystals
    most: int
    known: int
    found: dict[str, int] = field(default_factory=dict)
    """Relaxations after which each polymorph was first found."""
    count: int = 0
    lowest: float = float("inf")

    def __post_init__(self) -> None:
        crystals = dft_polymorphs()
        done = relaxer(self.model, 10)([Candidate(k, p.atoms, "", ()) for k, p in enumerate(crystals)])
        at = self.problem.distance
        self.answers = {
            p.name: (r.energy, fingerprint(r.atoms, at))
            for p, (_, r) in zip(crystals, done, strict=True) if not r.failure
        }  # fmt: skip
        self.ground = min(self.answers, key=lambda name: self.answers[name][0])
        self.work = relaxer(self.model)

    def relax(self, images: list[Atoms]) -> list[Relaxed]:
        """Relax, count and compare."""
        out = [r for _, r in self.work([Candidate(k, a, "", ()) for k, a in enumerate(images)])]
        self.take(out)
        return out

    def take(self, relaxed: list[Relaxed]) -> None:
        """Count and compare."""
        for r in relaxed:
            if self.over:
                return
            self.count += 1
            if r.failure:
                continue
            self.lowest = min(self.lowest, r.energy)
            mark = fingerprint(r.atoms, self.problem.distance)
            for name, (energy, known) in self.answers.items():
                if abs(r.energy - energy) < SAME_ENERGY and apart(mark, known) < SAME:
                    self.found.setdefault(name, self.count)

    @property
    def reached(self) -> bool:
        """Whether all that is looked for was found."""
        return self.ground in self.found and len(self.found) > self.known

    @property
    def over(self) -> bool:
        """Whether the run may end."""
        return self.reached or self.count >= self.most


def genetic(hunt: Hunt, seed: int, operators: dict[str, float], variants: int) -> None:
    """Our search."""
    search = Genetic(hunt.problem, GeneticSettings(operators=operators), seed)
    work = Raiser(search.breeder, hunt.work, variants)
    for group in search.orders(GROUP, hunt.most):
        done = work(group)
        for child, one in done:
            search.settle(child)
            search.receive([(child.number, one)])
        hunt.take([one for _, one in done])
        if hunt.over:
            return


def rutile(hunt: Hunt, units: int, seed: int) -> None:
    """See above."""
    genetic(hunt, seed, {}, SearchSettings.model_fields["variants"].default)


def random(hunt: Hunt, units: int, seed: int) -> None:
    """See above."""
    off = {op.name: 0.0 for op in hunt.problem.operators}
    genetic(hunt, seed, off | {NEW: 1.0}, 1)


def symmetric(hunt: Hunt, units: int, seed: int) -> None:
    """See above."""
    hunt.problem = Crystals("TiO2", CrystalSearch(units=(units,), symmetric=1.0, repeated=0.0))
    random(hunt, units, seed)


def pyxtal(hunt: Hunt, units: int, seed: int) -> None:
    """See above."""
    for group in _by_pyxtal(units, seed, hunt.most):
        hunt.relax(group)
        if hunt.over:
            return


def _by_pyxtal(units: int, seed: int, most: int) -> Iterator[list[Atoms]]:
    """Groups of random crystals."""
    script = Path(__file__).with_name("search_pyxtal.py")
    with tempfile.TemporaryDirectory() as folder:
        for part in range(-(-most // 64)):
            file = Path(folder) / f"{part}.extxyz"
            number = integer(seed, "pyxtal", part) % 2**31
            command = [os.environ["SEARCH_PEERS"], str(script), str(units), str(number), "64", str(file)]
            subprocess.run(command, check=True, capture_output=True)
            made = list(iread(file))
            for k in range(0, len(made), GROUP):
                yield [Atoms(a.numbers, positions=a.positions, cell=a.cell, pbc=True) for a in made[k : k + GROUP]]


def ase_ga(hunt: Hunt, units: int, seed: int) -> None:
    """As the tutorial of ase-ga for crystals has it."""
    from ase_ga import set_raw_score
    from ase_ga.cutandsplicepairing import CutAndSplicePairing
    from ase_ga.data import DataConnection, PrepareDB
    from ase_ga.offspring_creator import OperationSelector
    from ase_ga.ofp_comparator import OFPComparator
    from ase_ga.population import Population
    from ase_ga.soft_mutation import SoftMutation
    from ase_ga.standardmutations import PermutationMutation, StrainMutation
    from ase_ga.startgenerator import StartGenerator
    from ase_ga.utilities import CellBounds, closest_distances_generator

    rng, size = np.random.RandomState(seed), 3 * units
    slab, numbers = Atoms("", pbc=True), [22] * units + [8] * 2 * units
    near = closest_distances_generator([8, 22], 0.5)
    angles = {name: [35, 145] for name in ("phi", "chi", "psi")}
    bounds = CellBounds(bounds=angles | {name: [2, 60] for name in "abc"})
    volume = hunt.problem.volume * size
    cells = {"number_of_variable_cell_vectors": 3, "cellbounds": bounds}
    start = StartGenerator(
        slab, [("Ti", units), ("O", 2 * units)], near, box_volume=volume, splits={(2,): 1, (1,): 1}, rng=rng, **cells
    )
    with tempfile.TemporaryDirectory() as folder:
        file, modes = str(Path(folder) / "ga.db"), str(Path(folder) / "modes.json")
        new = PrepareDB(db_file_name=file, simulation_cell=slab, stoichiometry=numbers)
        for _ in range(20):
            new.add_unrelaxed_candidate(start.get_new_candidate())
        store = DataConnection(file)

        def relaxed(images: list[Atoms]) -> None:
            for atoms, r in zip(images, hunt.relax(images), strict=True):
                atoms.set_cell(r.atoms.cell)
                atoms.set_positions(r.atoms.positions)
                energy = 0.0 if r.failure else r.energy * size
                atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((size, 3)))
                set_raw_score(atoms, -energy)
                store.add_relaxed_step(atoms)

        while store.get_number_of_unrelaxed_candidates() and not hunt.over:
            relaxed([store.get_an_unrelaxed_candidate()])
        same = OFPComparator(
            n_top=size, dE=1.0, cos_dist_max=1e-3, rcut=10.0, binwidth=0.05, pbc=[True] * 3, sigma=0.05, nsigma=4,
            recalculate=False,
        )  # fmt: skip
        pairing = CutAndSplicePairing(slab, size, near, p1=1.0, p2=0.0, minfrac=0.15, use_tags=False, rng=rng, **cells)
        strain = StrainMutation(near, stddev=0.7, use_tags=False, rng=rng, **cells)
        soft = SoftMutation(closest_distances_generator([8, 22], 0.1), bounds=[2.0, 5.0], used_modes_file=modes)
        swap = PermutationMutation(size, blmin=near, rng=rng)
        breed = OperationSelector([4.0, 3.0, 3.0, 2.0], [pairing, soft, strain, swap], rng=rng)
        pool = Population(store, population_size=20, comparator=same, rng=rng)
        _volumes(pool, strain, pairing)
        while not hunt.over:
            children = []
            while len(children) < 4:
                child, said = breed.get_new_individual(pool.get_two_candidates())
                if child is not None:
                    store.add_unrelaxed_candidate(child, description=said)
                    children.append(child)
            relaxed(children)
            pool.update()
            if hunt.count % 20 < 4:
                _volumes(pool, strain, pairing)


def _volumes(pool: Any, *operators: Any) -> None:
    """Volumes of children as those of the pool."""
    for operator in operators:
        operator.update_scaling_volume(pool.pop, w_adapt=0.5, n_adapt=4)


WAYS: dict[str, Callable[[Hunt, int, int], None]] = {
    "rutile": rutile,
    "random": random,
    "symmetric": symmetric,
    "pyxtal": pyxtal,
    "ase_ga": ase_ga,
}


def as_table(runs: dict[str, Any]) -> str:
    """Success and relaxations for each way and size."""
    lines = [
        "| model | atoms | way | found all | ground state | relaxations to all, median (range) | to the ground state |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    cases = sorted({(r["model"], r["atoms"]) for r in runs.values()})
    for model, atoms in cases:
        for way in WAYS:
            mine = [r for r in runs.values() if (r["model"], r["atoms"], r["way"]) == (model, atoms, way)]
            if not mine:
                continue
            counts = np.array([r["relaxations"] for r in mine])
            ground = np.array([r["found"].get(r["ground"], r["relaxations"]) for r in mine])
            lines.append(
                f"| {model} | {atoms} | {way} | {sum(r['reached'] for r in mine)}/{len(mine)} "
                f"| {sum(r['ground'] in r['found'] for r in mine)}/{len(mine)} "
                f"| {np.median(counts):.0f} ({counts.min()} to {counts.max()}) "
                f"| {np.median(ground):.0f} ({ground.min()} to {ground.max()}) |"
            )
    note = "All: the ground state and two further known phases. Runs that did not find them count with all relaxations."
    return "\n".join([*lines, "", note, ""])


def main(words: list[str]) -> None:
    """All runs, and the table."""
    torch.set_num_threads(1)
    given = dict(w.split("=", 1) for w in words)
    model, most = Path(given.get("model", "rigid_ion")), int(given.get("most", 2000))
    file = RESULTS / "search_crystals.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else {}
    for atoms in (int(n) for n in given.get("atoms", "12,24,48").split(",")):
        for seed in range(int(given.get("seeds", 10))):
            for way in given.get("ways", ",".join(WAYS)).split(","):
                name = f"{model.stem}:{way}:{atoms}:{seed}"
                if way == "ase_ga" and importlib.util.find_spec("ase_ga") is None:
                    continue
                if way == "pyxtal" and "SEARCH_PEERS" not in os.environ:
                    continue
                if name in runs and (runs[name]["reached"] or runs[name]["relaxations"] >= most):
                    continue
                began = time.process_time()
                hunt = Hunt(
                    model, Crystals("TiO2", CrystalSearch(units=(atoms // 3,))), most, int(given.get("known", 2))
                )
                WAYS[way](hunt, atoms // 3, seed)
                runs[name] = {
                    "model": model.stem, "way": way, "atoms": atoms, "relaxations": hunt.count, "reached": hunt.reached,
                    "code": _version(), "ground": hunt.ground, "found": hunt.found, "lowest": hunt.lowest,
                    "below": hunt.answers[hunt.ground][0] - hunt.lowest,
                    "seconds": round(time.process_time() - began, 1),
                }  # fmt: skip
                print(name, runs[name], flush=True)
                write("search_crystals", {"most": most, "runs": runs}, as_table(runs))


if __name__ == "__main__":
    main(sys.argv[1:])
