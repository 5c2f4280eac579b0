"""Throughput of relaxations: 1 000 TiO2 crystals together, and one by one through ASE, to the same minima.

    python benchmarks/relaxation.py [--quick] [--models behler,rigid_ion,PATH] [--every 25] [--seconds 240]
        [--count 1000] [--precisions float64,float32] [--name relaxation]

The crystals have 6 to 48 atoms: strained, rattled and repeated prototypes, and random ones, made by rutile's builders.
Together: `simulate.relax`, atoms and cells. One by one: ASE's FIRE and LBFGS with FrechetCellFilter and the calculator
of the same potential in the same precision, to the same fmax and smax, for every 25th crystal of each kind (--every 1:
for all), and that time is scaled up by kinds. Times are processor times of one thread, so that other programs disturb
them little. `behler` is trained for a while first (as `rutile demo` does); PATH is a model file or the folder of a run.

Writes results/relaxation.json and .md, or those of --name.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import write
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

from rutile.build.crystals import prototype
from rutile.build.distort import random_strain, rattled, strained, supercell
from rutile.build.plan import images, make_plan
from rutile.build.settings import Guards, RandomCrystalSettings
from rutile.core.errors import GeometryError
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.core.units import GPA
from rutile.potentials.calculator import RutileCalculator
from rutile.potentials.classical import open_model
from rutile.potentials.potential import Potential
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxFire, RelaxLbfgs, RelaxOptimizer, RelaxSettings
from rutile.structures.structures import Structures
from rutile.structures.symmetry import describe_crystal
from rutile.tasks.forces import MECHANICS

PROTOTYPES = ("rutile", "anatase", "brookite", "columbite", "fluorite", "pyrite", "cadmium_iodide")
VOLUME = 10.4
"""Of the prototypes before they are strained (Angstrom^3 per atom)."""
FMAX, SMAX, STEPS = 0.01, 0.05, 500
"""eV/Angstrom, GPa, and steps at most, for all."""
SAME = 1e-3
"""Minima with energies nearer than this (eV/atom) count as the same."""
OURS: dict[str, RelaxOptimizer] = {"L-BFGS": RelaxLbfgs(), "FIRE": RelaxFire()}
THEIRS = {"FIRE": FIRE, "LBFGS": LBFGS}


def main() -> None:
    """Measure, and write results/relaxation.json and .md."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="60 crystals, 6 of them through ASE, behler trained 60 s")
    words.add_argument("--models", default="behler,rigid_ion", help="names or paths, with commas between")
    words.add_argument("--precisions", default="float64,float32", help="of potentials that know both")
    words.add_argument("--count", type=int, default=1000, help="crystals")
    words.add_argument("--every", type=int, default=25, help="of them, every so many go through ASE")
    words.add_argument("--seconds", type=float, default=240, help="to train behler")
    words.add_argument("--name", default="relaxation", help="of the results")
    given = words.parse_args()
    if given.quick:
        given.count, given.every, given.seconds, given.precisions = 60, 10, 60.0, "float32"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of extrapolation: random crystals are unlike the training set
    atoms, kinds = crystals(given.count)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models.split(","):
            path = trained(Path(folder), given.seconds) if name == "behler" else Path(name)
            for precision in ("float64",) if name == "rigid_ion" else given.precisions.split(","):
                (potential,) = open_model(path).members(getattr(torch, precision), "cpu", None)
                rows += compared(f"{name}, {precision}", potential, atoms, kinds, given.every)
                note = {"count": given.count, "every": given.every, "fmax": FMAX, "smax": SMAX, "steps": STEPS}
                write(
                    given.name,
                    {**note, "atoms": sum(map(len, atoms)), "rows": rows},
                    as_table(rows, atoms, given.every),
                )


