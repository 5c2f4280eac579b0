"""Cu-Au by effective medium theory: relaxations until a search of variable composition has the whole convex hull.

    python benchmarks/search_cuau.py [seeds=0-9] [most=1000] [ways=rutile,random]

The answer is known by enumeration: every order of up to 8 atoms on fcc, bcc, hcp and double hcp (icet, extra `sqs`),
relaxed with its cell, 2000 structures or so. A search begins with nothing, with 2 to 8 atoms in the cell, relaxes in
groups of 8 that count whole, and ends when it has every corner of that hull, or after `most` relaxations.

    rutile   the search with its defaults
    random   the same with all operators off: new crystals with random space groups only

A corner counts as found when the energy at its composition is within 0.1 meV/atom of the enumeration ("near": within
0.5 meV/atom). Also noted: when the energies of L1_2 Cu3Au and L1_0 CuAu are reached, which are not on this hull. Runs
that are in the results already are not repeated. Writes results/search_cuau.{json,md} after every run.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import RESULTS, _version, write
from ase import Atoms
from ase.build import bulk
from icet.tools import enumerate_structures

from rutile.build.sizes import reference_volume
from rutile.search.genetic import Genetic
from rutile.search.individual import Candidate
from rutile.search.mixtures import Mixtures
from rutile.search.ranking import AboveHull
from rutile.search.relaxing import Raiser, Relaxer
from rutile.search.settings import CrystalSearch, GeneticSettings
from rutile.simulate.hull import convex_hull
from rutile.simulate.settings import RelaxSettings
from rutile.structures.symmetry import describe_crystal
from rutile.tasks.search import SearchSettings

MOST_ATOMS = 8
GROUP = 8
EXACT, NEAR = 1e-4, 5e-4
VARIANTS = SearchSettings.model_fields["variants"].default
RELAXER = Relaxer(
    Path("emt"), "float64", "cpu", None,
    RelaxSettings(fmax=0.01, smax=0.05, max_steps=500, max_move=0.4, cell="full"),
)  # fmt: skip
LATTICES = {
    "fcc": bulk("Cu", "fcc", a=3.6),
    "bcc": bulk("Cu", "bcc", a=2.9),
    "hcp": bulk("Cu", "hcp", a=2.55, c=4.16),
    "dhcp": Atoms(
        "Cu4", cell=bulk("Cu", "hcp", a=2.55, c=8.33).cell, pbc=True,
        scaled_positions=[(0, 0, 0), (1 / 3, 2 / 3, 0.25), (0, 0, 0.5), (2 / 3, 1 / 3, 0.75)],
    ),
}  # fmt: skip
ORDERS = {"L1_2": ("Cu3Au", "Pm-3m"), "L1_0": ("CuAu", "P4/mmm")}


def settings() -> CrystalSearch:
    """What is searched for."""
    return CrystalSearch(atoms=(2, MOST_ATOMS))


def enumerated() -> dict[str, Any]:
    """The hull of all orders on the lattices, and the energies of two that are known from experiment."""
    order = AboveHull(Mixtures("Cu-Au", settings()).compositions)
    found: list[tuple[str, Atoms, float]] = []
    for name, cell in LATTICES.items():
        every = list(enumerate_structures(cell, range(1, MOST_ATOMS // len(cell) + 1), ["Cu", "Au"]))
        for atoms in every:
            part = reference_volume(atoms.numbers) * len(atoms) / atoms.cell.volume
            atoms.set_cell(atoms.cell.array * part ** (1 / 3), scale_atoms=True)
        for k in range(0, len(every), 64):
            group = [Candidate(k + j, a, "", ()) for j, a in enumerate(every[k : k + 64])]
            for _, done in RELAXER(group):
                if not done.failure:
                    found.append((name, done.atoms, done.energy))
                    order.take(done.atoms, done.energy)
    parts = np.array([order.parts(atoms) for _, atoms, _ in found])
    lowest: dict[str, int] = {}
    for k, (_, atoms, energy) in enumerate(found):
        name = order.name(atoms)
        if name not in lowest or energy < found[lowest[name]][2]:
            lowest[name] = k
    rows = list(lowest.values())
    hull = convex_hull(parts[rows], np.array([found[k][2] for k in rows]))
    corners = {
        name: {
            "energy": found[k][2], "formation": float(hull.formation[n]), "atoms": len(found[k][1]),
            "spacegroup": describe_crystal(found[k][1]).spacegroup,
        }
        for n, (name, k) in enumerate(lowest.items())
        if hull.above[n] == 0
    }  # fmt: skip
    orders = {
        text: min(
            e for lattice, a, e in found
            if lattice == "fcc" and order.name(a) == formula and describe_crystal(a).spacegroup == group
        )
        for text, (formula, group) in ORDERS.items()
    }  # fmt: skip
    return {"structures": len(found), "hull": corners, "orders": orders}


def searched(way: str, seed: int, most: int, known: dict[str, Any]) -> dict[str, Any]:
    """Relaxations until each corner of the hull, and until all."""
    problem = Mixtures("Cu-Au", settings())
    off = {op.name: 0.0 for op in problem.operators} if way == "random" else {}
    search = Genetic(problem, GeneticSettings(operators=off), seed)
    wanted = {f"{name} exact": (name, row["energy"] + EXACT) for name, row in known["hull"].items()}
    wanted |= {f"{name} near": (name, row["energy"] + NEAR) for name, row in known["hull"].items()}
    wanted |= {text: (ORDERS[text][0], energy + EXACT) for text, energy in known["orders"].items()}
    order, lowest, at = search.ranking, dict[str, float](), dict[str, int]()
    assert isinstance(order, AboveHull)
    work = Raiser(search.breeder, RELAXER, 1 if way == "random" else VARIANTS)
    for group in search.orders(GROUP, most):
        for child, one in work(group):
            search.settle(child)
            search.receive([(child.number, one)])
            if not one.failure:
                name = order.name(one.atoms)
                lowest[name] = min(one.energy, lowest.get(name, np.inf))
        for text, (name, energy) in wanted.items():
            if lowest.get(name, np.inf) <= energy:
                at.setdefault(text, search.done)
        if len(at) == len(wanted):
            break
    below = {name: lowest[name] - row["energy"] for name, row in known["hull"].items() if name in lowest}
    return {"relaxations": search.done, "found": len(at) == len(wanted), "at": at, "below": below}


def as_table(known: dict[str, Any], runs: dict[str, Any], most: int) -> str:
    """The hull, and success and relaxations of each way."""
    lines = [f"Hull of {known['structures']} enumerated structures:", "",
             "| composition | space group | atoms | formation (meV/atom) |", "|---|---|---:|---:|"]  # fmt: skip
    for name, row in known["hull"].items():
        lines.append(f"| {name} | {row['spacegroup']} | {row['atoms']} | {1000 * row['formation']:.2f} |")
    lines += ["", "Relaxations until found, median (range) over the runs that found it:", "",
              "| what | " + " | ".join(("rutile", "random")) + " |", "|---|---|---|"]  # fmt: skip
    names = [f"{n} exact" for n in known["hull"]] + [*known["orders"]]
    whole = {"whole hull within 0.5 meV/atom": "near", "whole hull within 0.1 meV/atom": "exact"}
    for text in (*names, *whole):
        cells = []
        for way in ("rutile", "random"):
            mine = [r["at"] for n, r in runs.items() if n.startswith(f"{way}:")]
            ends = [f"{n} {whole[text]}" for n in known["hull"]] if text in whole else [text]
            counts = [max(at[e] for e in ends) for at in mine if all(e in at for e in ends)]
            span = f"{np.median(counts):.0f} ({min(counts)} to {max(counts)})" if counts else "-"
            cells.append(f"{len(counts)}/{len(mine)}: {span}")
        lines.append(f"| {text.removesuffix(' exact')} | {' | '.join(cells)} |")
    lower = min((d for r in runs.values() for d in r["below"].values()), default=0.0)
    lines += ["", f"Runs end after {most} relaxations. The lowest energy that a search has below the enumeration: "
              f"{-1000 * min(lower, 0):.3f} meV/atom.", ""]  # fmt: skip
    return "\n".join(lines)


def main(words: list[str]) -> None:
    """All runs, and the tables."""
    torch.set_num_threads(1)
    given = dict(w.split("=", 1) for w in words)
    first, last = (int(n) for n in given.get("seeds", "0-9").split("-"))
    most = int(given.get("most", 1000))
    file = RESULTS / "search_cuau.json"
    kept = json.loads(file.read_text()) if file.exists() else {}
    known = kept.get("enumerated") or enumerated()
    for seed in range(first, last + 1):
        for way in given.get("ways", "rutile,random").split(","):
            runs = json.loads(file.read_text())["runs"] if file.exists() else {}
            name = f"{way}:{seed}"
            if name in runs:
                continue
            began = time.process_time()
            run = searched(way, seed, most, known)
            run["seconds"] = round(time.process_time() - began, 1)
            runs = (json.loads(file.read_text())["runs"] if file.exists() else {}) | {name: run}
            print(name, run, flush=True)
            result = {"most": most, "version": _version(), "enumerated": known, "runs": runs}
            write("search_cuau", result, as_table(known, runs, most))


if __name__ == "__main__":
    main(sys.argv[1:])
