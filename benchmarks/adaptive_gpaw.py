"""Crystals from nothing by density-functional theory: `rutile adapt` with GPAW, on this machine, in the background.

    python benchmarks/adaptive_gpaw.py silicon|tio2 python=gpaw/bin/python [out=FOLDER] [KEY=VALUE]

Cells of 2 atoms of silicon (half an hour of one core), or of 2 formula units of TiO2 (an hour), each by its plan in
`plans/`, with settings changed as given. The run in `out` (default: runs/adaptive_SYSTEM_gpaw) goes on where it was
stopped; a finished one is only written down again. What is known of TiO2 from the same labeler is said below the table:
the polymorphs of the starter set, relaxed by GPAW with more plane waves.

Writes results/adaptive_SYSTEM_gpaw.{json,md}.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from accuracy import _version, write

from rutile.starter import dft_polymorphs

PLANS = Path(__file__).parents[1] / "plans"
SYSTEMS = {"silicon": "Silicon", "tio2": "TiO₂"}
STRUCTURES = 8
"""Lowest ones that are listed."""
UNITS = 2
"""Formula units of TiO2 that a cell of the search has: polymorphs with more cannot be found."""


def main(words: list[str]) -> None:
    """Run or go on, write the tables."""
    given = dict(w.split("=", 1) for w in words if "=" in w)
    system = next((w for w in words if "=" not in w), "")
    if system not in SYSTEMS or "python" not in given:
        sys.exit(f"error: say one of {', '.join(SYSTEMS)}, and python=PYTHON of an environment with GPAW")
    python, out = given.pop("python"), given.pop("out", f"runs/adaptive_{system}_gpaw")
    plan = PLANS / f"{system}_adaptive_gpaw.yaml"
    changed = [f"{key}={value}" for key, value in given.items()]
    command = [sys.executable, "-m", "rutile", "adapt", str(plan), f"engine.python={python}", f"out={out}", *changed]
    subprocess.run(command, check=True)
    result: dict[str, Any] = json.loads((Path(out) / "result.json").read_text())
    said = " ".join(["rutile adapt", f"plans/{plan.name}", "engine.python=gpaw/bin/python", *changed])
    kept = {key: value for key, value in result.items() if not str(value).startswith(str(out))}
    write(f"adaptive_{system}_gpaw", {"command": said, "version": _version(), **kept}, as_text(system, said, result))


def as_text(system: str, said: str, result: dict[str, Any]) -> str:
    """What was found, and how the versions of the potential went."""
    relaxed = sum(s["relaxed"] for s in result["structures"])
    lines = [
        f"# {SYSTEMS[system]} from nothing, by density-functional theory", "", f"`{said}`", "",
        f"{result['labels']} labels with those of the relaxation of the {relaxed} lowest, {result['relaxations']} "
        f"relaxations on {len(result['versions'])} versions of the potential. It ended by itself: {result['ended']}.",
        "", "| structure | type | symmetry | energy (eV/atom) | above | volume (Å³/atom) | relaxed by GPAW | why |",
        "|---:|---|---|---:|---:|---:|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {s['structure']} | {s['name'] or '–'} | {s['symmetry']} | {s['energy']:.4f} | {s['above']:.4f} "
        f"| {s['volume']:.2f} | {'yes' if s['relaxed'] else 'no'} | {s['why']} |"
        for s in result["structures"][:STRUCTURES]
    ]
    lines += [
        "", "| version | learned | energy RMSE, new ones, before (eV/atom) | after | rank correlation | lowest label |",
        "|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for v in result["versions"]:
        numbers = [
            "–" if v[key] is None else f"{v[key]:.{digits}f}"
            for key, digits in (("new_energy_before", 3), ("new_energy", 3), ("correlation", 2), ("lowest", 3))
        ]
        lines.append(f"| {v['version']} | {v['learned']} | {' | '.join(numbers)} |")
    return "\n".join([*lines, *(known() if system == "tio2" else []), ""])


def known() -> list[str]:
    """What the polymorphs of the starter set say."""
    energies = {p.name: p.energy / 3 for p in dft_polymorphs() if len(p.atoms) <= 3 * UNITS}
    lowest = min(energies.values())
    order = ", ".join(f"{name} {e - lowest:.4f}" for name, e in sorted(energies.items(), key=lambda one: one[1]))
    return ["", f"Polymorphs with up to {UNITS} formula units, relaxed by GPAW (starter set), eV/atom: {order}."]


if __name__ == "__main__":
    main(sys.argv[1:])
