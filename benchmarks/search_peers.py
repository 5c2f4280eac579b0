"""One search for a Lennard-Jones cluster by another code, in an environment of its own; see search_clusters.py.

    python benchmarks/search_peers.py WAY ATOMS SEED MOST FILE

needs `pip install agox pyxtal ase-ga`, not rutile. WAY:

    agox_ea  AGOX's evolutionary search as its own test script has it: pool of 10, rattled and random candidates
    agox_bh  AGOX's basin hopping as its own test script has it: rattled (3 atoms on average), Metropolis sampler;
             temperature 0.8 epsilon
    pyxtal   PyXtal's random clusters with a random point group, no breeding
    ase_ga   ase-ga as its tutorial for clusters has it: pool of 20, cut and splice, a third of the children mirrored
             or shaken

Each relaxation is the same `quench`. Writes {"relaxations": ..., "energy": ...} to FILE.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from lennard_jones import KNOWN, NEAR, PAIR, quench

ELEMENT = "Ar"
BOND = 2.12
"""Twice the covalent radius of argon (Angstrom), which these codes take for the distance of neighbours."""


class Found(Exception):
    """The minimum, or the end of the budget."""


class Counter:
    """Relaxes structures in Angstrom and counts; raises `Found` at the end."""

    def __init__(self, size: int, most: int) -> None:
        self.size, self.most = size, most
        self.count, self.lowest = 0, float("inf")

    def relax(self, positions: np.ndarray) -> tuple[np.ndarray, float]:
        """Positions at the minimum (Angstrom) and its energy (epsilon)."""
        if self.over:
            raise Found
        x, energy = quench(positions * PAIR / BOND)
        self.count, self.lowest = self.count + 1, min(self.lowest, energy)
        return x * BOND / PAIR, energy

    @property
    def over(self) -> bool:
        """Whether the search may end."""
        return self.count >= self.most or self.lowest < KNOWN[self.size] + NEAR


def _agox(counter: Counter, seed: int, breed: bool) -> None:
    """AGOX: its evolutionary search, or its basin hopping."""
    from agox import AGOX
    from agox.collectors import StandardCollector
    from agox.databases import Database
    from agox.environments import Environment
    from agox.evaluators import LocalOptimizationEvaluator
    from agox.generators import RandomGenerator, RattleGenerator
    from agox.models.descriptors.simple_fingerprint import SimpleFingerprint
    from agox.samplers import DistanceComparator, GeneticSampler, MetropolisSampler

    class Evaluator(LocalOptimizationEvaluator):
        """Theirs, with our quench instead of an optimizer of ASE."""

        def evaluate_candidate(self, candidate: Atoms) -> bool:
            if counter.over:
                return False
            x, energy = counter.relax(candidate.positions - middle)
            candidate.set_positions(x - x.mean(0) + middle)
            candidate.calc = SinglePointCalculator(candidate, energy=energy, forces=np.zeros(candidate.positions.shape))
            candidate.add_meta_information("final", True)
            self._check_and_append_candidate(candidate)
            return True

    box = 2 * BOND * (3 * counter.size / (4 * np.sqrt(2) * np.pi)) ** (1 / 3) + BOND
    side = box + 4 * BOND
    middle = np.full(3, side / 2)
    environment = Environment(
        template=Atoms("", cell=np.eye(3) * side), symbols=f"{ELEMENT}{counter.size}",
        confinement_cell=np.eye(3) * box, confinement_corner=middle - box / 2,
    )  # fmt: skip
    confined = environment.get_confinement()
    database = Database(filename="agox.db", order=5 if breed else 4)
    parts = []
    if breed:
        pool = 10
        descriptor = SimpleFingerprint(environment=environment)
        sampler = GeneticSampler(
            population_size=pool, comparator=DistanceComparator(descriptor, threshold=0.5), order=4, database=database
        )
        collector = StandardCollector(
            generators=[RandomGenerator(**confined), RattleGenerator(**confined)], sampler=sampler,
            environment=environment, num_candidates={0: [pool, 0], 5: [2, pool - 2], 10: [0, pool]}, order=1,
        )  # fmt: skip
        parts, each = [collector, database], pool
    else:
        sampler = MetropolisSampler(temperature=0.8, order=3)
        generator = RattleGenerator(**confined, environment=environment, sampler=sampler, order=1)
        parts, each = [generator, database, sampler], 1
    evaluator = Evaluator(
        None, gets={"get_key": "candidates"}, store_trajectory=False, order=2, number_to_evaluate=each,
        optimizer_run_kwargs={"fmax": 0.05, "steps": 100}, constraints=environment.get_constraints(),
    )  # fmt: skip
    search = AGOX(*parts, evaluator, seed=seed)
    while not counter.over:
        search.run(N_iterations=20)


def agox_ea(counter: Counter, seed: int) -> None:
    """See above."""
    _agox(counter, seed, breed=True)


def agox_bh(counter: Counter, seed: int) -> None:
    """See above."""
    _agox(counter, seed, breed=False)


def pyxtal(counter: Counter, seed: int) -> None:
    """Random clusters with a random point group."""
    from pyxtal import pyxtal as Structure

    random.seed(seed)
    np.random.seed(seed)
    while True:
        made = Structure()
        try:
            made.from_random(0, random.randint(1, 56), [ELEMENT], [counter.size])
        except Exception:
            continue  # PyXtal says in many ways that atoms do not fit a group
        if made.valid:
            counter.relax(made.to_ase(resort=False, center_only=True).positions)


def ase_ga(counter: Counter, seed: int) -> None:
    """As the tutorial of ase-ga for clusters has it."""
    from ase_ga import set_raw_score
    from ase_ga.cutandsplicepairing import CutAndSplicePairing
    from ase_ga.data import DataConnection, PrepareDB
    from ase_ga.offspring_creator import OperationSelector
    from ase_ga.population import Population
    from ase_ga.standard_comparators import InteratomicDistanceComparator
    from ase_ga.standardmutations import MirrorMutation, RattleMutation
    from ase_ga.startgenerator import StartGenerator

    size = counter.size
    rng = np.random.RandomState(seed)
    wide = 1.3 * BOND * size ** (1 / 3)
    side = wide + 4 * BOND
    cell = Atoms(cell=[2 * side] * 3, pbc=False)
    bonds = {(18, 18): 0.7 * BOND}
    start = StartGenerator(
        cell, [(ELEMENT, size)], bonds, box_to_place_in=[np.full(3, side / 2), np.eye(3) * wide], rng=rng
    )
    new = PrepareDB(db_file_name="ga.db", simulation_cell=cell, stoichiometry=[18] * size)
    for _ in range(20):
        new.add_unrelaxed_candidate(start.get_new_candidate())
    store = DataConnection("ga.db")

    def relaxed(atoms: Atoms) -> None:
        x, energy = counter.relax(atoms.positions)
        atoms.set_positions(x)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((size, 3)))
        set_raw_score(atoms, -energy)
        store.add_relaxed_step(atoms)

    while store.get_number_of_unrelaxed_candidates():
        relaxed(store.get_an_unrelaxed_candidate())
    same = InteratomicDistanceComparator(n_top=size, pair_cor_cum_diff=0.015, pair_cor_max=0.7, dE=0.02, mic=False)
    pairing = CutAndSplicePairing(cell, size, bonds, rng=rng)
    shake = OperationSelector(
        [1.0, 1.0], [MirrorMutation(bonds, size, rng=rng), RattleMutation(bonds, size, rng=rng)], rng=rng
    )
    pool = Population(store, population_size=20, comparator=same, rng=rng)
    while not counter.over:
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


WAYS: dict[str, Callable[[Counter, int], None]] = {
    "agox_ea": agox_ea, "agox_bh": agox_bh, "pyxtal": pyxtal, "ase_ga": ase_ga,
}  # fmt: skip


def main(way: str, size: int, seed: int, most: int, file: Path) -> None:
    """One search."""
    counter = Counter(size, most)
    file = file.resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # databases and logs of these codes
        with contextlib.suppress(Found):
            WAYS[way](counter, seed)
        file.write_text(json.dumps({"relaxations": counter.count, "energy": counter.lowest}))
        os.chdir("/")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
