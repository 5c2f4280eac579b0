"""Data at scale: conversion, a warm start of a million small frames, and how long the loop waits for its batches.

The frames are clusters of 8 to 12 atoms of Ti and O with energies and forces of a pair potential, made here. Measured:

- conversion of files of some of them (extended XYZ, aselmdb) into a store, in one process and in several, per frame:
  processor time of all processes, and of the one that writes, which alone does not become shorter with more of them;
- `rutile train` on a store of all of them, in a fresh process, from the command to the first step of the optimizer: the
  first time, when comparisons of frames are made and kept beside the store, and again;
- `loader_wait` of metrics.csv, the part of the time of the steps in which the loop waits for a batch, for a cheap
  and an expensive potential.

    python benchmarks/data_scale.py [FRAMES]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rutile.data.arrays import ArrayWriters, new_folder
from rutile.data.reading import to_atoms
from rutile.data.store import Store
from rutile.data.writer import Block, StoreWriter
from rutile.structures import io

FRAMES, CONVERTED = 1_000_000, 50_000
POTENTIALS = {"behler": 300, "schnet": 200, "anatase": 60}
"""Potential -> steps of which the wait is measured."""
BATCH = 32
STARTS = 3
"""Warm starts, of which the middle one counts."""
BLOCK = 20_000
SITES = np.stack(np.meshgrid(*[np.arange(3) * 2.2] * 3, indexing="ij"), -1).reshape(-1, 3)
DEPTH, WIDTH, DISTANCE = 1.0, 1.2, 2.1
"""Morse potential between all atoms of a cluster: eV, 1/Angstrom, Angstrom."""
ALONE = {8: -3.0, 22: -7.0}
"""Energies of isolated atoms (eV)."""


def main() -> None:
    """Measure, and write results/data_scale.json and .md."""
    from accuracy import write

    frames = int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        began = time.process_time()
        store = generate(folder / "data.store", frames)
        made = time.process_time() - began
        conversion = [converted(store, folder, kind, workers) for kind in ("extxyz", "aselmdb") for workers in (1, 2)]
        starts = {name: started(folder, name, steps) for name, steps in POTENTIALS.items()}
    results = {"frames": frames, "atoms": store.n_atoms, "made_cpu_s": round(made, 1), "conversion": conversion}
    write("data_scale", results | {"starts": starts}, table(results, starts))


def table(results: dict[str, Any], starts: dict[str, Any]) -> str:
    """The results for people."""
    out = f"{results['frames']} clusters, {results['atoms']} atoms; 2 cores.\n\n"
    out += f"| {results['conversion'][0]['frames']} frames to a store (us per frame) | wall | CPU, all | CPU, writer | "
    out += "CPU, reader |\n|---|---|---|---|---|\n"
    for row in results["conversion"]:
        out += f"| {row['format']}, {row['workers']} process(es) | {row['wall_us']} | {row['cpu_us']} | "
        out += f"{row['writer_us']} | {row['reader_us']} |\n"
    out += "\n| `rutile train` to the end of its first step (s) | first time, wall | first time, CPU | again, wall | "
    out += "again, CPU |\n|---|---|---|---|---|\n"
    for name, row in starts.items():
        cold, warm = row["first"], row["again"]
        out += f"| {name} | {cold['wall_s']} | {cold['cpu_s']} | {warm['wall_s']} | {warm['cpu_s']} |\n"
    out += f"\n| batches of {BATCH} | step (ms) | loader wait (%) | wait without a thread (%) |\n|---|---|---|---|\n"
    for name, row in starts.items():
        warm = row["again"]
        out += f"| {name} | {warm['step_ms']} | {100 * warm['wait']:.2f} | {100 * warm['without']:.1f} |\n"
    return out


def converted(store: Store, folder: Path, kind: str, workers: int) -> dict[str, Any]:
    """Time of `rutile convert` for CONVERTED frames in a process of its own, start of the interpreter included."""
    source, out = folder / f"some.{kind}", folder / f"{kind}-{workers}.store"
    n = min(CONVERTED, len(store))
    if not source.exists():
        io.write_frames(source, (to_atoms(store[k]) for k in range(n)))
    words = [sys.executable, __file__, "convert", str(source), str(out), str(workers)]
    began = time.perf_counter()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    wall = time.perf_counter() - began
    writer, readers = json.loads(done.stdout.splitlines()[-1])
    assert len(Store.open(out, verify=True)) == n
    row = {"format": kind, "workers": workers, "frames": n, "wall_us": round(1e6 * wall / n)}
    row |= {"cpu_us": round(1e6 * (writer + readers) / n), "writer_us": round(1e6 * writer / n)}
    row["reader_us"] = round(1e6 * readers / n / workers) if workers > 1 else 0
    print(row, file=sys.stderr, flush=True)
    return row


def convert(source: str, out: str, workers: str) -> None:
    """`rutile convert`; says the processor time of this process, and of those that it started."""
    from rutile.cli.main import main as rutile

    assert rutile(["convert", source, f"out={out}", f"workers={workers}"]) == 0
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps([one.ru_utime + one.ru_stime for one in used]))


def started(folder: Path, potential: str, steps: int) -> dict[str, Any]:
    """A first and some warm starts in fresh processes, the one of middle CPU time of the latter."""
    shutil.rmtree(folder / "data.store" / "derived", ignore_errors=True)
    rows = []
    for k in range(1 + STARTS):
        words = [sys.executable, __file__, "start", str(folder), potential, str(steps), str(time.time())]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        shutil.rmtree(folder / "run")
        print(potential, k, rows[-1], file=sys.stderr, flush=True)
    return {"first": rows[0], "again": sorted(rows[1:], key=lambda row: row["cpu_s"])[STARTS // 2]}


def start(folder: Path, potential: str, steps: int, began: float) -> None:
    """`rutile train` until so many steps are done; says when the first was done, and how long the loop waited."""
    from rutile.cli.main import main as rutile
    from rutile.train import fit

    found: dict[str, Any] = {}
    count = 0
    step = fit._Run._step

    def watched(run: Any, *group: Any) -> None:
        nonlocal count
        step(run, *group)
        count += 1
        if count == 1:
            found.update(wall_s=round(time.time() - began, 2), cpu_s=round(time.process_time(), 2))
        elif count == 20:  # kernels are compiled, files are in memory
            run.loader.wait()
        elif count == 20 + steps:
            passed = run.loader.passed
            found.update(step_ms=round(1e3 * passed / steps, 2), wait=round(run.loader.wait(), 4))
            batches = run.sampler.epoch(1)[:steps]
            at = time.perf_counter()
            for ids in batches:
                run.train.batch(ids)
            alone = time.perf_counter() - at
            found.update(without=round(alone / (alone + passed * (1 - found["wait"])), 4))
            print(json.dumps(found), flush=True)
            os._exit(0)

    fit._Run._step = watched
    settings = (f"out={folder / 'run'}", f"potential.name={potential}", f"batch_size={BATCH}", "threads=1")
    rutile(["train", str(folder / "data.store"), *settings, "batch_edges=null", "tensorboard=false"])


def generate(folder: Path, frames: int, seed: int = 0) -> Store:
    """A store of random clusters, written block by block."""
    with new_folder(folder) as temporary, ArrayWriters(temporary) as out:
        writer = StoreWriter(out)
        for first in range(0, frames, BLOCK):
            writer.add(clusters(min(BLOCK, frames - first), first, np.random.default_rng([seed, first])))
        writer.finish()
    return Store.open(folder)


def clusters(n: int, first: int, rng: np.random.Generator) -> Block:
    """Frames first..first+n-1: atoms near sites of a grid, at least 1.6 Angstrom apart."""
    most = 12
    sizes = rng.integers(8, most + 1, n)
    there = np.arange(most) < sizes[:, None]
    chosen = np.argsort(rng.random((n, len(SITES))), axis=1)[:, :most]
    positions = SITES[chosen] + rng.uniform(-0.17, 0.17, (n, most, 3))
    numbers = np.where(rng.random((n, most)) < 1 / 3, 22, 8)
    vectors = positions[:, None] - positions[:, :, None]  # [n, i, j] from i to j
    r = np.linalg.norm(vectors, axis=-1) + np.eye(most)
    pair = (there[:, None] & there[:, :, None]) * ~np.eye(most, dtype=bool)
    x = np.exp(-WIDTH * (r - DISTANCE))
    energy = 0.5 * (pair * DEPTH * (x**2 - 2 * x)).sum((1, 2))
    energy += (there * np.where(numbers == 8, ALONE[8], ALONE[22])).sum(1)
    slope = pair * 2 * DEPTH * WIDTH * (x - x**2)
    forces = np.einsum("nij,nijx->nix", slope / r, vectors)
    text = [f"clusters#{k}".encode() for k in range(first, first + n)]
    arrays = {
        "numbers": numbers[there].astype(np.uint8),
        "positions": positions[there],
        "forces": forces[there],
        "cell": np.zeros((n, 3, 3)),
        "pbc": np.zeros((n, 3), dtype=bool),
        "energy": energy,
        "stress": np.full((n, 3, 3), np.nan),
        "weight": np.ones(n),
        "has_energy": np.ones(n, dtype=bool),
        "has_forces": np.ones(n, dtype=bool),
        "has_stress": np.zeros(n, dtype=bool),
        "group": np.zeros(n, np.int64),
        "mode": np.zeros(n, np.int64),
        "source": np.frombuffer(b"".join(text), np.uint8),
    }
    return Block(sizes, np.array([len(t) for t in text]), arrays, ("",), ("",))


if __name__ == "__main__":
    if sys.argv[1:2] == ["start"]:
        start(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
    elif sys.argv[1:2] == ["convert"]:
        convert(*sys.argv[2:])
    else:
        main()
