"""What a step of molecular dynamics costs outside the potential, by CPU time.

    python benchmarks/md_overhead.py [--quick] [only=behler:192,anatase:192,behler:12000,anatase:12000,FILE:192]

Rutile at 300 K, 1 fs, with untrained weights whose forces are made so small that atoms fly as they will: a potential's
time does not depend on its weights. Neighbours are searched again every 30 to 45 steps then, as in a hot gas; a model
FILE holds its atoms together, and they are searched for once. Everything that `rutile md` does is counted: the log
every 10 steps, frames every 100, thermostat (CSVR), neighbour list with its skin, stop rules. `potential` is the time
in `evaluate_members`, `neighbours` that for the list and the graph that the potential sees, `loop` all the rest. One
thread, float32. Writes results/md_overhead.{json,md}; ends with 1 where neighbours and loop take more than 10 % of a
step at 192 atoms, or 3 % at 12 000.
`--quick`: 192 atoms only, and fewer steps; nothing is written.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accuracy import write
from workloads import rutile_tio2

import rutile.simulate.forces
from rutile.potentials.catalogue import make
from rutile.potentials.classical import open_model
from rutile.potentials.settings import AnataseSettings, BehlerSettings
from rutile.simulate.forces import ForceField
from rutile.simulate.md.loop import Dynamics
from rutile.simulate.md.record import Record, Recording
from rutile.simulate.md.settings import CsvrSettings, MdSettings
from rutile.structures.structures import Structures

REPEATS = {192: (2, 4, 4), 12000: (10, 10, 20)}
STEPS = {192: 100, 12000: 40}
ALLOWED = {192: 0.10, 12000: 0.03}
WEAK = 1e-9
"""Energy (eV) that stands for a network output of 1."""


class Clock:
    """Adds up the CPU time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, timed."""

        def inner(*args: Any, **more: Any) -> Any:
            began = time.process_time()
            try:
                return call(*args, **more)
            finally:
                self.seconds += time.process_time() - began

        return inner


def potential(name: str) -> Any:
    """Untrained, with forces that are next to nothing; or of a model file."""
    if Path(name).exists():
        return open_model(Path(name)).members(torch.float32, "cpu", None)[0].eval()
    settings = BehlerSettings(table="tio2_artrith_urban_2016") if name == "behler" else AnataseSettings()
    made = make(settings, (8, 22)).float()
    made.set_energy_scale(WEAK)
    return made.eval()


def measure(name: str, atoms: int, steps: int) -> dict[str, Any]:
    """CPU milliseconds of a step and their shares."""
    model, looks = Clock(), Clock()
    evaluate, look = rutile.simulate.forces.evaluate_members, ForceField.look
    how = MdSettings(ensemble=CsvrSettings(temperature=300), time=(steps + 2) / 1000, timestep=1)
    dynamics = Dynamics([potential(name)], how)
    state = dynamics.begin(Structures.from_ase(rutile_tio2(REPEATS[atoms])))
    rutile.simulate.forces.evaluate_members = model.timed(evaluate)
    ForceField.look = looks.timed(look)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            record = Record(Path(folder), dynamics, Recording(100, 10, "extxyz", True, False), {}, ["rutile"])
            record.begin(state)
            for k, moment in enumerate(dynamics.run(state)):
                record.write(moment.state, moment.stopped)
                if k == 1:
                    began, model.seconds, looks.seconds = time.process_time(), 0.0, 0.0
            whole = time.process_time() - began
    finally:
        rutile.simulate.forces.evaluate_members, ForceField.look = evaluate, look  # type: ignore[method-assign]
    assert not record.stopped, record.stopped
    return {
        "step_ms": round(1e3 * whole / steps, 3),
        "potential": round(model.seconds / whole, 4),
        "neighbours": round((looks.seconds - model.seconds) / whole, 4),
        "loop": round(1 - looks.seconds / whole, 4),
        "steps": steps,
        "searches": dynamics.field.neighbors.searches,
    }


def main(words: list[str]) -> None:
    """Measure, and write the table."""
    torch.set_num_threads(1)
    quick = "--quick" in words
    usual = ",".join(["behler:192", "anatase:192"] if quick else ["behler:192", "anatase:192", "behler:12000"])
    only = next((w.split("=", 1)[1] for w in words if w.startswith("only=")), usual)
    results, good = {}, True
    for case in only.split(","):
        name, atoms = case.split(":")
        found = measure(name, int(atoms), 40 if quick else STEPS[int(atoms)])
        good &= 1 - found["potential"] < ALLOWED[int(atoms)]
        print(f"{case}: {found}", flush=True)
        results[f"{Path(name).stem}:{atoms}"] = found
    lines = ["| potential | atoms | step (ms, CPU) | potential | neighbours | loop |", "|---|---:|---:|---:|---:|---:|"]
    for case, r in results.items():
        name, atoms = case.split(":")
        shares = " | ".join(f"{100 * r[key]:.1f} %" for key in ("potential", "neighbours", "loop"))
        lines.append(f"| {Path(name).stem} | {atoms} | {r['step_ms']:.1f} | {shares} |")
    if quick:
        print("\n".join(lines))
    if not quick:
        write("md_overhead", results, "\n".join(lines) + "\n")
    sys.exit(int(not good))


if __name__ == "__main__":
    main(sys.argv[1:])
