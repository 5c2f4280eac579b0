"""Speed of DeepPot-SE with tables ("compressed") beside its embedding nets, and how far the two differ.

192 atoms of water with the published sizes (embedding 25-50-100, axis 16, fitting 240-240-240, cutoff 6 Angstrom).
The networks are trained on a few frames first where the water set of the shared data is at hand; otherwise they are
random, and said to be. Times are of neighbour search, energy, forces and stress of new positions at every call, in
processor time of one thread, the two in turn, so that what else the machine does counts little.

    python benchmarks/deeppot_compressed.py [folder of the water set]
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from accuracy import SHARED, write
from ase import Atoms
from ase.io import read as read_atoms
from ase.io import write as write_atoms
from workloads import moves, water

from rutile.core.native import reason
from rutile.core.reporting import SilentReporter
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.deeppot_se import DeepPotSE
from rutile.potentials.evaluate import evaluate
from rutile.potentials.save import load_model
from rutile.potentials.settings import DeepPotSESettings
from rutile.structures.structures import Structures
from rutile.tasks import train

REPEATS = 11
SETTINGS = DeepPotSESettings()
FRAMES, SECONDS = 20, 90.0
"""Training before the comparison."""


def main(words: list[str]) -> None:
    """Measure, and write results/deeppot_compressed.json and .md."""
    file = Path(words[0] if words else SHARED / "water-deepmd" / "public") / "train.extxyz"
    slow, what = (trained(file), f"trained on {FRAMES} frames") if file.exists() else (untrained(), "random networks")
    began = time.perf_counter()
    fast = slow.compressed()
    seconds = time.perf_counter() - began
    torch.set_num_threads(1)
    rows = [compare(slow, fast, water(), dtype) for dtype in (torch.float64, torch.float32)]
    tables = fast.tables
    about = {
        "kernels": reason(),
        "weights": what,
        "atoms": len(water()),
        "intervals": [tables.size.fine, tables.size.coarse],
        "table_megabytes": round(tables.values.nbytes / 1e6, 2),
        "seconds_to_compress": round(seconds, 2),
        "rows": rows,
    }
    write("deeppot_compressed", about, as_table(about))


def trained(file: Path) -> DeepPotSE:
    """Networks after a short training on frames of liquid water."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "frames.extxyz"
        frames = read_atoms(file, ":")
        write_atoms(data, frames[:: max(1, len(frames) // FRAMES)][:FRAMES])
        settings = train.TrainTaskSettings.model_validate(
            {"data": [data], "out": Path(folder) / "run", "potential": SETTINGS, "max_seconds": SECONDS,
             "batch_size": 1, "tensorboard": False}
        )  # fmt: skip
        potential = load_model(train.run(settings, SilentReporter()).model).potentials[0]
    assert isinstance(potential, DeepPotSE)
    return potential.requires_grad_(False)


def untrained() -> DeepPotSE:
    """Random networks with the statistics of the box of water."""
    potential = make(SETTINGS, (1, 8), 0)
    assert isinstance(potential, DeepPotSE)
    structures = Structures.from_ase([water()])
    potential.learn_statistics([build_graph(structures, find_edges(structures, potential.cutoff))])
    return potential.requires_grad_(False)


def compare(slow: DeepPotSE, fast: DeepPotSE, atoms: Atoms, dtype: torch.dtype) -> dict[str, Any]:
    """Processor times of both in one precision, and the differences of what they say."""
    steps = [Structures.from_arrays(atoms.numbers, p, atoms.cell.array, atoms.pbc, dtype) for p in moves(atoms, 8)]
    potentials = {name: copy.deepcopy(p).to(dtype) for name, p in (("embedding_nets", slow), ("tables", fast))}
    times: dict[str, list[float]] = {name: [] for name in potentials}
    for k in range(REPEATS + 1):
        for name, potential in potentials.items():
            began = time.process_time()
            evaluate(potential, steps[k % 8])
            times[name].append(1e3 * (time.process_time() - began))
    medians = {name: round(statistics.median(found[1:]), 2) for name, found in times.items()}
    least = {f"{name}_least": round(min(found[1:]), 2) for name, found in times.items()}
    a, b = (evaluate(potential, steps[0]) for potential in potentials.values())
    return {"precision": str(dtype)[6:], **medians, **least} | {
        "speed_up": round(medians["embedding_nets"] / medians["tables"], 2),
        "force_rms": float(a.forces.double().square().mean().sqrt()),
        "largest_force_difference": float((a.forces - b.forces).abs().max()),
        "energy_difference_per_atom": float((a.energy - b.energy).abs().max()) / len(atoms),
    }


def as_table(about: dict[str, Any]) -> str:
    """The rows for people."""
    lines = [
        f"{about['atoms']} atoms of water, {about['weights']}; tables of {about['table_megabytes']} MB.",
        "",
        "| precision | embedding nets (ms) | tables (ms) | speed-up | largest force difference (eV/Å) | "
        "force RMS (eV/Å) | energy difference (eV/atom) |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['precision']} | {row['embedding_nets']} | {row['tables']} | {row['speed_up']} | "
        f"{row['largest_force_difference']:.1e} | {row['force_rms']:.2f} | {row['energy_difference_per_atom']:.1e} |"
        for row in about["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
