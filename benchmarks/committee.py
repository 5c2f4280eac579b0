"""Cost of committees: all members in one pass, and one after another.

Energy, forces and stress of new positions at every call, neighbour search included, by members of default settings with
random weights. Times are processor times of one thread, so that other programs on the machine disturb them little.

    python benchmarks/committee.py
"""

from __future__ import annotations

import time
from typing import Any

import torch
from accuracy import write
from workloads import moves, rutile_tio2, time_calls

from rutile.core.native import reason
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate, evaluate_members
from rutile.potentials.settings import AniSettings, BehlerSettings
from rutile.structures.structures import Structures

REPEATS = 9
SIZES = (1, 4, 8)
KINDS = {
    "Behler-Parrinello, 70 functions": BehlerSettings(table="tio2_artrith_urban_2016"),
    "ANI-2x constants and widths": AniSettings(),
}


def main() -> None:
    """Measure, and write results/committee.json and .md."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for repeats in ((2, 2, 4), (4, 4, 4)):
        atoms = rutile_tio2(repeats)
        for kind, settings in KINDS.items():
            for dtype in (torch.float64, torch.float32):
                steps = [
                    Structures.from_arrays(atoms.numbers, p, atoms.cell.array, atoms.pbc, dtype)
                    for p in moves(atoms, 8)
                ]
                members = [make(settings, (8, 22), k).to(dtype).requires_grad_(False) for k in range(max(SIZES))]
                for n in SIZES:
                    row = {"potential": kind, "atoms": len(atoms), "precision": str(dtype)[6:], "members": n}
                    rows.append(row | compared(members[:n], steps))
    write("committee", {"kernels": reason(), "rows": rows}, as_table(rows))


def compared(members: list[Any], steps: list[Structures]) -> dict[str, Any]:
    """Times together and one after another."""
    together = time_calls(lambda k: evaluate_members(members, steps[k % 8]), REPEATS, time.process_time)
    alone = time_calls(lambda k: [evaluate(m, steps[k % 8]) for m in members], REPEATS, time.process_time)
    return {"together": together, "one_after_another": alone}


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows for people: minima, which other programs disturb least."""
    lines = [
        "Energy, forces and stress of rutile; processor time of one thread, least of several calls.",
        "",
        "| potential | atoms | precision | members | together (ms) | one after another (ms) | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        together, alone = row["together"]["min_ms"], row["one_after_another"]["min_ms"]
        lines.append(
            f"| {row['potential']} | {row['atoms']} | {row['precision']} | {row['members']} | {together} | {alone} "
            f"| {alone / together:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
