"""Compiled training gives the numbers of plain training, goes on bit for bit, and gives way where it does not work."""

import shutil

import numpy as np
import pytest
import torch

from rutile.core.reporting import SilentReporter
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials import compiled as potentials_compiled
from rutile.potentials.catalogue import make
from rutile.potentials.compiled import CompiledSlopes
from rutile.potentials.evaluate import evaluate
from rutile.potentials.settings import AnataseSettings, PaiNNSettings, SchNetSettings
from rutile.potentials.settings.teanet import TeaNetSettings
from rutile.structures.structures import concatenate
from rutile.testing.strategies import random_structure
from rutile.train import compiled
from rutile.train import settings as s
from rutile.train.checkpoint import CHECKPOINT_FILE, read_checkpoint
from rutile.train.examples import GraphExamples, LinearisedExamples
from rutile.train.fit import fit

TINY = {
    "anatase": AnataseSettings(channels=4, cutoffs=(4.0,), radial=2, sources=2, hidden=4, readout=4, embedding=4),
    "painn": PaiNNSettings(features=4, interactions=1, radial=3, cutoff=4.0),
    "schnet": SchNetSettings(features=4, interactions=1, radial=4, cutoff=4.0),
    "teanet": TeaNetSettings(channels=4, bond_channels=4, hidden=4, cutoffs=(3.0, 4.0), n_radial=3),
}


def potential_of(name, dtype=torch.float64, elements=(8, 22)):
    return make(TINY[name], elements, seed=3).to(dtype)


def batch(potential, *atoms, pbc=(True, True, True)):
    """Random structures of so many atoms, as a batch, with their neighbours."""
    parts = [random_structure(k, [22 if a % 3 == 0 else 8 for a in range(n)], pbc=pbc) for k, n in enumerate(atoms)]
    structures = concatenate(parts).to(dtype=next(potential.parameters()).dtype)
    return structures, find_edges(structures, potential.cutoff)


def numbers(potential, structures, edges, compiled=None):
    """Energies, forces, stress and the gradient of a loss of all three."""
    p = evaluate(potential, structures, edges=edges, training=True, compiled=compiled)
    loss = p.energy.square().sum() + p.forces.square().sum() + 100 * p.stress.square().sum()
    parameters = list(potential.parameters())
    for parameter in parameters:
        parameter.grad = None
    loss.backward(inputs=parameters)
    gradients = [torch.zeros_like(q).flatten() if q.grad is None else q.grad.flatten() for q in parameters]
    return p.energy.detach(), p.forces.detach(), p.stress.detach(), torch.cat(gradients)


def assert_close(found, right, tolerance=1e-11):
    for a, b in zip(found, right, strict=True):
        assert float((a - b).abs().max()) <= tolerance * max(float(b.abs().max()), 1e-3)


SLOW = {"teanet", "anatase", "schnet", "painn"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in TINY])
def test_one_trace_serves_batches_of_all_sizes_and_changed_weights(name):
    potential = potential_of(name)
    traced = CompiledSlopes(potential, lambda graph: graph)
    for atoms, pbc in (((6, 7), True), ((9,), True), ((5, 8, 6), False)):
        structures, edges = batch(potential, *atoms, pbc=(pbc,) * 3)
        assert traced(build_graph(structures, edges)) is not None
        assert_close(numbers(potential, structures, edges, traced), numbers(potential, structures, edges))
        with torch.no_grad():
            for parameter in potential.parameters():
                parameter.mul_(0.9)


@pytest.mark.slow
def test_one_element_and_few_neighbours():
    potential = potential_of("painn")
    traced = CompiledSlopes(potential, lambda graph: graph)
    alone = random_structure(0, [8, 8, 8]), random_structure(1, [22, 22, 22, 22])
    for structures in alone:
        edges = find_edges(structures, potential.cutoff)
        assert traced(build_graph(structures, edges)) is not None
        assert_close(numbers(potential, structures, edges, traced), numbers(potential, structures, edges))


def test_a_single_atom_is_left_to_plain_training():
    potential = potential_of("schnet")
    structures = random_structure(0, [8], pbc=(False, False, False))
    graph = build_graph(structures, find_edges(structures, potential.cutoff))
    assert CompiledSlopes(potential, lambda graph: graph)(graph) is None


