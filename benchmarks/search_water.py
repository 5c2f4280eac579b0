"""Clusters of four water molecules by GFN2-xTB: does `search.MolecularClusters` find the ring with symmetry S4?

    python benchmarks/search_water.py [seeds=3] [most=48]

The ring of four hydrogen bonds whose free hydrogens point up and down in turn is the known minimum (K. S. Kim,
M. Dupuis, G. C. Lie and E. Clementi, Chem. Phys. Lett. 131, 451 (1986)). Relaxations by ASE's BFGS on tblite, one by
one; structures whose molecules broke are refused. Writes results/search_water.{json,md}.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accuracy import write
from ase import Atoms
from ase.optimize import BFGS
from tblite.ase import TBLite

from rutile.search.genetic import Genetic
from rutile.search.individual import Relaxed, carried
from rutile.search.molecular import MolecularClusters
from rutile.search.point_groups import point_group_of
from rutile.search.settings import ClusterSearch, GeneticSettings

COUNT = 4
FMAX, STEPS = 0.01, 300


def relaxed(problem: MolecularClusters, given: Atoms) -> Relaxed:
    """To its minimum, or why not."""
    atoms = Atoms(given.numbers, positions=given.positions)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    try:
        good = BFGS(atoms, logfile=None, maxstep=0.1).run(fmax=FMAX, steps=STEPS)
        energy = float(atoms.get_potential_energy()) / len(atoms)
    except Exception as error:  # tblite's own, of atoms that are too near
        return Relaxed(given, float("nan"), f"tblite: {error}"[:60], 0)
    done = carried(given, Atoms(atoms.numbers, positions=atoms.positions))
    return Relaxed(done, energy, problem.check(done) if good else "not converged", 0)


def main() -> None:
    """All seeds."""
    torch.set_num_threads(1)
    told = dict(w.split("=") for w in sys.argv[1:])
    seeds, most = int(told.get("seeds", 3)), int(told.get("most", 48))
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        problem = MolecularClusters(ClusterSearch(molecules={"H2O": COUNT}))
        search = Genetic(problem, GeneticSettings(first=12), seed)
        failed, found = 0, None
        for group in search.batches(1, most):
            one = relaxed(problem, group[0].atoms)
            failed += bool(one.failure)
            search.receive([(group[0].number, one)])
            if found is None and search.best is not None and point_group_of(search.best.atoms, 0.15) == "S4":
                found = search.done
        assert search.best is not None
        symmetry = point_group_of(search.best.atoms, 0.15)
        rows.append({"seed": seed, "relaxations": found, "of": most, "failed": failed, "symmetry": symmetry,
                     "lowest": search.best.energy, "operator": search.best.operator})  # fmt: skip
        print(rows[-1], flush=True)
        write("search_water", {"runs": rows}, as_table(rows))


def as_table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = [
        "# Four water molecules by GFN2-xTB", "",
        "| seed | relaxations to the ring (S4) | of | failed | lowest | its symmetry |",
        "|---:|---:|---:|---:|---:|---|",
        *(f"| {r['seed']} | {r['relaxations'] or 'not found'} | {r['of']} | {r['failed']} | {r['lowest']:.5f} eV/atom "
          f"| {r['symmetry']} |" for r in rows),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
