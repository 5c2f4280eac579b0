"""Errors after the same time of training: the flagship and other programs on the same molecules, all in one run.

    PEERS=folder python benchmarks/accuracy_per_time.py [3bpa|acac] [seconds=1800] [threads=2] [together=1]
        [models=anatase:small,anatase:medium,nequip,mace:64x0e,schnetpack,matgl]

450 molecules at 300 K to train on, 50 to choose by; tested on those 50 and on hotter ones (3BPA: mixed 300, 600 and
1200 K, every fourth; AcAc: 600 K, every fourth). Peers are trained by their own tools with the scripts `train5/*5.py`
of the folder `shared/bench` beside the checkout (or `$BENCH`), each in its environment `$PEERS/<name>`; those scripts
state the settings. Rutile is trained by `rutile train architecture=anatase`; a first run of two epochs says how many
fit into the time, so that its learning rate falls to its end, as MACE's script does. All have float32, batches of 5 and
the same energies of isolated atoms. `together=2 threads=1` trains two at a time.

Writes results/accuracy_per_time_SET.{json,md}; models of earlier runs for the same time stay in the table.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from accuracy import RESULTS, SHARED
from ase import Atoms
from ase.io import read, write

HERE = Path(__file__).resolve().parent
BENCH = Path(os.environ.get("BENCH", HERE.parent.parent / "shared" / "bench"))
FILES = {
    "3bpa": ("train_300K.extxyz", "valid_300K.extxyz", "mixedT_half_a.extxyz"),
    "acac": ("train_300K.extxyz", "valid_300K.extxyz", "test_MD_600K_a.extxyz"),
}
"""Training, validation and hotter test frames of each set, under `public/` of its folder."""
MODELS = ("anatase:small", "anatase:medium", "nequip", "mace:64x0e", "schnetpack", "matgl")
LABELS = {"nequip": "NequIP, 3 layers of 32, l 1", "mace:64x0e": "MACE 64x0e", "schnetpack": "PaiNN 128/3 (SchNetPack)",
          "matgl": "TensorNet 64/2 (matgl)"}  # fmt: skip
SHARE = 0.93
"""Part of the time that epochs of rutile are planned for; it stops at the whole time."""


def main(words: list[str]) -> None:
    """Train all, write the table."""
    name = next((w for w in words if "=" not in w), "3bpa")
    given = dict(w.split("=", 1) for w in words if "=" in w)
    if name not in FILES or not BENCH.is_dir():
        sys.exit(f"error: the set must be one of {', '.join(FILES)}, and the peers' scripts at {BENCH} (or $BENCH)")
    seconds, threads = float(given.get("seconds", 1800)), given.get("threads", "2")
    models = given.get("models", ",".join(MODELS)).split(",")
    with tempfile.TemporaryDirectory() as folder:
        data = same_atoms(name, Path(folder) / "data")
        one = partial(train_one, data=data, work=Path(folder), seconds=seconds, threads=threads)
        with ThreadPoolExecutor(int(given.get("together", "1"))) as pool:
            records = [r for r in pool.map(one, models) if r is not None]
    save(name, seconds, threads, {r["model"]: r for r in records})


def same_atoms(name: str, folder: Path) -> Path:
    """The set under the file names of 3BPA, its energies moved by the isolated atoms to 3BPA's.

    The peers' scripts know these names and these energies of the isolated atoms.
    """
    folder.mkdir()
    references = {k: isolated(k) for k in ("3bpa", name)}
    for source, target in zip(FILES[name], FILES["3bpa"], strict=True):
        frames = []
        for frame in read(SHARED / name / "public" / source, ":"):
            atoms = Atoms(frame.numbers, frame.positions)
            moved = sum(references["3bpa"][s] - references[name][s] for s in frame.symbols)
            atoms.info["energy"] = frame.get_potential_energy() + moved
            atoms.arrays["forces"] = frame.get_forces()
            frames.append(atoms)
        write(folder / target, frames, format="extxyz")
    return folder


def isolated(name: str) -> dict[str, float]:
    """Energies of the isolated atoms (eV) of a set."""
    frames = read(SHARED / name / "public" / "isolated_atoms.extxyz", ":")
    return {a.symbols[0]: a.get_potential_energy() for a in frames}


def train_one(model: str, data: Path, work: Path, seconds: float, threads: str) -> dict[str, Any] | None:
    """Train and test one model; None where it is not at hand or fails, which is printed."""
    peer, _, variant = model.partition(":")
    out = work / model.replace(":", "_")
    env = os.environ | {
        "BENCH_DATA": str(data), "BUDGET_S": f"{seconds:g}", "OUT5": str(out), "BENCH": str(BENCH),
        "BENCH_THREADS": threads, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
    }  # fmt: skip
    if peer == "anatase":
        call = [sys.executable, __file__, "--ours", variant, str(data), str(out), f"{seconds:g}", threads]
    else:
        python = Path(os.environ.get("PEERS", "peers")) / peer / "bin" / "python"
        if not python.exists():
            print(f"{model}: left out, no {python}", flush=True)
            return None
        script = BENCH / "train5" / f"{peer}5.py"
        if peer == "mace":
            script = with_elements_of(data, script, work / f"train_{out.name}.py")
        call = [str(python), str(script), *([variant] if variant else [])]
    out.mkdir()
    done = subprocess.run(call, env=env, cwd=out, capture_output=True, text=True, check=False)
    path = out / "results.jsonl"
    if done.returncode or not path.exists():
        print(f"{model}: failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}", flush=True)
        return None
    record: dict[str, Any] = json.loads(path.read_text().splitlines()[-1]) | {"model": model}
    print(json.dumps(record), flush=True)
    shutil.rmtree(out, ignore_errors=True)
    return record


def with_elements_of(data: Path, script: Path, copy: Path) -> Path:
    """MACE's script, or a copy without nitrogen where the set has none: MACE wants those it meets only."""
    if "N" in read(data / FILES["3bpa"][0], 0).symbols:
        return script
    text = script.read_text().replace(",7:%f", "").replace('BPA_E0["N"], ', "")
    copy.write_text(f"import sys\nsys.path.insert(0, {str(script.parent)!r})\n{text}")
    return copy


