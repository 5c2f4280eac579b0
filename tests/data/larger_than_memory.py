"""Run by test_larger_than_memory.py in a process of its own: builds, reads and trains under a memory limit.

RLIMIT_DATA bounds what cannot be dropped: heap and private anonymous mappings. Read-only mapped files are not counted;
the kernel reclaims their pages when it needs memory. Prints one JSON object.
"""

import json
import resource
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from toy import ToyDescriptors

from rutile.core.reporting import SilentReporter
from rutile.data.batches import BatchSampler
from rutile.data.frames import Frame
from rutile.data.settings import ReferenceSettings, SplitSettings
from rutile.data.split import split
from rutile.data.statistics import reference_energies, statistics
from rutile.data.store import Store, build_store
from rutile.train.caches import cache_edges
from rutile.train.examples import GraphExamples
from rutile.train.fit import fit
from rutile.train.settings import TrainSettings

ROOM = 96 * 2**20
"""Bytes allowed beyond what the imports take."""
TIMES = 3.2
"""Size of the store in units of the whole limit."""
ATOMS = 5000
SIDE = 100.0


def used():
    """Bytes that RLIMIT_DATA counts."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmData"))
    return int(line.split()[1]) * 1024


def refused(make):
    """Whether an allocation fails."""
    try:
        make()
    except MemoryError:
        return True
    return False


def gas(n, sums):
    """n frames of a thin gas, made one at a time; `sums` collects their labels."""
    for k in range(n):
        rng = np.random.default_rng(k)
        forces = rng.normal(size=(ATOMS, 3)) * 0.1
        numbers = np.where(rng.random(ATOMS) < 0.3, 22, 8)
        energy = float(numbers.sum() + rng.normal())
        sums += [energy, np.abs(forces).sum()]
        yield Frame(
            numbers,
            rng.random((ATOMS, 3)) * SIDE,
            np.eye(3) * SIDE,
            np.ones(3, bool),
            energy,
            forces,
            source=f"gas#{k}",
        )


def main(folder):
    """Everything under the limit."""
    torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports the rest of torch
    limit = used() + ROOM
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    controls = [refused(partial(np.ones, size, np.uint8)) for size in (ROOM // 2, ROOM + 2**20)]
    n = int(TIMES * limit / (ATOMS * 49))
    sums = np.zeros(2)
    store = build_store(gas(n, sums), folder / "store")
    size = sum(p.stat().st_size for p in store.folder.iterdir())

    read = np.zeros(2)
    visited = 0
    for ids in BatchSampler(store.sizes, edges=4 * ATOMS, seed=1).epoch(0):
        batch = store.batch(ids)
        read += [batch.energy.sum().item(), batch.forces.abs().sum().item()]
        visited += len(ids)

    parts = split(store, SplitSettings(valid=0.002, duplicates="ignore"), seed=0)
    references = reference_energies(store, parts["train"], ReferenceSettings())
    spread = statistics(store, parts["train"][::50], references)
    edges = cache_edges(store, 4.0, folder=folder / "cache", memory=8.0)
    torch.manual_seed(0)
    examples = [
        GraphExamples(store, parts[k], ToyDescriptors(), references=references, edges=edges) for k in ("train", "valid")
    ]
    examples[1].potential = examples[0].potential
    steps = iter(range(12))
    (folder / "run").mkdir()
    result = fit(
        examples[0].potential,
        *examples,
        TrainSettings(batch_size=2, tensorboard=False, epochs=1, precision="float64"),
        folder / "run",
        SilentReporter(),
        stop=lambda: None if next(steps, None) is not None else "enough",
    )
    out = {
        "limit": limit,
        "store": size,
        "frames": n,
        "visited": visited,
        "written": sums.tolist(),
        "read": read.tolist(),
        "references": list(references.values()),
        "energy_std": spread.energy_std,
        "steps": result.steps,
        "cache_files": [p.name for p in (folder / "cache").glob("*/*.bin")],
        "half_and_more_than_the_room_refused": controls,
        "whole_store_is_refused": refused(lambda: np.array(Store.open(store.folder).array("positions"))),
    }
    sys.stdout.write(json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
