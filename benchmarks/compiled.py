"""Time of a training step: plain, traced into one graph, and that graph compiled.

    python benchmarks/compiled.py [only=painn,schnet] [structures=5] [batches=6] [repeats=3] [device=cpu]

Energies, forces and the gradient of their loss in float32, on one thread, for batches of acetylacetone and of TiO2 with
other numbers of atoms and edges in each; one compilation serves both sets. CPU time of the process, the ways taking
turns, the least of the repeats; on a GPU the time by the clock instead, until it has finished. Writes
results/compiled.{json,md}, of a GPU compiled_cuda.{json,md}; with `only` the others stay in the table. Each
potential has a process of its own. Compiling takes minutes for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from accuracy import RESULTS, SHARED, write

POTENTIALS = {
    "schnet": ["architecture=schnet"],
    "painn": ["architecture=painn"],
    "anatase small": ["architecture=anatase"],
    "anatase medium": ["architecture=anatase", "potential.size=medium"],
    "teanet": ["architecture=teanet"],
}
SETS = {"AcAc": "acac/public/train_300K.extxyz", "TiO2": "tio2-aenet/public/train.extxyz"}
ELEMENTS = (1, 6, 8, 22)
WRONG = 2e-4
"""Difference above which training refuses compiled numbers in float32."""
DEFAULTS = {"structures": 5, "batches": 6, "repeats": 3}


def main(words: list[str]) -> int:
    """Measure each, write the table."""
    own = dict(word.split("=", 1) for word in words)
    sizes = {key: int(own.get(key, value)) for key, value in DEFAULTS.items()}
    device = own.get("device", "cpu")
    file = "compiled" if device == "cpu" else "compiled_cuda"
    path = RESULTS / f"{file}.json"
    results = json.loads(path.read_text())["potentials"] if "only" in own and path.exists() else {}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    failed = 0
    for name in own["only"].split(",") if "only" in own else POTENTIALS:
        command = [sys.executable, __file__, "--measure", name, json.dumps(sizes), device]
        with tempfile.TemporaryDirectory() as cache:  # nothing compiled earlier
            fresh = environment | {"TORCHINDUCTOR_CACHE_DIR": cache}
            done = subprocess.run(command, capture_output=True, text=True, env=fresh)
        if done.returncode:
            failed += 1
            results[name] = {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
        else:
            results[name] = json.loads(done.stdout)
        if path.exists() and "only" in own:  # of another run at the same time
            results = json.loads(path.read_text())["potentials"] | {name: results[name]}
        results = {known: results[known] for known in POTENTIALS if known in results}
        write(file, {**sizes, "device": device, "potentials": results}, table(results, sizes, device))
    return int(failed > 0)


def measure(name: str, sizes: dict[str, int], device: str) -> dict[str, Any]:
    """Times (ms) of a step on each set, compilation, differences."""
    import torch

    from rutile.core.config import load
    from rutile.potentials.catalogue import make
    from rutile.potentials.compiled import CompiledSlopes
    from rutile.tasks.train import TrainTaskSettings

    torch.set_num_threads(1)
    settings = load(TrainTaskSettings, [], ["data=[none.extxyz]", *POTENTIALS[name]])
    potential = make(settings.potential, ELEMENTS).to(device, torch.float32)
    ways: dict[str, Any] = {"plain": None, "traced": CompiledSlopes(potential, lambda graph: graph)}
    ways["compiled"] = CompiledSlopes(potential)
    sets = {which: batches(SHARED / path, potential.cutoff, sizes, device) for which, path in SETS.items()}
    first = next(iter(sets.values()))[0]
    began, used = time.monotonic(), time.process_time()
    step(potential, first, ways["compiled"])
    found: dict[str, Any] = {"compile_seconds": time.monotonic() - began, "compile_cpu": time.process_time() - used}
    for which, some in sets.items():
        differences = [off(step(potential, b, None), step(potential, b, ways["compiled"])) for b in some]
        times = {way: float("inf") for way in ways}
        for _ in range(sizes["repeats"]):
            for way, compiled in ways.items():
                times[way] = min(times[way], cpu(potential, some, compiled))
        atoms, edges = (sum(int(b[k].shape[0]) for b in some) / len(some) for k in (2, 3))
        found[which] = {**times, "difference": max(differences), "atoms": atoms, "edges": edges}
    found["graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    return found


def batches(path: Path, cutoff: float, sizes: dict[str, int], device: str) -> list[tuple[Any, ...]]:
    """Structures, edges, forces and centres of the edges, of consecutive frames."""
    import torch
    from ase.io import read

    from rutile.graph.neighbors import find_edges
    from rutile.structures.structures import Structures, concatenate

    n = sizes["structures"]
    frames = read(path, f":{n * sizes['batches']}")
    made = []
    for k in range(0, len(frames), n):
        group = frames[k : k + n]
        parts = [Structures.from_arrays(a.numbers, a.positions, a.cell.array, a.pbc) for a in group]
        structures = concatenate(parts).to(dtype=torch.float32)
        edges = find_edges(structures, cutoff)
        forces = torch.cat([torch.tensor(a.get_forces(), dtype=torch.float32) for a in group])
        edges = edges.to(device)
        made.append((structures.to(device=device), edges, forces.to(device), edges.i))
    return made


def step(potential: Any, batch: tuple[Any, ...], compiled: Any) -> dict[str, Any]:
    """Energies, forces and the gradient of a loss."""
    import torch

    from rutile.potentials.evaluate import evaluate

    structures, edges, forces, _ = batch
    p = evaluate(potential, structures, edges=edges, training=True, compiled=compiled)
    parameters = list(potential.parameters())
    for parameter in parameters:
        parameter.grad = None
    (p.energy.square().mean() + (p.forces - forces).square().mean()).backward(inputs=parameters)
    gradient = torch.cat([q.grad.flatten() for q in parameters if q.grad is not None])
    return {"energy": p.energy.detach(), "forces": p.forces.detach(), "gradient": gradient}


def off(right: dict[str, Any], found: dict[str, Any]) -> float:
    """Largest difference relative to the largest number of each quantity."""
    return max(float((found[k] - x).abs().max() / x.abs().max()) for k, x in right.items())


def cpu(potential: Any, some: list[tuple[Any, ...]], compiled: Any) -> float:
    """Milliseconds of CPU time for a step, the mean of some batches; on a GPU by the clock."""
    import torch

    gpu = some[0][2].device.type != "cpu"
    clock = time.perf_counter if gpu else time.process_time
    began = clock()
    for batch in some:
        step(potential, batch, compiled)
    if gpu:
        torch.cuda.synchronize()
    return 1e3 * (clock() - began) / len(some)


def gain(x: dict[str, float]) -> str:
    """How many times as fast as plain; wrong numbers are no gain."""
    return f"{x['plain'] / x['compiled']:.2f}" if x["difference"] < WRONG else "none: wrong, refused at the start"


def table(results: dict[str, Any], sizes: dict[str, int], device: str) -> str:
    """The results as Markdown."""
    where = "one thread: ms of CPU time" if device == "cpu" else f"{device}: ms by the clock"
    lines = [
        f"Training step of {sizes['structures']} structures, float32, {where}.",
        "",
        "| potential | set | atoms | edges | plain | traced | compiled | gain | difference | compiling (s, CPU s) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        if "failed" in r:
            lines.append(f"| {name} | failed: {r['failed']} | | | | | | | | |")
            continue
        for which in SETS:
            x = r[which]
            lines.append(
                f"| {name} | {which} | {x['atoms']:.0f} | {x['edges']:.0f} | {x['plain']:.1f} | {x['traced']:.1f} | "
                f"{x['compiled']:.1f} | {gain(x)} | {x['difference']:.0e} | "
                f"{r['compile_seconds']:.0f}, {r['compile_cpu']:.0f} |"
            )
    note = (
        "Traced: the graph with the first derivative in it, run operation by operation; compiled: the same through "
        "`torch.compile`. Compiling: until the first step is done, on a machine that had other work."
    )
    return "\n".join([*lines, "", note, ""])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])))
        sys.exit(0)
    sys.exit(main(sys.argv[1:]))
