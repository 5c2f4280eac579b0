"""Errors after the same time of training: the flagship and other programs on the same structures, all in one run.

    PEERS=folder python benchmarks/accuracy_per_time.py [3bpa|acac|tio2] [seconds=1800] [threads=2] [together=1]
        [models=anatase:small,anatase:medium,nequip,mace:64x0e,schnetpack,matgl]

3BPA and AcAc: 450 molecules at 300 K to train on, 50 to choose by; tested on those 50 and on hotter ones (3BPA: mixed
300, 600 and 1200 K; AcAc: 600 K, and its own test file of 300 K), without every fourth of the hotter frames: those were
looked at while Anatase's training was chosen (decision 14). TiO2: the aenet set without frames that have force
components over 3 eV/Å, every tenth of the training file to choose by, tested on its validation file, which was looked
at. Peers are trained
by their own tools, see peers_train.py, each in its environment `$PEERS/<name>`; rutile by `rutile train
architecture=anatase` with its defaults. All: float32, batches of 5, energies relative to the same isolated atoms, and
as many epochs as a probe says will fit into the time, so that every learning rate falls to its end.
`together=2 threads=1` trains two at a time; with one thread the seconds are those of the processor, so that
other work on the machine costs no model anything.

Writes results/accuracy_per_time_SET_TIMEs.{json,md} after every model; models of earlier runs for the same time stay
in it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import RESULTS, SHARED
from ase import Atoms
from ase.io import read, write

HERE = Path(__file__).resolve().parent
MOLECULES = {
    "3bpa": {"train": "train_300K", "valid": "valid_300K", "test": "mixedT_half_a"},
    "acac": {"train": "train_300K", "valid": "valid_300K", "cold": "test_MD_300K_a", "test": "test_MD_600K_a"},
}
"""Files of each set under `public/` of its folder: to train on, to choose by, to test on (`test`: the hotter)."""
LOOKED_AT = 4
"""Every fourth frame of the hotter files was looked at while Anatase's training was chosen; it is left out."""
TIO2_ATOMS = {"Ti": -1604.604515075, "O": -432.503149303}
"""Reference energies of the aenet set (eV), as its `generate.in` gives them."""
TIO2_FORCE = 3.0
SETS = (*MOLECULES, "tio2")
MODELS = ("anatase:small", "anatase:medium", "nequip", "mace:64x0e", "schnetpack", "matgl")
LABELS = {"nequip": "NequIP, 3 layers of 32, l 1", "mace:64x0e": "MACE 64x0e", "schnetpack": "PaiNN 128/3 (SchNetPack)",
          "matgl": "TensorNet 64/2 (matgl)"}  # fmt: skip


def main(words: list[str]) -> None:
    """Train all, write the table."""
    name = next((w for w in words if "=" not in w), "3bpa")
    given = dict(w.split("=", 1) for w in words if "=" in w)
    if name not in SETS or not SHARED.is_dir():
        sys.exit(f"error: the set must be one of {', '.join(SETS)}, and the data at {SHARED}")
    seconds, threads = float(given.get("seconds", 1800)), given.get("threads", "2")
    models = given.get("models", ",".join(MODELS)).split(",")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        write_parts(name, data)
        one = partial(train_one, data=data, work=Path(folder), seconds=seconds, threads=threads)
        with ThreadPoolExecutor(int(given.get("together", "1"))) as pool:
            for record in pool.map(one, models):
                if record is not None:
                    save(name, seconds, threads, record)


def write_parts(name: str, folder: Path) -> None:
    """The frames of a set as extxyz, one file for each part."""
    for part, frames in (tio2() if name == "tio2" else molecules(name)).items():
        write(folder / f"{part}.extxyz", frames, format="extxyz")


def molecules(name: str) -> dict[str, list[Atoms]]:
    """Frames of a set of molecules by part."""
    folder = SHARED / name / "public"
    atoms = {a.symbols[0]: a.get_potential_energy() for a in read(folder / "isolated_atoms.extxyz", ":")}
    parts = {part: read(folder / f"{file}.extxyz", ":") for part, file in MOLECULES[name].items()}
    parts["test"] = [f for k, f in enumerate(parts["test"]) if k % LOOKED_AT]
    return {part: [relative(f, atoms, periodic=False) for f in frames] for part, frames in parts.items()}


def tio2() -> dict[str, list[Atoms]]:
    """Frames of the aenet set by part."""
    folder = SHARED / "tio2-aenet" / "public"
    train, test = (
        [f for f in read(folder / file, ":") if np.abs(f.get_forces()).max() <= TIO2_FORCE]
        for file in ("train.extxyz", "valid.extxyz")
    )
    chosen = set(range(0, len(train), 10))
    parts = {"train": [f for k, f in enumerate(train) if k not in chosen], "valid": train[::10], "test": test}
    return {part: [relative(f, TIO2_ATOMS) for f in frames] for part, frames in parts.items()}