@pytest.mark.slow
def test_heads_answer_as_in_plain_training():
    from rutile.potentials.parts.heads import one_head_each

    potential = make(TINY["anatase"].model_copy(update={"heads": 3}), (8, 22), seed=0)
    traced = CompiledSlopes(potential, lambda graph: graph)
    structures, edges = batch(potential, 6, 7, 5)
    for seed in (1, 2):
        with one_head_each(potential, seed):
            assert traced(build_graph(structures, edges)) is not None
            assert_close(numbers(potential, structures, edges, traced), numbers(potential, structures, edges))
    assert traced(build_graph(structures, edges)) is None  # the mean of the heads is another function


def examples(store, name, kind=GraphExamples, dtype=torch.float64):
    return kind(store, np.arange(len(store)), potential_of(name, dtype), dtype=dtype)


def trained(store, folder, reporter, monkeypatch=None, stop=None, resume=False, **changes):
    """Six steps of a tiny potential; where its checkpoint is."""
    folder.mkdir(exist_ok=True)
    train = examples(store, "schnet")
    wanted = {"epochs": 2, "batch_size": 4, "precision": "float64", "compile": True, "tensorboard": False} | changes
    settings = s.TrainSettings(**wanted)
    fit(train.potential, train, train, settings, folder, reporter, stop=stop, resume=resume)
    return read_checkpoint(folder / CHECKPOINT_FILE)["potential"]


def traced_only(monkeypatch):
    """The graph without the compiler: seconds instead of minutes."""
    monkeypatch.setattr("rutile.potentials.compiled._compile", lambda graph: graph)


def largest(a, b):
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


@pytest.mark.slow
def test_training_says_what_compiling_took_and_comes_to_the_same(store, tmp_path, monkeypatch):
    traced_only(monkeypatch)
    hears = SilentReporter()
    a, b = trained(store, tmp_path / "a", hears), trained(store, tmp_path / "b", SilentReporter(), compile=False)
    assert any(text.startswith("compiled in ") for text in hears.messages)
    assert not hears.warnings
    assert largest(a, b) < 1e-9


@pytest.mark.slow
def test_a_run_that_goes_on_equals_one_that_was_never_stopped(store, tmp_path, monkeypatch):
    traced_only(monkeypatch)
    whole = trained(store, tmp_path / "whole", SilentReporter())
    left = iter((None, None, None, "SIGTERM"))
    begun = trained(store, tmp_path / "parts", SilentReporter(), stop=lambda: next(left))
    assert largest(begun, whole) > 0
    ended = trained(store, tmp_path / "parts", SilentReporter(), resume=True)
    assert all(torch.equal(ended[k], whole[k]) for k in whole)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [0, 1])
def test_wrong_numbers_are_found_and_plain_training_goes_on(store, tmp_path, monkeypatch, wrong):
    def spoiled(graph):
        def function(*tensors):
            out = list(graph(*tensors))
            out[wrong] = out[wrong] * (1 + 1e-6)
            return tuple(out)

        return function

    monkeypatch.setattr("rutile.potentials.compiled._compile", spoiled)
    hears = SilentReporter()
    found = trained(store, tmp_path / "a", hears)
    right = trained(store, tmp_path / "b", SilentReporter(), compile=False)
    assert len(hears.warnings) == 1
    assert "differs from plain training by" in hears.warnings[0]
    assert all(torch.equal(found[k], right[k]) for k in right)


@pytest.mark.slow
def test_wrong_gradients_are_found(store, tmp_path, monkeypatch):
    """Energies and forces are right, but the forces do not reach the weights: what a lost derivative would do."""
    monkeypatch.setattr(
        "rutile.potentials.compiled._compile", lambda graph: lambda *x: (lambda e, p: (e, p.detach()))(*graph(*x))
    )
    hears = SilentReporter()
    trained(store, tmp_path / "a", hears)
    assert len(hears.warnings) == 1
    assert "gradient differs" in hears.warnings[0]


