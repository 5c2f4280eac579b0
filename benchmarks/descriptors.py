"""Speed of Behler-Parrinello energies and forces, beside DScribe's ACSF and n2p2.

rutile: neighbour search, symmetry functions, networks, energy, forces and stress of new positions at every call.
DScribe: values of the symmetry functions alone (the same functions, and two of its own that cannot be left out), run
in the same minutes by the interpreter that DSCRIBE_PYTHON names (an environment with `pip install dscribe ase`).
n2p2: its water potential's functions and networks of 25-25-1. It cannot be installed from a package registry, so that
the figure beside ours is one measured earlier on a machine of the same kind (C++, one thread, float64), not now.

    DSCRIBE_PYTHON=/path/to/python python benchmarks/descriptors.py
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from accuracy import write
from ase import Atoms
from ase.io import write as write_atoms
from water_table import water_table
from workloads import moves, rutile_tio2, time_calls, water

from rutile.core.native import reason
from rutile.potentials.behler import Behler
from rutile.potentials.evaluate import evaluate
from rutile.potentials.parts.tables import compact, expand, read_table
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import Structures

REPEATS = 15
TIO2 = "tio2_artrith_urban_2016"
N2P2_WATER_MS = 42.0
DSCRIBE = """
import json, statistics, sys, time
import numpy as np
from ase.io import read
from dscribe.descriptors import ACSF
atoms, setup, repeats = read(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
acsf = ACSF(species=["O", "Ti"], r_cut=setup["r_cut"], g2_params=setup["g2"], g4_params=setup["g4"], periodic=True)
rng, start, times = np.random.default_rng(1), atoms.positions.copy(), []
for k in range(repeats + 1):
    atoms.positions = start + 0.002 * rng.normal(size=start.shape)
    began = time.perf_counter()
    acsf.create(atoms)
    times.append(1e3 * (time.perf_counter() - began))
print(json.dumps({"median_ms": round(statistics.median(times[1:]), 3), "min_ms": round(min(times[1:]), 3)}))
"""


def main() -> None:
    """Measure, and write results/descriptors.json and .md."""
    table = expand(read_table(TIO2))
    rows: list[dict[str, Any]] = []
    for repeats in ((2, 2, 2), (2, 2, 4), (4, 4, 4)):
        atoms = rutile_tio2(repeats)
        for threads in (1, 2):
            row = {"system": "TiO2, 70 functions", "atoms": len(atoms), "threads": threads}
            peer = dscribe(atoms, table, threads)
            model = BehlerSettings(table=TIO2)
            rows.append(row | {"rutile": ours(model, (8, 22), atoms, threads), "dscribe_values_only": peer})
    model = BehlerSettings(table=compact(water_table()), hidden=(25, 25))
    for threads in (1, 2):
        row = {"system": "water, n2p2's 27 + 30 functions", "atoms": 192, "threads": threads}
        earlier = {"median_ms": N2P2_WATER_MS, "measured": "earlier, on a machine of this kind"}
        rows.append(row | {"rutile": ours(model, (1, 8), water(), threads), "n2p2": earlier if threads == 1 else None})
    write("descriptors", {"kernels": reason(), "rows": rows}, as_table(rows))


def ours(settings: BehlerSettings, elements: tuple[int, ...], atoms: Atoms, threads: int) -> dict[str, Any]:
    """Times of energy, forces and stress in both precisions."""
    torch.set_num_threads(threads)
    found = {}
    for dtype in (torch.float64, torch.float32):
        model = Behler(settings, elements, torch.Generator().manual_seed(0)).to(dtype)
        steps = [Structures.from_arrays(atoms.numbers, p, atoms.cell.array, atoms.pbc, dtype) for p in moves(atoms, 8)]
        found[str(dtype)[6:]] = time_calls(lambda k, m=model, s=steps: evaluate(m, s[k % 8]), REPEATS)
    return found


def dscribe(atoms: Atoms, table: Any, threads: int) -> dict[str, float] | None:
    """Times of DScribe's values; None where it is not installed."""
    python = os.environ.get("DSCRIBE_PYTHON")
    if python is None:
        return None
    rows = [f for f in table.functions[22] if f.neighbors in ((8,), (8, 8))]
    setup = {
        "r_cut": table.cutoff,
        "g2": [[f.eta, f.r_s] for f in rows if f.kind == "G2"],
        "g4": [[f.eta, f.zeta, f.lambda_] for f in rows if f.kind == "G4"],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "atoms.xyz"
        write_atoms(file, atoms, format="extxyz")
        done = subprocess.run(
            [python, "-c", DSCRIBE, str(file), json.dumps(setup), str(REPEATS if len(atoms) < 100 else 3)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
    return json.loads(done.stdout)


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        "| system | atoms | threads | rutile E + F + stress, float64 (ms) | float32 (ms) | peer (ms) | peer / rutile |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        double, single = row["rutile"]["float64"]["median_ms"], row["rutile"]["float32"]["median_ms"]
        name, peer = (
            ("n2p2 E + F, measured earlier", row["n2p2"])
            if "n2p2" in row
            else ("DScribe, values only", row["dscribe_values_only"])
        )
        if peer is None:
            what, ratio = "not measured", ""
        else:
            what, ratio = f"{peer['median_ms']} ({name})", f"{peer['median_ms'] / double:.1f}"
        lines.append(
            f"| {row['system']} | {row['atoms']} | {row['threads']} | {double} | {single} | {what} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
