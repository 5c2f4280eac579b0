"""Throughput of relaxations: 1 000 TiO2 crystals together, and one by one through ASE, to the same minima.

    python benchmarks/relaxation.py [--quick] [--models behler,rigid_ion,PATH] [--every 25] [--seconds 240]

The crystals have 6 to 48 atoms: strained, rattled and repeated prototypes, and random ones, made by rutile's builders.
Together: `simulate.relax`, atoms and cells. One by one: ASE's FIRE and LBFGS with FrechetCellFilter and the calculator
of the same potential in the same precision, to the same fmax and smax, for every 25th crystal of each kind (--every 1:
for all), and that time is scaled up by kinds. Times are processor times of one thread, so that other programs disturb
them little. `behler` is trained for a while first (as `rutile demo` does); PATH is a model file or the folder of a run.

Writes results/relaxation.json and .md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from ase import Atoms
from ase.optimize import FIRE, LBFGS

from rutile.build.crystals import prototype
from rutile.build.distort import random_strain, rattled, strained, supercell
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream

PROTOTYPES = ("rutile", "anatase", "brookite", "columbite", "fluorite", "pyrite", "cadmium_iodide")
FMAX, SMAX, STEPS = 0.01, 0.05, 500
"""eV/Angstrom, GPa, and steps at most, for all."""
SAME = 1e-3
"""Minima with energies nearer than this (eV/atom) count as the same."""
ASE = {"ASE FIRE": FIRE, "ASE LBFGS": LBFGS}


def crystals(count: int, seed: int = 0) -> tuple[list[Atoms], list[str]]:
    """Structures of 6 to 48 atoms, and what kind each is."""
    rng, out, kinds = stream(seed, "relaxation"), [], []
    n_random = count // 4
    for k in range(count - n_random):
        atoms = prototype(PROTOTYPES[k % len(PROTOTYPES)], ["Ti", "O"])
        atoms.set_cell(atoms.cell.array * (10.4 * len(atoms) / atoms.cell.volume) ** (1 / 3), scale_atoms=True)
        if len(atoms) <= 24:
            atoms = supercell(atoms, 48, rng)
        if len(atoms) < 6:
            atoms = atoms.repeat((2, 1, 1))
        much = k % 3 == 2
        atoms = strained(atoms, random_strain(0.04 if much else 0.02, rng))
        out.append(rattled(atoms, 0.12 if much else 0.05, rng))
        kinds.append("strained and rattled more" if much else "strained and rattled")
    out += random_crystals(n_random, seed)
    return out, kinds + ["random"] * n_random


def random_crystals(count: int, seed: int) -> list[Atoms]:
    """By the builder of random crystals."""
    from rutile.build.plan import images, make_plan
    from rutile.build.settings import Guards, RandomCrystalSettings
    from rutile.tasks.forces import calculator

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "random.extxyz"
        step = RandomCrystalSettings(
            formulas=("TiO2",), atoms=(6, 24), count=count, guards=Guards(closest=0.8, volume=(0.7, 1.4))
        )
        make_plan([step], seed, out, calculator, SilentReporter())
        return list(images(out))


if __name__ == "__main__":
    a, k = crystals(100)
    print(sorted(len(x) for x in a))