def trained(folder: Path, seconds: float) -> Path:
    """The demo's potential, trained on the starter set."""
    from rutile.tasks import demo, train

    settings = demo.DemoSettings(out=folder / "demo", seconds=seconds)
    settings.out.mkdir()
    job = demo.train_settings(settings, demo.write_parts(settings))
    return demo.run_or_begin_anew(train.run, job, SilentReporter()).model


def crystals(count: int, seed: int = 0) -> tuple[list[Atoms], list[str]]:
    """Structures of 6 to 48 atoms, and what kind each is."""
    rng, out, kinds = stream(seed, "relaxation"), [], []
    n_random = count // 4
    for k in range(count - n_random):
        atoms = prototype(PROTOTYPES[k % len(PROTOTYPES)], ["Ti", "O"])  # type: ignore[arg-type]
        atoms.set_cell(atoms.cell.array * (VOLUME * len(atoms) / atoms.cell.volume) ** (1 / 3), scale_atoms=True)
        if len(atoms) < 6:
            atoms = atoms.repeat((2, 1, 1))
        if len(atoms) <= 24:
            atoms = supercell(atoms, 48, rng)
        much = k % 3 == 2
        atoms = strained(atoms, random_strain(0.04 if much else 0.02, rng))
        out.append(rattled(atoms, 0.12 if much else 0.05, rng))
        kinds.append("strained and rattled more" if much else "strained and rattled")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.extxyz"
        guards = Guards(closest=0.8, volume=(0.7, 1.4))
        step = RandomCrystalSettings(formulas=("TiO2",), atoms=(6, 24), count=n_random, guards=guards)
        make_plan([step], seed, path, MECHANICS, SilentReporter())
        found = [rattled(a, 0.05, rng) for a in images(path)]  # as made they may be on saddles
    return out + found, kinds + ["random"] * len(found)


def compared(
    name: str, potential: Potential, atoms: Sequence[Atoms], kinds: Sequence[str], every: int
) -> list[dict[str, Any]]:
    """Both ways with one potential: a row for each optimizer."""
    places: Counter[str] = Counter()
    sample = []
    for k, kind in enumerate(kinds):
        if places[kind] % every == 0:
            sample.append(k)
        places[kind] += 1
    structures = Structures.from_ase(list(atoms))
    relax(Structures.from_ase(atoms[0]), potential, settings(RelaxLbfgs(), 3), SilentReporter())  # kernels are built
    rows: list[dict[str, Any]] = []
    ends_of: dict[str, tuple[np.ndarray, list[str]]] = {}
    for label, optimizer in OURS.items():
        began = time.process_time()
        done = relax(structures, potential, settings(optimizer), SilentReporter())
        seconds = time.process_time() - began
        energy = (done.energy / structures.counts).numpy()
        groups = [group(a) for a in done.structures.to_ase()]
        row = row_of(name, f"together, {label}", seconds, done.steps.tolist(), done.converged.tolist())
        ends_of[row["way"]] = energy[sample], [groups[k] for k in sample]
        rows.append(row)
        print(row, flush=True)
    for label, kind_of in THEIRS.items():
        ends = [one_by_one(atoms[k], potential, kind_of) for k in sample]
        seconds = 0.0
        for kind, total in places.items():
            mine = [e["seconds"] for e, k in zip(ends, sample, strict=True) if kinds[k] == kind]
            seconds += total * float(np.mean(mine))
        row = row_of(name, f"ASE {label}", seconds, [e["steps"] for e in ends], [e["converged"] for e in ends])
        ends_of[row["way"]] = np.array([e["energy"] for e in ends]), [e["group"] for e in ends]
        rows.append(row)
        print(row, flush=True)
    for row in rows:
        row["times_faster"] = round(row["seconds"] / rows[0]["seconds"], 2)
        row["same"] = {way: likeness([kinds[k] for k in sample], ends_of[row["way"]], e) for way, e in ends_of.items()}
    return rows


