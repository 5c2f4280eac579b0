"""Cost and memory of energy, forces and stress of one TiO2 crystal against its size, 1 500 to 24 000 atoms.

On one thread: with several, a busy machine makes them wait for one another. Each size runs in a process of its own, so
that its peak memory is its own. The exponent is the slope of log(time) against log(atoms); 1 is linear.

    python benchmarks/scaling.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

SIZES = ((6, 6, 7), (8, 8, 8), (10, 10, 10), (13, 13, 12), (16, 16, 16))
"""Repeats of a cell of 6 atoms: 1 512 to 24 576."""
REPEATS = 3


def main() -> None:
    """Measure, and write results/scaling.json and .md."""
    from accuracy import write

    rows = []
    for size in SIZES:
        words = [sys.executable, __file__, *map(str, size)]
        rows.append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    atoms, times = ([row[key] for row in rows] for key in ("atoms", "seconds"))
    exponent = float(np.polyfit(np.log(atoms), np.log(times), 1)[0])
    table = "| atoms | time (s) | us per atom | peak memory (MB) |\n|---|---|---|---|\n"
    for row in rows:
        each = 1e6 * row["seconds"] / row["atoms"]
        table += f"| {row['atoms']} | {row['seconds']:.3f} | {each:.1f} | {row['peak_mb']} |\n"
    table += f"\nExponent {exponent:.3f}.\n"
    write("scaling", {"rows": rows, "exponent": round(exponent, 4)}, table)


def measure(repeats: tuple[int, int, int]) -> dict[str, Any]:
    """Fastest of a few calls, and the peak memory of this process (interpreter and libraries included)."""
    import torch
    from workloads import moves, rutile_tio2

    from rutile.potentials.behler import Behler
    from rutile.potentials.evaluate import evaluate
    from rutile.potentials.settings import BehlerSettings
    from rutile.structures.structures import Structures

    torch.set_num_threads(1)
    atoms = rutile_tio2(repeats)
    model = Behler(BehlerSettings(table="tio2_artrith_urban_2016"), (8, 22))
    times = []
    for positions in moves(atoms, REPEATS):
        batch = Structures.from_arrays(atoms.numbers, positions, atoms.cell.array, atoms.pbc)
        began = time.perf_counter()
        evaluate(model, batch)
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"atoms": len(atoms), "seconds": round(min(times), 4), "peak_mb": round(peak)}


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure((int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))))
    else:
        main()
