"""Rutile's side of peers.py, with the interface of the peers' scripts; does nothing when run without arguments."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, os.environ.get("BENCH", ""))


def main() -> None:
    """Measure one model."""
    import bench_common as common
    import torch

    a = arguments()
    common.set_torch()
    atoms = common.workload(a.workload, a.n)
    small = atoms if len(atoms) < 300 else common.workload(a.workload, 192)
    potential = build(a.model, small)
    base = {"params": common.n_params(potential), "cutoff": float(potential.cutoff)}
    if a.task == "infer":
        from rutile.potentials.model import Model, ModelInfo

        calc = Model([potential], ModelInfo(elements=potential.elements)).calculator(a.dtype)
        measured = common.measure_ase(atoms, calc, a.repeat, budget_s=a.budget)
    else:
        step = training_step(
            potential, common.train_frames(a.workload, 2 * a.batch, a.n), a.batch, getattr(torch, a.dtype)
        )
        measured = common.measure_train(step, a.batch, len(atoms), a.repeat, budget_s=a.budget)
    common.emit(a, "rutile", {"task": a.task, **base, **measured})


def build(name: str, atoms: Any) -> Any:
    """A potential with random weights and the statistics of one structure.

    Args:
        name: architecture, optionally followed by `:SIZE` or `:key=value key=value ...`, values as in YAML.
        atoms: the structure.
    """
    import yaml
    from pydantic import TypeAdapter

    from rutile.graph.graph import build_graph
    from rutile.graph.neighbors import find_edges
    from rutile.potentials.catalogue import make
    from rutile.potentials.settings import PotentialSettings
    from rutile.structures.structures import Structures

    architecture, _, size = name.partition(":")
    pairs = [word.split("=", 1) for word in size.split() if "=" in word]
    given = {"name": architecture, **({"size": size} if size and not pairs else {})}
    given |= {key: yaml.safe_load(value) for key, value in pairs}
    potential = make(TypeAdapter(PotentialSettings).validate_python(given), tuple(sorted(set(atoms.numbers.tolist()))))
    one = Structures.from_ase(atoms)
    potential.learn_statistics([build_graph(one, find_edges(one, potential.cutoff))])
    return potential


def training_step(potential: Any, frames: list[Any], batch: int, dtype: Any) -> Any:
    """A function that takes one step of the potential's own optimizer on the next batch, neighbours cached."""
    import torch
    from pydantic import TypeAdapter

    from rutile.graph.neighbors import find_edges
    from rutile.potentials.evaluate import evaluate
    from rutile.potentials.settings import training_defaults
    from rutile.structures.structures import Structures
    from rutile.train.optimizers import make_optimizer
    from rutile.train.settings import OptimizerSettings

    parameters = list(potential.to(dtype).requires_grad_().parameters())
    groups = [frames[k : k + batch] for k in range(0, len(frames), batch)]
    batches = []
    for group in groups:
        structures = Structures.from_ase(group)
        labels = (torch.tensor([f.info["E"] for f in group]), torch.cat([torch.tensor(f.arrays["F"]) for f in group]))
        batches.append((structures.to(dtype=dtype), find_edges(structures, potential.cutoff), labels))
    own = training_defaults(potential.name).get("optimizer", {}) | {"learning_rate": 1e-4}
    optimizer = make_optimizer(TypeAdapter(OptimizerSettings).validate_python({"name": "adam"} | own), parameters)
    count = iter(range(10**9))

    def step() -> None:
        structures, edges, (energy, forces) = batches[next(count) % len(batches)]
        for p in parameters:
            p.grad = None
        found = evaluate(potential, structures, edges=edges, training=True)
        loss = (found.energy - energy).square().mean() + (found.forces - forces).square().mean()
        if structures.pbc.all():
            loss = loss + found.stress.square().mean()
        loss.backward()
        optimizer.step(lambda: 0.0)

    return step


def arguments() -> argparse.Namespace:
    """As in the peers' scripts."""
    p = argparse.ArgumentParser()
    p.add_argument("--task", default="infer")
    p.add_argument("--workload", default="water")
    p.add_argument("--n", type=int)
    p.add_argument("--model", required=True)
    p.add_argument("--dtype", default="float32")
    p.add_argument("--repeat", type=int, default=20)
    p.add_argument("--budget", type=float, default=60.0)
    p.add_argument("--batch", type=int, default=5)
    p.add_argument("--json", type=Path)
    return p.parse_args()


if len(sys.argv) > 1:
    main()
