"""Does hot dynamics stay whole? 10 ps of NVT at twice the training temperature, TiO2 and water, with one thread.

    python benchmarks/stability.py [only=tio2,water] [seconds=900] [duration=10] [temperature=K]
        [model=RUN OR FILE (with only=ONE)] [potential=anatase] [key=value of `rutile train` ...]

Trains the potential (default: anatase with its default settings, `size: small`) for `seconds` on each set, unless
`model=` says which one is to be used, and moves a crystal or liquid with ASE's Langevin thermostat through the ASE
calculator: 1 fs, friction 0.02/fs, velocities of the temperature at the start.
A first epoch in another folder says how many epochs fit into `seconds`, so that the learning rate falls to its end.

TiO2: the public part of aenet's set in ../shared/data; 96 atoms of rutile. The frames are of distorted and short-run
crystals and name no temperature; 1000 K is taken for it, so that the dynamics is at 2000 K, near melting (2116 K).
Water: the public DeePMD frames (64 molecules, ab initio dynamics; the files name no temperature, 330 K is taken), from
the last frame; at 660 K in a cell of fixed density.

The run is whole if all energies and forces are finite, no two atoms came nearer than half of the sum of their covalent
radii, no force exceeded 100 eV/Angstrom, and the temperature of the last half is within 20 % of the asked one. Writes
results/stability.{json,md}; ends with 1 if a run is not whole.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import SHARED, one_line_errors, write
from architectures import EPOCH_SHARE, settings_of
from ase import Atoms, units
from ase.constraints import FixCom
from ase.data import covalent_radii
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.neighborlist import neighbor_list
from workloads import rutile_tio2

from rutile.cli.terminal import RichReporter
from rutile.core.config import load
from rutile.core.errors import GeometryError
from rutile.core.reporting import SilentReporter
from rutile.potentials.save import load_model
from rutile.structures.io import iterate
from rutile.tasks import evaluate, train

OWN = ("only", "seconds", "duration", "temperature", "model", "potential")
OUT = Path("runs") / "stability"
EVERY = 10  # steps between two looks
NEAREST, STRONGEST, OFF = 0.5, 100.0, 0.2  # of the sum of covalent radii; eV/Angstrom; of the temperature
FRICTION = 0.02  # 1/fs


@dataclass(frozen=True)
class System:
    """What to train on and what to move."""

    train: Path
    valid: Path
    kelvin: float
    """Taken for the temperature of the training data."""

    def start(self) -> Atoms:
        """The structure that is moved."""
        return rutile_tio2((2, 2, 4)) if "tio2" in self.train.parts[-3] else list(iterate(self.train))[-1]


AENET, DEEPMD = SHARED / "tio2-aenet" / "public", SHARED / "water-deepmd" / "public"
SYSTEMS = {
    "tio2": System(AENET / "train.extxyz", AENET / "valid.extxyz", 1000.0),
    "water": System(DEEPMD / "train.extxyz", DEEPMD / "valid_data3_a.extxyz", 330.0),
}


def main(words: list[str]) -> None:
    """Train, move, write the table."""
    own = dict(w.split("=", 1) for w in words if w.split("=", 1)[0] in OWN)
    pairs = [w for w in words if w.split("=", 1)[0] not in OWN]
    duration, results = float(own.get("duration", 10.0)), {}
    for name in own.get("only", ",".join(SYSTEMS)).split(","):
        print(f"== {name}", flush=True)
        system = SYSTEMS[name]
        model, trained = Path(own["model"]) if "model" in own else None, {}
        if model is None:
            model, trained = train_on(
                name, system, own.get("potential", "anatase"), float(own.get("seconds", 900)), pairs
            )
        errors = errors_of(model, system)
        kelvin = float(own.get("temperature", 2 * system.kelvin))
        results[name] = trained | errors | move(system.start(), model, kelvin, round(1000 * duration))
    write("stability", results, table(results, own.get("potential", "anatase")))
    sys.exit(int(not all(r["whole"] for r in results.values())))


def train_on(
    name: str, system: System, potential: str, seconds: float, pairs: list[str]
) -> tuple[Path, dict[str, Any]]:
    """The model, and what its training was."""

    def job(out: Path, *more: str) -> train.TrainResult:
        words = [f"data=[{system.train}]", f"architecture={potential}", f"max_seconds={seconds}", "threads=1",
                 f"split.valid_files=[{system.valid}]", "resume=false", *pairs, *more, f"out={out}"]  # fmt: skip
        with RichReporter() as reporter:
            return train.run(load(train.TrainTaskSettings, [], words), reporter)

    with tempfile.TemporaryDirectory() as trial:
        first = job(Path(trial) / "run", "epochs=1")
    fit = int(EPOCH_SHARE * seconds / max(first.seconds, 1e-3)) if first.stopped == "epochs" else 1
    OUT.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=OUT))
    done = job(out / "run", f"epochs={max(1, min(settings_of(potential).epochs, fit))}")
    return done.model, {"epochs": done.epochs, "training_s": round(done.seconds, 1)}


def errors_of(model: Path, system: System) -> dict[str, Any]:
    """Errors on the validation frames, and the check of the dimers."""
    with tempfile.TemporaryDirectory() as out:
        settings = evaluate.EvaluateSettings(model=model, data=[system.valid], out=Path(out))
        found = evaluate.run(settings, SilentReporter())
    rmse = {e.quantity: e.rmse for e in found.errors if e.subset == "all" and e.unit != "GPa"}
    assert found.dimers is not None
    return {"energy_rmse": rmse["energy"], "force_rmse": rmse["force"], "dimers": found.dimers.model_dump(mode="json")}


def move(atoms: Atoms, model: Path, kelvin: float, steps: int) -> dict[str, Any]:
    """Langevin dynamics with 1 fs: what happened, and whether the atoms stayed whole."""
    rng = np.random.RandomState(0)
    atoms.calc = load_model(model).calculator()
    thermalize_momenta(atoms, kelvin, rng=rng)
    Stationary(atoms)
    atoms.set_constraint(FixCom())
    dynamics = Langevin(atoms, units.fs, temperature_K=kelvin, friction=FRICTION / units.fs, fixcm=False, rng=rng)
    seen: list[dict[str, float]] = []

    def look() -> None:
        force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        energy = float(atoms.get_potential_energy()) / len(atoms)
        if not np.isfinite([force, energy]).all():
            raise GeometryError("energy or forces are not finite")
        seen.append({"fs": float(dynamics.get_number_of_steps()), "kelvin": float(atoms.get_temperature()),
                     "energy": energy, "force": force, "nearest": nearest(atoms)})  # fmt: skip

    dynamics.attach(look, interval=EVERY)
    began, end = time.process_time(), "done"
    try:
        dynamics.run(steps)
    except GeometryError as error:
        end = f"failed at {dynamics.get_number_of_steps()} fs: {error}"
    return verdict(seen, kelvin, end) | {
        "atoms": len(atoms), "fs": steps, "cpu_s": round(time.process_time() - began, 1),
        "path": seen[:: max(1, len(seen) // 100)],
    }  # fmt: skip


def nearest(atoms: Atoms) -> float:
    """Shortest distance in units of the sum of the covalent radii."""
    i, j, d = neighbor_list("ijd", atoms, 2.0 * covalent_radii[atoms.numbers].max())
    radii = covalent_radii[atoms.numbers]
    return float((d / (radii[i] + radii[j])).min(initial=9.9))


def verdict(seen: list[dict[str, float]], kelvin: float, end: str) -> dict[str, Any]:
    """Is it whole, and if not why."""
    late = [s["kelvin"] for s in seen[len(seen) // 2 :]]
    mean = float(np.mean(late)) if late else float("nan")
    near, force = min((s["nearest"] for s in seen), default=0.0), max((s["force"] for s in seen), default=np.inf)
    reasons = [end] * (end != "done")
    reasons += [f"atoms at {near:.2f} of the sum of their radii"] * (near < NEAREST)
    reasons += [f"force of {force:.0f} eV/Å"] * (force > STRONGEST)
    reasons += [f"{mean:.0f} K instead of {kelvin:.0f} K"] * (not abs(mean / kelvin - 1) < OFF)
    return {"asked_kelvin": kelvin, "kelvin": mean, "nearest": near, "force": force, "whole": not reasons,
            "reasons": reasons}  # fmt: skip


def table(results: dict[str, dict[str, Any]], potential: str) -> str:
    """The results as a page."""
    lines = [
        "# Dynamics at twice the training temperature",
        "",
        f"NVT (Langevin, 1 fs, friction {FRICTION:g}/fs) with `{potential}`. Nearest: shortest distance of two atoms "
        "over the sum of their covalent radii. Force: the largest on an atom. Temperature: mean of the last half. "
        "Dimers: pairs of elements that are repulsive below 0.7 of that sum.",
        "",
        "| set | force RMSE (meV/Å) | dimers | atoms | duration (ps) | temperature (K) | asked (K) | nearest "
        "| force (eV/Å) | whole | CPU (s) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        dimers = f"{r['dimers']['repulsive']} of {r['dimers']['pairs']}"
        lines.append(
            f"| {name} | {1000 * r['force_rmse']:.0f} | {dimers} | {r['atoms']} | {r['fs'] / 1000:g} | "
            f"{r['kelvin']:.0f} | {r['asked_kelvin']:.0f} | {r['nearest']:.2f} | {r['force']:.1f} | "
            f"{'yes' if r['whole'] else 'no: ' + '; '.join(r['reasons'])} | {r['cpu_s']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    one_line_errors(main, sys.argv[1:])
