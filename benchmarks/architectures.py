"""Every architecture with its default settings on the TiO2 reference set of aenet, trained for the same time.

    python benchmarks/architectures.py [FOLDER WITH train.extxyz AND valid.extxyz] [seconds=600] [only=schnet,painn]
        [key=value of `rutile train` ...]

Each is trained by `rutile train architecture=NAME`, on one thread, in a process of its own, so that its peak memory is
its own. A first epoch in another folder says how many epochs fit into the time, so that the learning rate falls to its
end for every architecture (never more epochs than its default). With `only` the others stay in the table. Writes
results/architectures.{json,md} and docs/architectures.md. An architecture that fails has its error in the table, and
the command ends with 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from accuracy import RESULTS, SHARED, write
from workloads import moves, rutile_tio2, time_calls

DOCS = Path(__file__).resolve().parent.parent / "docs"
OUT = Path("runs") / "architectures"
FORCE_LIMIT = 3.0  # eV/Angstrom; the set has frames with forces up to 50
REPEATS = (4, 4, 4)
"""Cells of 6 atoms in the structure that inference is timed on: 384 atoms."""
EPOCH_SHARE = 0.9
"""Part of the time that epochs are planned for; the rest is for those slower than the first."""


def main(words: list[str]) -> int:
    """Train and measure each, write the table."""
    folder = next((Path(w) for w in words if "=" not in w), SHARED / "tio2-aenet" / "public")
    own = dict(w.split("=", 1) for w in words if w.startswith(("seconds=", "only=")))
    pairs = [w for w in words if "=" in w and not w.startswith(("seconds=", "only="))]
    seconds = float(own.get("seconds", 600))
    results = earlier(seconds) if "only" in own else {}
    for name in own["only"].split(",") if "only" in own else trainable():
        print(f"== {name}", flush=True)
        try:
            results[name] = train_and_measure(name, folder, seconds, pairs)
        except subprocess.CalledProcessError as error:
            results[name] = {"failed": (error.stderr.strip().splitlines() or ["no message"])[-1]}
    text = table(results, seconds)
    write("architectures", {"seconds": seconds, "architectures": results}, text)
    (DOCS / "architectures.md").write_text(f"{text}\nWritten by benchmarks/architectures.py.\n")
    return int(any("failed" in r for r in results.values()))


def earlier(seconds: float) -> dict[str, dict[str, Any]]:
    """Results of the last run, if it gave the same time."""
    path = RESULTS / "architectures.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return dict(found["architectures"]) if found.get("seconds") == seconds else {}


def trainable() -> list[str]:
    """Names of the catalogue that stand for themselves (a sum has no default terms) and have parameters."""
    from rutile.core.errors import SettingsError
    from rutile.potentials.catalogue import POTENTIALS, make

    names = []
    for name in sorted(POTENTIALS):
        try:
            potential = make(settings_of(name).potential, (8, 22))
        except SettingsError:
            continue
        if any(p.requires_grad for p in potential.parameters()):
            names.append(name)
    return names


def settings_of(name: str) -> Any:
    """Settings of `rutile train architecture=NAME`."""
    from rutile.core.config import load
    from rutile.tasks.train import TrainTaskSettings

    return load(TrainTaskSettings, [], ["data=[none.extxyz]", f"architecture={name}"])


def train_and_measure(name: str, folder: Path, seconds: float, pairs: list[str]) -> dict[str, Any]:
    """Errors, size, time and memory of one architecture.

    Raises:
        subprocess.CalledProcessError: a command failed; its `stderr` says why.
    """
    words = [
        "train", f"architecture={name}", f"data=[{folder / 'train.extxyz'}]", f"max_seconds={seconds}", "threads=1",
        f"split.valid_files=[{folder / 'valid.extxyz'}]", f"report_force_limit={FORCE_LIMIT}", "resume=false", *pairs,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as trial:
        first, _ = rutile([*words, "epochs=1", f"out={trial}/run"])
        fit = int(EPOCH_SHARE * seconds / max(first["seconds"], 1e-3)) if first["stopped"] == "epochs" else 1
    out = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=made(OUT)))
    epochs = max(1, min(settings_of(name).epochs, fit))
    trained, peak = rutile([*words, f"epochs={epochs}", f"out={out}/run"])
    measured = json.loads(finish([sys.executable, __file__, "--measure", trained["model"]])[0])
    errors = [e for e in trained["errors"] if e["part"] == "valid" and e["unit"] in ("eV/atom", "eV/Å")]
    kept = {key: trained[key] for key in ("stopped", "epochs", "best_epoch", "seconds", "model")}
    return kept | {"errors": errors, "training_peak_mb": peak} | measured


def made(folder: Path) -> Path:
    """The folder, which exists afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rutile(words: list[str]) -> tuple[dict[str, Any], int]:
    """Result of a command, and the peak memory (MB) of its process."""
    text, peak = finish([sys.executable, "-m", "rutile", *words, "--json"])
    return json.loads(text), peak