def relative(frame: Atoms, references: dict[str, float], periodic: bool = True) -> Atoms:
    """The frame with its energy relative to isolated atoms."""
    box = {"cell": frame.cell, "pbc": True} if periodic else {}
    atoms = Atoms(frame.numbers, frame.positions, **box)
    atoms.info["energy"] = frame.get_potential_energy() - sum(references[s] for s in frame.symbols)
    atoms.arrays["forces"] = frame.get_forces()
    return atoms


def train_one(
    model: str, data: Path, work: Path, seconds: float, threads: str, settings: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Train and test one model; None where it is not at hand or fails, which is printed.

    Args:
        model: `anatase:NAME` or a peer, see `MODELS`.
        data: folder with the three parts.
        work: a new folder in it is used.
        seconds: time of training.
        threads: of the training.
        settings: of anatase; default: the size NAME.
    """
    peer, _, variant = model.partition(":")
    out = work / model.replace(":", "_")
    env = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": ""}
    last = [str(data), str(out), f"{seconds:g}", threads]
    if peer == "anatase":
        call = [sys.executable, __file__, "--ours", *(settings or [f"potential.size={variant}"]), *last]
    else:
        python = Path(os.environ.get("PEERS", "peers")) / peer / "bin" / "python"
        if not python.exists():
            print(f"{model}: left out, no {python}", flush=True)
            return None
        call = [str(python), str(HERE / "peers_train.py"), model, *last]
    out.mkdir()
    done = subprocess.run(call, env=env, cwd=out, capture_output=True, text=True, check=False)
    path = out / "results.json"
    if done.returncode or not path.exists():
        print(f"{model}: failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", flush=True)
        return None
    record: dict[str, Any] = json.loads(path.read_text()) | {"model": model}
    print(json.dumps(record), flush=True)
    shutil.rmtree(out, ignore_errors=True)
    return record


def ours(words: list[str], data: Path, out: Path, seconds: float, threads: int) -> None:
    """Train the flagship by the task with some settings, test it as the peers are, write the record."""
    from peers_train import Stopwatch, elements, write_record

    from rutile import load
    from rutile.cli.terminal import RichReporter
    from rutile.core import config
    from rutile.tasks import train

    words = [
        "architecture=anatase", f"data=[{data / 'train.extxyz'}]", f"split.valid_files=[{data / 'valid.extxyz'}]",
        "batch_size=5", "precision=float32", f"threads={threads}", "seed=1",
        f"references.energies={json.dumps(dict.fromkeys(elements(data), 0.0))}", *words,
    ]  # fmt: skip
    with RichReporter() as reporter:
        # the difference of two runs: what the first epoch alone costs is not taken for the cost of every epoch
        def fit(epochs: int, name: str) -> tuple[train.TrainResult, float]:
            watch = Stopwatch(threads)
            job = [*words, f"epochs={epochs}", f"out={out}/{name}"]
            done = train.run(config.load(train.TrainTaskSettings, [], job), reporter)
            return done, done.seconds * watch.share()

        per_epoch = (fit(3, "three")[1] - fit(1, "one")[1]) / 2
        trained, spent = fit(max(2, int(seconds / per_epoch)), "run")
    model = load(trained.model)
    record = {
        "epochs": trained.epochs, "train_s": round(spent, 1),
        "params": sum(p.numel() for p in model.potentials[0].parameters()),
    }  # fmt: skip
    write_record(model.calculator(), record, data, out)


def save(name: str, seconds: float, threads: str, record: dict[str, Any]) -> None:
    """Add a model to the table of those that were given the same time and tested on the same frames."""
    path = RESULTS / f"accuracy_per_time_{name}_{seconds:g}s.json"
    key = {"seconds": seconds, "threads": threads, "looked at": name == "tio2"}
    earlier = json.loads(path.read_text()) if path.exists() else {}
    same = {k: earlier.get(k) for k in key} == key
    records = (earlier["models"] if same else {}) | {record["model"]: record}
    parts = {"valid": "valid", "cold": "test, 300 K", "test": "test, hotter" if name in MOLECULES else "test"}
    parts = {part: title for part, title in parts.items() if part in record}
    quantities = (("energy", "meV/atom"), ("force", "meV/Å"))
    titles = [f"{quantity}, {title} ({unit})" for title in parts.values() for quantity, unit in quantities]
    lines = [
        f"# {name.upper()}: RMSE after {seconds:g} s of training on {threads} thread(s)",
        "",
        f"| model | epochs | trained (s) | {' | '.join(titles)} |",
        f"|---|---|---|{'---|' * len(titles)}",
    ]
    for model, r in sorted(records.items(), key=lambda item: item[1]["valid"]["F_rmse"]):
        label = f"**rutile {model}**" if model.startswith("anatase") else LABELS.get(model, model)
        errors = " | ".join(str(r[part][q]) for part in parts for q in ("E_rmse", "F_rmse"))
        lines.append(f"| {label} | {r.get('epochs', '')} | {r['train_s']:.0f} | {errors} |")
    path.write_text(json.dumps(key | {"models": records}, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        *settings, data_folder, out_folder, time_limit, cores = sys.argv[2:]
        ours(settings, Path(data_folder), Path(out_folder), float(time_limit), int(cores))
    else:
        main(sys.argv[1:])