def settings(optimizer: RelaxOptimizer, steps: int = STEPS) -> RelaxSettings:
    """Limits of all relaxations."""
    return RelaxSettings(cell="full", fmax=FMAX, smax=SMAX, max_steps=steps, optimizer=optimizer)


def row_of(name: str, way: str, seconds: float, steps: Sequence[int], converged: Sequence[bool]) -> dict[str, Any]:
    """One line of the table."""
    return {
        "potential": name,
        "way": way,
        "seconds": round(seconds, 2),
        "structures": len(steps),
        "mean_steps": round(float(np.mean(steps)), 1),
        "converged": int(np.sum(converged)),
    }


def likeness(
    kinds: Sequence[str], one: tuple[np.ndarray, list[str]], other: tuple[np.ndarray, list[str]]
) -> dict[str, list[int]]:
    """Of each kind: minima of two ways with the same energy and space group, of how many, lower ones, higher ones."""
    away = one[0] - other[0]
    same = (np.abs(away) <= SAME) & np.array([a == b for a, b in zip(one[1], other[1], strict=True)])
    kind = np.array(kinds)
    return {
        str(k): [
            int(sum(part)) for part in (same[kind == k], kind == k, (away < -SAME)[kind == k], (away > SAME)[kind == k])
        ]
        for k in dict.fromkeys(kinds)
    }


def one_by_one(given: Atoms, potential: Potential, kind_of: Any) -> dict[str, Any]:
    """One relaxation through ASE, to the same limits."""
    atoms = given.copy()
    atoms.calc = RutileCalculator([potential])
    began = time.process_time()
    steps, converged, energy = 0, False, np.nan
    try:
        for _ in kind_of(FrechetCellFilter(atoms), logfile=None).irun(fmax=1e-9, steps=STEPS):
            force = np.linalg.norm(atoms.get_forces(), axis=1).max()
            energy = float(atoms.get_potential_energy())
            converged = bool(force <= FMAX and np.abs(atoms.get_stress()).max() <= SMAX * GPA)
            if converged:
                break
            steps += 1
    except GeometryError:
        pass  # two atoms at one place
    seconds = time.process_time() - began
    return {
        "seconds": seconds, "steps": steps, "converged": converged, "energy": energy / len(atoms),
        "group": group(atoms),
    }  # fmt: skip


def group(atoms: Atoms) -> str:
    """Space group, or "" where none is found."""
    try:
        return describe_crystal(atoms).spacegroup
    except GeometryError:
        return ""


def as_table(rows: list[dict[str, Any]], atoms: Sequence[Atoms], every: int) -> str:
    """The rows for people."""
    lines = [
        f"{len(atoms)} crystals of TiO2 with 6 to 48 atoms ({sum(map(len, atoms))} in all), atoms and cells, to "
        f"{FMAX} eV/Å and {SMAX} GPa in at most {STEPS} steps. Processor time of one thread. ASE: every {every}th "
        "crystal of each kind, one by one, and the time scaled up.",
        "",
        "| potential | way | time (s) | times the first | mean steps | converged |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['potential']} | {r['way']} | {r['seconds']} | {r['times_faster']} | {r['mean_steps']} "
        f"| {r['converged']}/{r['structures']} |"
        for r in rows
    ]
    ways = list(rows[0]["same"])
    lines += [
        "",
        f"Of the crystals that went through ASE, how many end in the same minimum both ways (energy within "
        f"{1000 * SAME:g} meV/atom and the space group), by kind ({'; '.join(rows[0]['same'][ways[0]])}). Where two "
        "optimizers of the same code differ too, the energy has several minima near the start.",
        "",
        f"| potential | way | {' | '.join(ways)} |",
        "|---|---|" + "---|" * len(ways),
    ]
    for r in rows:
        cells = ("; ".join(f"{x[0]}/{x[1]}" for x in r["same"][way].values()) for way in ways)
        lines.append(f"| {r['potential']} | {r['way']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