def finish(command: list[str]) -> tuple[str, int]:
    """What a process writes on its standard output, and its peak memory (MB).

    Raises:
        subprocess.CalledProcessError: it ended with another code than 0.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, out.read(), err.read())
        return out.read(), round(usage.ru_maxrss / 1024)


def measure(model: Path) -> dict[str, Any]:
    """Parameters of a model; time and memory of energy, forces and stress in float32 on one thread."""
    import resource

    import torch

    from rutile.potentials.evaluate import evaluate
    from rutile.potentials.save import load_model
    from rutile.structures.structures import Structures

    torch.set_num_threads(1)
    (potential,) = load_model(model).members(torch.float32)
    atoms = rutile_tio2(REPEATS)
    batches = [
        Structures.from_arrays(atoms.numbers, x, atoms.cell.array, atoms.pbc).to(dtype=torch.float32)
        for x in moves(atoms, 5)
    ]
    times = time_calls(lambda k: evaluate(potential, batches[k]), len(batches))
    parameters = sum(p.numel() for p in potential.parameters())  # type: ignore[attr-defined]
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "parameters": parameters,
        "inference_us_per_atom": round(1e3 * times["min_ms"] / len(atoms), 2),
        "inference_peak_mb": peak,
    }


def table(results: dict[str, dict[str, Any]], seconds: float) -> str:
    """The results as a page."""
    lines = [
        "# Architectures on TiO₂",
        "",
        "Each with its default settings, trained by `rutile train architecture=NAME` on the reference set of aenet for "
        f"at most {seconds:g} s on one thread. RMSE on the validation frames whose forces are below {FORCE_LIMIT:g} "
        f"eV/Å (on all of them in brackets). Inference: energy, forces and stress of {6 * REPEATS[0] ** 3} atoms in "
        "float32 on one thread. Memory: peak of the process, libraries included.",
        "",
        "| architecture | energy (meV/atom) | force (meV/Å) | parameters | epochs | training (s) |"
        " inference (µs/atom) | memory of training (MB) | of inference (MB) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in sorted(results.items()):
        if "failed" in r:
            lines.append(f"| {name} | failed: {r['failed'].replace('|', '/')} |" + " |" * 7)
            continue
        energy, force = (both(r["errors"], quantity) for quantity in ("energy", "force"))
        lines.append(
            f"| {name} | {energy} | {force} | {r['parameters']} | {r['epochs']} | {r['seconds']:.0f} | "
            f"{r['inference_us_per_atom']:.1f} | {r['training_peak_mb']} | {r['inference_peak_mb']} |"
        )
    return "\n".join(lines) + "\n"


def both(errors: list[dict[str, Any]], quantity: str) -> str:
    """RMSE (meV/atom or meV/Angstrom) below the force limit, and of all frames in brackets."""
    mine = [e for e in errors if e["quantity"] == quantity]
    below = next((e["rmse"] for e in mine if "<" in e["frames"]), None)
    everything = next(e["rmse"] for e in mine if e["frames"] == "all")
    return f"{'-' if below is None else f'{1000 * below:.1f}'} ({1000 * everything:.1f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]))))
    else:
        sys.exit(main(sys.argv[1:]))
