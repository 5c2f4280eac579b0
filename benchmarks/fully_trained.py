"""The flagship trained for hours, beside the published errors of other networks on the same molecules.

    python benchmarks/fully_trained.py [acac|aspirin] [size=medium] [epochs=1600] [threads=1] [out=FOLDER] [KEY=VALUE]

AcAc: trained on 450 molecules at 300 K (50 more are only looked at), tested at 300 K and at 600 K without every fourth
frame of the hot ones (decision 14 looked at those); the published rows are of the whole files, RMSE. Aspirin (rMD17):
950 molecules, MAE. Energies of a molecule in meV, as published, not per atom. `rutile train architecture=anatase` with
its defaults, or other settings, compiled. `out` (default: runs/fully_trained_SET_SIZE) keeps the run: the same command
goes on where it was stopped, and a finished one is only tested again.

Writes results/fully_trained.{json,md}; rows of other sets and sizes stay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import RESULTS, SHARED, _version
from accuracy import write as write_results
from accuracy_per_time import molecules, relative
from ase import Atoms
from ase.io import read, write

PUBLISHED = {
    "acac": {
        "MACE": {"300 K": (0.9, 5.1), "600 K": (4.6, 22.4)},
        "NequIP": {"300 K": (0.81, 5.90), "600 K": (6.04, 27.8)},
        "BOTNet": {"300 K": (0.89, 6.3), "600 K": (6.2, 29.8)},
    },
    "aspirin": {
        "MACE": {"test": (2.2, 6.6)},
        "Allegro": {"test": (2.3, 7.3)},
        "NequIP": {"test": (2.3, 8.2)},
        "BOTNet": {"test": (2.3, 8.5)},
    },
}
"""I. Batatia et al., arXiv:2206.07697, tables 1 and 3: energy (meV) and force (meV/Å) by test."""
MEASURE = {"acac": "RMSE", "aspirin": "MAE"}


def main(words: list[str]) -> None:
    """Train or go on, test, write the table."""
    given = dict(w.split("=", 1) for w in words if "=" in w)
    name = next((w for w in words if "=" not in w), "acac")
    if name not in PUBLISHED or not SHARED.is_dir():
        sys.exit(f"error: the set must be one of {', '.join(PUBLISHED)}, and the data at {SHARED}")
    own = {"size": "medium", "epochs": "1600", "threads": "1"} | given
    out = Path(own.pop("out", f"runs/fully_trained_{name}_{own['size']}"))
    size = own.pop("size")
    out.mkdir(parents=True, exist_ok=True)
    parts = {"acac": acac, "aspirin": aspirin}[name]()
    for part in ("train", "valid"):
        path = out / f"{part}.extxyz"
        if not path.exists():  # a run that goes on must find its data unchanged
            write(path, parts[part], format="extxyz")
    settings = {
        "architecture": "anatase", "potential.size": size, "data": f"[{out / 'train.extxyz'}]", "compile": "true",
        "split.valid_files": f"[{out / 'valid.extxyz'}]", "seed": "1", "validate_every": "10", "out": out / "run",
        **own,
    }  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": own["threads"], "MKL_NUM_THREADS": own["threads"]}
    command = [sys.executable, "-m", "rutile", "train", *(f"{key}={value}" for key, value in settings.items())]
    subprocess.run(command, env=environment, check=True)
    tests = {part: frames for part, frames in parts.items() if part not in ("train", "valid")}
    save(f"{name} {size}", name, out / "run", tests)


def acac() -> dict[str, list[Atoms]]:
    """Frames of acetylacetone by part, energies relative to isolated atoms."""
    frames = molecules("acac")
    return {"train": frames["train"], "valid": frames["valid"], "300 K": frames["cold"], "600 K": frames["test"]}


def aspirin() -> dict[str, list[Atoms]]:
    """Frames of aspirin by part: 950 to train on and 50 more, spread over the thousand of the file."""
    folder = SHARED / "rmd17-aspirin" / "public"
    none = {symbol: 0.0 for symbol in "CHO"}  # the set has no isolated atoms
    frames, test = (
        [relative(frame, none, periodic=False) for frame in read(folder / f"{file}.extxyz", ":")]
        for file in ("train", "test_a")
    )
    valid = set(range(0, len(frames), 20))
    train = [frame for k, frame in enumerate(frames) if k not in valid]
    return {"train": train, "valid": frames[::20], "test": test}


def save(row: str, name: str, run: Path, tests: dict[str, list[Atoms]]) -> None:
    """Errors of the model in the table, beside those published."""
    from rutile import load

    model = load(run)
    record: dict[str, Any] = {
        "set": name,
        "version": _version(),
        "epochs": len((run / "metrics.csv").read_text().splitlines()) - 1,
        "parameters": sum(p.numel() for p in model.potentials[0].parameters()),
        "tests": {test: errors(model.calculator(), frames) for test, frames in tests.items()},
    }
    path = RESULTS / "fully_trained.json"
    rows = (json.loads(path.read_text()) if path.exists() else {}) | {row: record}
    write_results("fully_trained", rows, as_table(rows))


def as_table(rows: dict[str, Any]) -> str:
    """One table for each set."""
    lines = []
    for name, measure in MEASURE.items():
        mine = {row: record for row, record in rows.items() if record["set"] == name}
        if not mine:
            continue
        tests = list(next(iter(PUBLISHED[name].values())))
        titles = [f"energy, {test} (meV) | force, {test} (meV/Å)" for test in tests]
        lines += [f"# {name}, {measure}", "", f"| model | epochs | {' | '.join(titles)} |",
                  f"|---|---:|{'---:|---:|' * len(tests)}"]  # fmt: skip
        for row, record in mine.items():
            values = [
                f"{record['tests'][t][f'E_{measure.lower()}']:.2f} | {record['tests'][t][f'F_{measure.lower()}']:.1f}"
                for t in tests
            ]
            lines.append(f"| **Anatase {row.split()[1]}** | {record['epochs']} | {' | '.join(values)} |")
        for model, known in PUBLISHED[name].items():
            lines.append(f"| {model}, published | | {' | '.join('{} | {}'.format(*known[t]) for t in tests)} |")
        lines.append("")
    return "\n".join(lines)


def errors(calculator: Any, frames: list[Atoms]) -> dict[str, float]:
    """MAE and RMSE of the energy of a molecule (meV) and of force components (meV/Å)."""
    energies, forces = [], []
    for frame in frames:
        atoms = Atoms(frame.numbers, frame.positions, calculator=calculator)
        energies.append(atoms.get_potential_energy() - frame.info["energy"])
        forces.append(atoms.get_forces() - frame.arrays["forces"])
    e, f = 1e3 * np.array(energies), 1e3 * np.concatenate(forces).ravel()
    return {
        "E_mae": float(abs(e).mean()), "E_rmse": float((e**2).mean() ** 0.5),
        "F_mae": float(abs(f).mean()), "F_rmse": float((f**2).mean() ** 0.5),
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
