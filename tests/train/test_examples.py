import dataclasses

import numpy as np
import pytest
import torch
from toy import ToyDescriptors, teacher_frames

from rutile.core.reporting import SilentReporter
from rutile.data.ragged import RaggedStore
from rutile.data.store import build_store
from rutile.potentials.evaluate import evaluate
from rutile.train.caches import RaggedMemory, cache_descriptors, cache_edges
from rutile.train.examples import GraphExamples, LinearisedExamples
from rutile.train.loss import Prefactors, errors, structure_losses
from rutile.train.settings import LossSettings, Prefactor

LOSS = LossSettings(virial=Prefactor(start=1, limit=1))
P = Prefactors(1.0, 10.0, 5.0)
IDS = np.array([7, 2, 9, 4, 0])


def kinds(store, potential, **more):
    return GraphExamples(store, IDS, potential, **more), LinearisedExamples(store, IDS, potential, **more)


def total_loss(examples, ids):
    labelled, predict = examples.batch(np.array(ids))
    return structure_losses(errors(predict(True), labelled), P, LOSS).sum()


def test_both_kinds_predict_what_evaluate_does(store):
    potential = ToyDescriptors(seed=1)
    for examples in kinds(store, potential):
        for ids in ([0, 1, 2, 3, 4], [3, 1]):
            labelled, predict = examples.batch(np.array(ids))
            assert labelled.index.tolist() == IDS[ids].tolist()
            expected = evaluate(potential, store.structures(IDS[ids]))
            got = predict(False)
            assert not got.forces.requires_grad
            for name in ("energy", "forces", "stress", "atom_energy"):
                assert torch.allclose(getattr(got, name), getattr(expected, name), rtol=1e-10, atol=1e-12), name


def test_gradients_are_those_of_finite_differences_and_equal(store):
    potential = ToyDescriptors(seed=1)
    gradients = []
    for examples in kinds(store, potential):
        potential.zero_grad()
        total_loss(examples, [0, 3, 4]).backward()
        gradients.append([p.grad.clone() for p in potential.parameters()])
        for p in potential.parameters():
            for k in (0, p.numel() // 2):
                flat, h = p.data.view(-1), 1e-4
                values = []
                kept = flat[k].item()
                for shift in (-2, -1, 1, 2):
                    flat[k] = kept + shift * h
                    values.append(total_loss(examples, [0, 3, 4]).item())
                flat[k] = kept
                slope = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * h)
                assert p.grad.view(-1)[k].item() == pytest.approx(slope, rel=1e-6, abs=1e-6)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
        assert bool((a != 0).any())


def test_references_are_taken_off_energies_alone(store):
    potential = ToyDescriptors()
    for plain, shifted in zip(
        kinds(store, potential), kinds(store, potential, references={8: -2.0, 22: 10.0}), strict=True
    ):
        a, b = plain.batch(np.array([1, 0]))[0], shifted.batch(np.array([1, 0]))[0]
        for s in range(2):
            numbers = a.structures.numbers[a.structures.system == s].tolist()
            expected = a.energy[s] - sum(-2.0 if z == 8 else 10.0 for z in numbers)
            assert b.energy[s].item() == pytest.approx(expected.item(), abs=1e-12)
        assert torch.equal(a.forces, b.forces)


def test_float32_loses_nothing_of_a_large_total_energy(tmp_path):
    frames = [dataclasses.replace(f, energy=f.energy - 40_000.123456 * len(f.numbers)) for f in teacher_frames(3)]
    store = build_store(frames, tmp_path / "s")
    references = {8: -40_000.123456, 22: -40_000.123456}
    examples = GraphExamples(store, np.arange(3), ToyDescriptors(), references=references, dtype=torch.float32)
    labelled, _ = examples.batch(np.arange(3))
    assert labelled.energy.dtype == torch.float32
    expected = [f.energy + 40_000.123456 * len(f.numbers) for f in frames]
    assert labelled.energy.tolist() == pytest.approx(expected, rel=2e-7)


def test_descriptors_are_computed_once(store):
    potential = ToyDescriptors()
    calls = 0
    original = potential.describe_with_jacobian

    def counted(graph):
        nonlocal calls
        calls += 1
        return original(graph)

    potential.describe_with_jacobian = counted
    cache = cache_descriptors(store, potential, torch.float64)
    assert calls == len(store)
    train, valid = (LinearisedExamples(store, ids, potential, cache=cache) for ids in (np.arange(9), np.arange(9, 12)))
    for examples in (train, valid, train):
        examples.batch(np.array([0, 2]))[1](True)
    assert calls == len(store)


@pytest.mark.parametrize("make", [cache_descriptors, cache_edges])
def test_cache_in_files_equals_cache_in_memory(store, tmp_path, make):
    potential = ToyDescriptors()
    what = (potential, torch.float32) if make is cache_descriptors else (potential.cutoff,)
    names = ("pairs", "descriptors", "d_pair", "d_strain") if make is cache_descriptors else ("ij", "shift")
    memory = make(store, *what, folder=tmp_path, memory=1000.0)
    assert isinstance(memory, RaggedMemory)
    assert not list(tmp_path.iterdir())
    files = make(store, *what, folder=tmp_path, memory=1e-3)
    assert isinstance(files, RaggedStore)
    for name in names:
        assert np.array_equal(files.get(name, IDS)[0], memory.get(name, IDS)[0])
        assert files.sizes(name).tolist() == memory.sizes(name).tolist()
    reporter = SilentReporter()
    make(store, *what, folder=tmp_path, memory=1000.0, reporter=reporter)
    assert any("read from" in text for text in reporter.messages)


def test_descriptors_for_scaling_cover_only_these_structures(store):
    potential = ToyDescriptors()
    examples = LinearisedExamples(store, IDS, potential)
    parts = list(examples.descriptors(per_batch=2))
    structures = store.structures(IDS)
    assert torch.equal(torch.cat([z for _, z in parts]), structures.numbers)
    from rutile.graph.graph import build_graph
    from rutile.graph.neighbors import find_edges

    expected = potential.describe(build_graph(structures, find_edges(structures, potential.cutoff)))
    assert torch.allclose(torch.cat([g for g, _ in parts]), expected, atol=1e-12)
    assert len(parts) == 3


def test_source_names_file_and_frame(store):
    assert GraphExamples(store, IDS, ToyDescriptors()).source(1) == "toy.extxyz#2"
