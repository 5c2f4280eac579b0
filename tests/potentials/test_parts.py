"""Large batches worked on in parts, and training without needless second derivatives."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from rutile.core import native
from rutile.graph.graph import Graph, build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.behler import Behler
from rutile.potentials.evaluate import evaluate, evaluate_linearised, evaluate_members, linearise
from rutile.potentials.parts import contract, symmetry_native
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import Structures


def potential(seed: int) -> Behler:
    settings = BehlerSettings(table="tio2_artrith_urban_2016", hidden=(7,))
    made = Behler(settings, (8, 22), torch.Generator().manual_seed(seed))
    made.set_reference_energies({8: -3.0, 22: -11.0})
    graph = build_graph(oxide(), find_edges(oxide(), made.cutoff))
    made.fit_scaling([(made.describe(graph), graph.numbers)])
    return made


def oxide() -> Structures:
    """Two rattled cells smaller than the cutoff, and one atom alone in the middle of the batch."""
    rng = np.random.default_rng(4)
    images = [bulk("TiO", "rocksalt", a=4.2), Atoms("Ti", [[0.0, 0, 0]]), bulk("TiO", "rocksalt", a=4.3) * (2, 1, 1)]
    for image in images:
        image.positions += rng.normal(size=image.positions.shape) * 0.05
    return Structures.from_ase(images)


@pytest.mark.parametrize(("edges_at_once", "kernels"), [(1, True), (100, True), (300, True), (300, False)])
def test_parts_of_a_batch_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch, edges_at_once: int, kernels: bool
) -> None:
    if not kernels:
        monkeypatch.setattr(symmetry_native, "library", lambda: None)
        monkeypatch.setattr(contract, "library", lambda: None)
    batch, members = oxide(), [potential(0), potential(1)]
    edges = find_edges(batch, members[0].cutoff)
    assert len(edges.i) > 300
    seen: list[torch.Tensor] = []
    parts = evaluate_members(
        members, batch, edges=edges, edges_at_once=edges_at_once, watch=lambda p, g: seen.append(g)
    )
    whole = evaluate_members(members, batch, edges=edges)
    for a, b in zip(parts, whole, strict=True):
        for name in ("energy", "forces", "stress", "atom_energy"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-10, atol=1e-10)
    assert not any(x.requires_grad for p in parts for x in (p.energy, p.forces, p.stress, p.atom_energy))
    assert [g.shape for g in seen] == [(batch.n_atoms, 70)] * 2
    assert float(parts[0].forces.abs().max()) > 1e-3
    assert float((parts[0].forces - parts[1].forces).abs().max()) > 1e-3


def test_linearised_equals_evaluated() -> None:
    batch, model = oxide(), potential(0)
    exact, cached = evaluate(model, batch), evaluate_linearised(model, linearise(model, batch))
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(getattr(cached, name), getattr(exact, name), rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(native.library() is None, reason="no kernels")
def test_training_on_forces_needs_no_second_derivative_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> torch.Tensor:
        raise AssertionError("second derivative asked for")

    batch, model = oxide(), potential(0)
    expected = _force_gradient(model, batch)
    monkeypatch.setattr(symmetry_native, "_curvature", never)
    for a, b in zip(_force_gradient(model, batch), expected, strict=True):
        assert torch.equal(a, b)
    monkeypatch.setattr(symmetry_native, "_serves", lambda graph: False)
    for a, b in zip(_force_gradient(model, batch), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def _force_gradient(model: Behler, batch: Structures) -> list[torch.Tensor]:
    parameters = list(model.parameters())
    for p in parameters:
        p.grad = None
    prediction = evaluate(model, batch, training=True)
    ((prediction.forces**2).sum() + (prediction.stress**2).sum()).backward(inputs=parameters)
    return [p.grad for p in parameters if p.grad is not None and p.grad.abs().max() > 0]


def test_a_part_never_sees_more_edges_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, model = oxide(), potential(0)
    seen: list[int] = []
    describe = Behler.describe

    def counting(self: Behler, graph: Graph) -> torch.Tensor:
        seen.append(len(graph.i))
        return describe(self, graph)

    monkeypatch.setattr(Behler, "describe", counting)
    edges = find_edges(batch, model.cutoff)
    evaluate_members([model], batch, edges=edges, edges_at_once=200)
    assert len(seen) > 2
    assert max(seen) <= 200
    assert sum(seen) == len(edges.i)


BIG = """
import resource
from ase.build import bulk
from rutile.potentials.behler import Behler
from rutile.potentials.evaluate import evaluate
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import Structures
atoms = bulk("TiO", "rocksalt", a=4.3, cubic=True) * (14, 14, 16)
atoms.rattle(0.05, seed=0)
model = Behler(BehlerSettings(table="tio2_artrith_urban_2016"), (8, 22))
forces = evaluate(model, Structures.from_ase(atoms)).forces
assert len(atoms) > 24000 and bool(forces.isfinite().all())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(native.library() is None, reason="no kernels")
def test_memory_of_25_000_atoms_stays_small() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BIG],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert int(done.stdout) < 1500  # MB, the interpreter and its libraries included
