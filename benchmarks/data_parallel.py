"""Scaling of data-parallel training from 1 to 2 processes of one thread each, on two cores, or from 1 GPU to all.

    python benchmarks/data_parallel.py [potentials=anatase,behler] [steps=30] [device=cpu] [matmul=full] [note=TEXT]

TiO2 cells of 48 to 96 atoms with arbitrary labels, float32. Strong: 16 structures in a step, whatever the number of
processes; weak: 16 for each process. Times of a step: the median by the clock, and the processor time of a rank. The
efficiency by processor time leaves out waiting, and so depends little on what else runs; that by the clock is worth
something on an idle machine only, and on GPUs, where the processor waits. A single GPU is measured alone.

Writes results/data_parallel.{json,md}; on GPUs data_parallel_cuda.{json,md}.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from workloads import rutile_tio2

RESULTS = Path(__file__).resolve().parent / "results"
PER_STEP, FRAMES, FIRST = 16, 96, 4
"""Structures in a step, in all; steps that do not count."""


def make_store(folder: Path) -> None:
    """Cells of three sizes."""
    from rutile.data.frames import Frame
    from rutile.data.store import build_store

    rng, frames = np.random.default_rng(0), []
    for k in range(FRAMES):
        atoms = rutile_tio2(((2, 2, 2), (2, 2, 3), (2, 2, 4))[k % 3], seed=k)
        forces = rng.normal(size=(len(atoms), 3))
        frames.append(
            Frame(
                atoms.numbers.astype(np.int64),
                atoms.positions,
                atoms.cell.array,
                atoms.pbc,
                energy=float(-8 * len(atoms) + rng.normal()),
                forces=forces,
                source=f"cell#{k}",
            )
        )
    build_store(frames, folder)


def rank(place: str, out: str, potential: str, batch: str, steps: str, device: str, matmul: str) -> None:
    """One process: trains so many steps and writes the times of each."""
    from rutile.core.reporting import SilentReporter
    from rutile.data.store import Store
    from rutile.potentials.catalogue import make
    from rutile.train.caches import Room
    from rutile.train.examples import make_examples
    from rutile.train.fit import fit
    from rutile.train.parallel import started_by_torchrun
    from rutile.train.settings import JobSettings, TrainSettings

    torch.set_num_threads(1)
    store, reporter = Store.open(Path(place)), SilentReporter()
    job = JobSettings.model_validate({"data": [place], "potential": {"name": potential}})
    made = make(job.potential, store.elements, 0, store.calc_modes)
    with started_by_torchrun(device) as team:
        folder = Path(out)
        sides = {"train": np.arange(len(store))}
        examples: Any = make_examples(
            store, sides, made, references={"": dict.fromkeys(store.elements, -8.0)}, dtype=torch.float32,
            room=Room(None, 4000, 0), reporter=reporter,
        )  # fmt: skip
        times: list[tuple[float, float]] = []

        def stop() -> str | None:
            times.append((time.perf_counter(), time.process_time()))
            return "time" if len(times) > FIRST + int(steps) else None

        epochs = (FIRST + int(steps)) * int(batch) // len(store) + 2
        settings = TrainSettings(
            epochs=epochs, batch_size=int(batch), validate_every=10**6, tensorboard=False, checkpoint_seconds=1e9,
            device=device, matmul=matmul,
        )  # fmt: skip
        fit(made, examples["train"], examples["train"], settings, folder, reporter, stop=stop)
        passed = np.diff(np.array(times[FIRST:]), axis=0)
        wall, cpu = median(passed[:, 0].tolist()), float(np.median(passed[:, 1]))
        (folder / f"rank-{team.rank}.json").write_text(json.dumps({"wall": wall, "cpu": cpu}))


def measure(store: Path, potential: str, ranks: int, batch: int, asked: dict[str, str]) -> dict[str, float]:
    """Times of a step (ms): by the clock, and processor time, mean and largest of the ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, __file__, "rank", str(store), out, potential, str(batch)]
        words += [asked["steps"], asked["device"], asked["matmul"]]
        numbers = [{"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(ranks)]
        running = [subprocess.Popen(words, env=os.environ | group | number) for number in numbers]
        if any(process.wait() for process in running):
            raise SystemExit("a rank failed")
        found = [json.loads((Path(out) / f"rank-{r}.json").read_text()) for r in range(ranks)]
    cpu = [1e3 * f["cpu"] for f in found]
    return {"wall_ms": 1e3 * found[0]["wall"], "cpu_ms": sum(cpu) / ranks, "largest_cpu_ms": max(cpu)}


def main(words: list[str]) -> None:
    """Measure and write."""
    usual = {"potentials": "anatase,behler", "steps": "30", "device": "cpu", "matmul": "full", "note": ""}
    asked, rows = usual | dict(word.split("=", 1) for word in words), []
    several, name = 2, "data_parallel"
    if asked["device"] != "cpu":
        several, name = torch.cuda.device_count(), "data_parallel_cuda"
        asked["note"] = f"{torch.cuda.get_device_name()}, matmul={asked['matmul']}. {asked['note']}".strip()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        make_store(store)
        for potential in asked["potentials"].split(","):
            one = measure(store, potential, 1, PER_STEP, asked)
            rows.append({"potential": potential, "scaling": "one process", "processes": 1, "batch": PER_STEP} | one)
            print(rows[-1], flush=True)
            for scaling, batch, work in (("strong", PER_STEP, several), ("weak", several * PER_STEP, 1)):
                if several < 2:
                    continue
                two = measure(store, potential, several, batch, asked)
                by_cpu, by_clock = one["cpu_ms"] / (work * two["cpu_ms"]), one["wall_ms"] / (work * two["wall_ms"])
                row = {"potential": potential, "scaling": scaling, "processes": several, "batch": batch} | two
                rows.append(row | {"efficiency_cpu": by_cpu, "efficiency_clock": by_clock})
                print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"note": asked["note"], "rows": rows}, indent=1) + "\n")
    names = ["potential", "scaling", "processes", "batch", "wall_ms", "cpu_ms", "largest_cpu_ms", "efficiency_cpu",
             "efficiency_clock"]  # fmt: skip
    heads = ["potential", "scaling", "processes", "structures in a step", "step by the clock (ms)",
             "processor time of a rank (ms)", "of the busiest", "efficiency by processor time",
             "by the clock"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        cells = (row.get(column, "") for column in names)
        lines.append("| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |")
    text = "\n".join([asked["note"], "", *lines, "", "Written by benchmarks/data_parallel.py."]).lstrip()
    (RESULTS / f"{name}.md").write_text(text + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        rank(*sys.argv[2:])
    else:
        main(sys.argv[1:])