@pytest.mark.slow
@pytest.mark.parametrize("calls", [0, 4])
def test_a_compiler_that_fails_at_the_start_or_later_is_left_with_one_warning(store, tmp_path, monkeypatch, calls):
    def failing(graph):
        left = iter(range(calls))

        def function(*tensors):
            if next(left, None) is None:
                raise RuntimeError("No working C++ compiler found\nand much more")
            return graph(*tensors)

        return function

    monkeypatch.setattr("rutile.potentials.compiled._compile", failing)
    hears = SilentReporter()
    trained(store, tmp_path / "a", hears)
    assert hears.warnings == ["compile: training goes on without it, as RuntimeError: No working C++ compiler found"]


@pytest.mark.slow
def test_descriptor_potentials_have_nothing_to_compile(store, tmp_path):
    from toy import ToyDescriptors

    hears, potential = SilentReporter(), ToyDescriptors()
    train = LinearisedExamples(store, np.arange(len(store)), potential)
    with compiled.compiled_training(potential, train, s.TrainSettings(compile=True), hears):
        pass
    assert len(hears.warnings) == 1
    assert "nothing to compile" in hears.warnings[0]


def test_a_potential_without_a_plan_is_trained_plainly(store, tmp_path):
    from rutile.testing.toys import make_toy

    hears, potential = SilentReporter(), make_toy()
    train = GraphExamples(store, np.arange(len(store)), potential)
    with compiled.compiled_training(potential, train, s.TrainSettings(compile=True), hears):
        assert train.compiled is None
    assert hears.warnings == ["compile: training goes on without it, as toy cannot be compiled"]


@pytest.mark.slow
def test_a_graph_that_would_take_too_long_is_not_compiled(store, monkeypatch):
    monkeypatch.setattr(potentials_compiled, "MOST_OPERATIONS", 100)
    hears, train = SilentReporter(), examples(store, "schnet")
    with compiled.compiled_training(train.potential, train, s.TrainSettings(compile=True), hears):
        assert train.compiled is None
    assert len(hears.warnings) == 1
    assert "operations (limit: 100) would take" in hears.warnings[0]


def test_several_threads_sum_in_one_order_while_it_is_compiled(store, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    train, seen = examples(store, "schnet"), []
    monkeypatch.setattr(
        compiled._Guarded, "start", lambda *_: seen.append(torch.are_deterministic_algorithms_enabled())
    )
    with compiled.compiled_training(train.potential, train, s.TrainSettings(compile=True), SilentReporter()):
        pass
    assert seen == [True]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++) on this machine")
@pytest.mark.filterwarnings("ignore")
def test_sums_over_indices_are_made_before_they_are_read():
    """What PyTorch 2.13 compiles wrongly, and anatase with it: see `_keep_order_of_sums`."""

    def function(x, s, weight, index):
        product = x * s
        change = torch.zeros_like(x).index_add(0, index, (weight @ product.reshape(3, -1)).view(6, -1, 4))
        return x + change, product, (x + change) * s

    numbers = torch.Generator().manual_seed(0)
    x, s, weight = (torch.randn(*shape, generator=numbers) for shape in ((3, 7, 4), (3, 1, 4), (6, 3)))
    index = torch.tensor([0, 2, 1, 1, 0, 2])
    found = potentials_compiled._compile(torch.fx.symbolic_trace(function))(x, s, weight, index)
    assert_close(found, function(x, s, weight, index), 1e-6)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler (g++) on this machine")
@pytest.mark.filterwarnings("ignore")
def test_the_compiler_of_pytorch(store, tmp_path):
    hears = SilentReporter()
    a = trained(store, tmp_path / "a", hears)
    assert not hears.warnings
    b = trained(store, tmp_path / "b", SilentReporter(), compile=False)
    assert largest(a, b) < 1e-6  # Adam makes steps of one size from gradients that are nothing but rounding
    left = iter((None, None, None, "SIGTERM"))
    trained(store, tmp_path / "parts", SilentReporter(), stop=lambda: next(left))
    ended = trained(store, tmp_path / "parts", SilentReporter(), resume=True)
    assert all(torch.equal(ended[k], a[k]) for k in a)