def ours(size: str, data: Path, out: Path, seconds: float, threads: int) -> None:
    """Train the flagship by the task, test it as the peers' scripts do, write the record."""
    from rutile import load
    from rutile.cli.terminal import RichReporter
    from rutile.core import config
    from rutile.tasks import train

    sys.path.insert(0, str(BENCH / "train5"))
    import common5

    words = [
        "architecture=anatase", f"potential.size={size}", f"data=[{data / FILES['3bpa'][0]}]", "batch_size=5",
        f"split.valid_files=[{data / FILES['3bpa'][1]}]", f"max_seconds={seconds}", f"threads={threads}", "seed=1",
        "precision=float32", f"references.energies={json.dumps(common5.BPA_E0)}",
    ]  # fmt: skip
    with RichReporter() as reporter:
        probe = [*words, "epochs=2", f"out={out}/probe"]
        per_epoch = train.run(config.load(train.TrainTaskSettings, [], probe), reporter).seconds / 2
        epochs = max(2, int(SHARE * seconds / per_epoch))
        job = [*words, f"epochs={epochs}", f"out={out}/run"]
        trained = train.run(config.load(train.TrainTaskSettings, [], job), reporter)
    model = load(trained.model)
    parameters = sum(p.numel() for p in model.potentials[0].parameters())
    extra = {"epochs": trained.epochs, "params": parameters}
    common5.report("rutile", size, model.calculator(), trained.seconds, extra)


def save(name: str, seconds: float, threads: str, records: dict[str, dict[str, Any]]) -> None:
    """Table of these and of earlier models that were given the same time."""
    path = RESULTS / f"accuracy_per_time_{name}.json"
    key = {"seconds": seconds, "threads": threads}
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if {k: earlier.get(k) for k in key} == key:
        records = earlier["models"] | records
    lines = [
        f"# {name.upper()}: errors after {seconds:g} s of training on {threads} thread(s)",
        "",
        "| model | epochs | trained (s) | energy RMSE, valid (meV/atom) | force RMSE, valid (meV/Å) |"
        " energy RMSE, hotter | force RMSE, hotter |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, r in sorted(records.items(), key=lambda item: item[1]["valid_300K"]["F_rmse"]):
        label = f"**rutile {model}**" if model.startswith("anatase") else LABELS.get(model, model)
        cold, hot = r["valid_300K"], r["mixedT_half_a"]
        lines.append(
            f"| {label} | {r.get('epochs', '')} | {r['train_s']:.0f} | {cold['E_rmse']} | {cold['F_rmse']} | "
            f"{hot['E_rmse']} | {hot['F_rmse']} |"
        )
    path.write_text(json.dumps(key | {"models": records}, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        ours(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]))
    else:
        main(sys.argv[1:])
