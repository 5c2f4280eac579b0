"""DeepPot-SE: reference vectors, a naive loop, tables against the nets they stand for, the compiled kernel."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

from rutile.core.elements import number
from rutile.core.errors import SettingsError
from rutile.core.native import library
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.parts import moments
from rutile.potentials.parts.hermite import HermiteTables
from rutile.potentials.parts.mlp import ACTIVATIONS
from rutile.potentials.parts.resnet import ResNet
from rutile.potentials.save import load_model
from rutile.potentials.settings import DeepPotSESettings
from rutile.potentials.settings.deeppot_se import TableSize
from rutile.structures.structures import Structures
from rutile.testing.potential_contract import potential_contract
from rutile.testing.strategies import random_structure

SPEC = Path(__file__).parents[2].parent / "shared" / "spec"
SMALL = DeepPotSESettings(cutoff=4.5, embedding=(6, 12, 12), axis=5, fitting=(16, 16), n_c=20.0, zbl=False)
ELEMENTS = (8, 22)


def graph_of(structures, potential):
    return build_graph(structures, find_edges(structures, potential.cutoff))


def titania(seed=0, elements=(8, 22, 8, 8, 22, 8)):
    return random_structure(seed, list(elements))


def ready(settings=SMALL, elements=ELEMENTS, seed=0):
    """A potential with statistics, a scale and references."""
    potential = make(settings, elements, seed=seed)
    potential.learn_statistics([graph_of(titania(k), potential) for k in (11, 12)])
    potential.set_energy_scale(0.7)
    potential.set_reference_energies(dict.fromkeys(elements, -3.0))
    return potential


def compressed():
    return ready().compressed()


TestDeepPotSE = potential_contract(lambda: ready(seed=1))
TestOneSide = potential_contract(lambda: ready(SMALL.model_copy(update={"type_one_side": True}), seed=1))
TestCompressed = potential_contract(compressed)


class Toy(nn.Module):
    """The embedding net of the reference vectors, for the neighbour's element number `rank`."""

    def __init__(self, rank, width=8):
        super().__init__()
        half = width // 2
        k, m = torch.arange(half).double(), torch.arange(width).double()
        self.first, self.bias = torch.cos(k + 1), 0.1 * k
        self.second = torch.cos(0.7 * k[:, None] + 0.3 * m)
        self.rank = rank

    def forward(self, x):
        h = torch.tanh(x * self.first + self.bias)
        return (torch.cat([h, h], 1) + torch.tanh(h @ self.second - 0.05)) * (1 + 0.25 * self.rank)


@pytest.mark.skipif(not SPEC.is_dir(), reason="no reference vectors beside this checkout")
@pytest.mark.parametrize("n", range(5))
def test_descriptor_of_the_reference_vectors(n):
    case = json.loads((SPEC / "dp_vectors.json").read_text())["structures"][n]
    want = case["se_e2_a"]
    elements = tuple(sorted(number(s) for s in case["types"]))
    settings = DeepPotSESettings(
        zbl=False,
        cutoff=want["r_c"], smooth_from=want["r_s"], embedding=(4, 8), axis=want["M_less"], n_c=want["N_c"],
        type_one_side=True, fitting=(),
    )  # fmt: skip
    potential = make(settings, elements)
    rank = {number(s): k for k, s in enumerate(case["types"])}
    potential.embedding = nn.ModuleList(Toy(rank[z]) for z in elements)
    numbers = np.array([number(s) for s in case["symbols"]])
    structures = Structures.from_arrays(numbers, case["positions"], case["cell"], case["pbc"])
    found = potential.descriptors(graph_of(structures, potential), potential.position(structures.numbers))
    expected = torch.tensor(want["descriptor"]).double().flatten(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def naive_energy(potential, structures):
    """Energy of each atom, one neighbour after another, from numpy copies of the weights."""
    s = potential.settings
    graph = graph_of(structures, potential)
    elements = list(potential.elements)
    of = [elements.index(z) for z in structures.numbers.tolist()]

    def net(network, x):
        for k, layer in enumerate(network.layers):
            y = np.tanh(layer.weight.detach().numpy() @ x + layer.bias.detach().numpy())
            if str(k) in network.steps:
                y = network.steps[str(k)].detach().numpy() * y
            x = y + x if len(x) == len(y) else y + np.concatenate([x, x]) if 2 * len(x) == len(y) else y
        return x

    energies = []
    for a in range(structures.n_atoms):
        t = np.zeros((4, s.embedding[-1]))
        (mean, (sigma_0, sigma_1)) = float(potential.mean[of[a]]), potential.spread[of[a]].tolist()
        for e in range(len(graph.i)):
            if int(graph.i[e]) != a:
                continue
            v, b = graph.vectors[e].numpy(), of[int(graph.j[e])]
            r = math.sqrt(v @ v)
            x = min(max((r - s.smooth_from) / (s.cutoff - s.smooth_from), 0), 1)
            w = (x**3 * (-6 * x**2 + 15 * x - 10) + 1) / r
            row = w * np.array([1 / sigma_0, *(v / r / sigma_1)])
            network = potential.embedding[b if s.type_one_side else of[a] * len(elements) + b]
            t += np.outer(row, net(network, np.array([(w - mean) / sigma_0])))
        t /= float(potential.n_c)
        d = (t.T @ t[:, : s.axis]).ravel()
        body, last = potential.fitting[of[a]]
        nu, tau = potential.descriptor_mean[of[a]].numpy(), potential.descriptor_spread[of[a]].numpy()
        out = [last.weight.detach().numpy() @ net(body, (y - nu) / tau) for y in (d, 0 * d)]
        energies.append(float(potential.energy_scale) * float((out[0] - out[1])[0]) - 3.0)
    return torch.tensor(energies, dtype=torch.float64)


@pytest.mark.parametrize("one_side", [False, True])
@pytest.mark.parametrize("resnet_dt", [False, True])
def test_energy_is_that_of_a_naive_loop(one_side, resnet_dt):
    potential = ready(SMALL.model_copy(update={"type_one_side": one_side, "resnet_dt": resnet_dt}))
    structures = titania(3)
    found = evaluate(potential, structures).atom_energy
    torch.testing.assert_close(found, naive_energy(potential, structures), rtol=0, atol=1e-11)
    assert found.std() > 1e-3


def test_statistics_are_those_of_the_training_set():
    potential = make(SMALL.model_copy(update={"n_c": None}), ELEMENTS)
    graphs = [graph_of(titania(k), potential) for k in (1, 2)]
    potential.learn_statistics(iter(graphs))
    for p, z in enumerate(ELEMENTS):
        rows = []
        for g in graphs:
            r = g.vectors[g.numbers[g.i] == z].norm(dim=1)
            rows.append(torch.cat([moments.switched_inverse(r, 0.5, 4.5)[:, None], r[:, None]], 1))
        s = torch.cat(rows)[:, 0]
        torch.testing.assert_close(potential.mean[p], s.mean())
        torch.testing.assert_close(potential.spread[p, 0], s.std(correction=0))
        vectors = torch.cat([g.vectors[g.numbers[g.i] == z] for g in graphs])
        angular = s[:, None] * vectors / vectors.norm(dim=1)[:, None]
        torch.testing.assert_close(potential.spread[p, 1], angular.square().mean().sqrt())
    edges, atoms = sum(len(g.i) for g in graphs), sum(g.n_atoms for g in graphs)
    assert float(potential.n_c) == pytest.approx(edges / atoms)


def test_descriptors_that_the_fitting_nets_see_are_standardised():
    potential = ready()
    for p in range(2):
        seen = []
        for k in (11, 12):
            graph = graph_of(titania(k), potential)
            position = potential.position(graph.numbers)
            d = potential.descriptors(graph, position)[position == p].detach()
            seen.append((d - potential.descriptor_mean[p]) / potential.descriptor_spread[p])
        seen = torch.cat(seen)
        torch.testing.assert_close(seen.mean(0), torch.zeros(60).double(), rtol=0, atol=1e-9)
        spread = seen.std(0, correction=0)
        assert (spread < 1 + 1e-9).all()
        assert (spread[potential.descriptor_spread[p] > potential.descriptor_spread[p].min()] > 1 - 1e-9).all()
        assert spread.median() > 0.5


def test_n_c_is_stored_and_a_given_one_is_kept(tmp_path):
    given = ready()
    assert float(given.n_c) == 20.0
    counted = ready(SMALL.model_copy(update={"n_c": None}))
    Model([counted], ModelInfo(elements=ELEMENTS)).save(tmp_path / "model.rutile")
    assert float(load_model(tmp_path / "model.rutile").potentials[0].n_c) == float(counted.n_c) > 20.0


def test_statistics_of_atoms_without_neighbors_leave_numbers_that_work():
    potential = make(SMALL.model_copy(update={"n_c": None}), ELEMENTS)
    alone = Structures.from_ase([Atoms("O", [(0, 0, 0)]), Atoms("Ti", [(0, 0, 0)])])
    potential.learn_statistics([graph_of(alone, potential)])
    assert torch.isfinite(evaluate(potential, titania()).forces).all()


def test_residual_layers_follow_the_widths():
    net = ResNet((1, 3, 6, 6, 5), "tanh", torch.Generator().manual_seed(0), timestep=True)
    assert sorted(net.steps) == ["1", "2"]
    x = torch.linspace(-1, 1, 4).double()[:, None]
    a, b, c, d = net.layers
    first = torch.tanh(a(x))
    second = torch.cat([first, first], 1) + net.steps["1"] * torch.tanh(b(first))
    third = second + net.steps["2"] * torch.tanh(c(second))
    torch.testing.assert_close(net(x), torch.tanh(d(third)))


@pytest.mark.parametrize("bad", [{"smooth_from": 7.0}, {"axis": 101}])
def test_settings_that_contradict_each_other_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        DeepPotSESettings(**bad)


def test_no_pair_of_elements_shares_a_net_unless_asked():
    assert len(make(SMALL, ELEMENTS).embedding) == 4
    assert len(make(SMALL.model_copy(update={"type_one_side": True}), ELEMENTS).embedding) == 2


# Tables


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_derivatives_of_every_activation(activation):
    net = ResNet((1, 3, 6, 6), activation, torch.Generator().manual_seed(0), timestep=True)
    x = torch.linspace(-2, 2, 9).double().requires_grad_()
    value, first, second = net.derivatives(x.detach())
    torch.testing.assert_close(value, net(x[:, None]))
    for m in range(6):
        (slope,) = torch.autograd.grad(net(x[:, None])[:, m].sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x)
        torch.testing.assert_close(first[:, m], slope)
        torch.testing.assert_close(second[:, m], curvature)


def polynomial(x):
    """Two of fifth and fourth order, with their derivatives."""
    value = torch.stack([x**5 - 2 * x**3 + 1, 0.3 * x**4 - x], 1)
    slope = torch.stack([5 * x**4 - 6 * x**2, 1.2 * x**3 - 1], 1)
    return value, slope, torch.stack([20 * x**3 - 12 * x, 3.6 * x**2], 1)


def wave(x):
    s, c = torch.sin(x)[:, None], torch.cos(x)[:, None]
    return torch.cat([s, c], 1), torch.cat([c, -s], 1), torch.cat([-s, -c], 1)


def test_tables_are_exact_for_polynomials_of_fifth_order_and_constant_outside():
    tables = HermiteTables(2, TableSize(fine=4, coarse=3), 2)
    tables.fill([polynomial, wave], torch.tensor([[-1.0, 1.0, 3.0], [0.0, 2.0, 8.0]]).double())
    x = torch.linspace(-0.99, 2.99, 41).double().requires_grad_()
    zero = torch.zeros(41, dtype=torch.long)
    found, want = tables(zero, x), polynomial(x.detach())
    torch.testing.assert_close(found.detach(), want[0], rtol=1e-11, atol=1e-11)
    for m in range(2):
        (slope,) = torch.autograd.grad(found[:, m].sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x, retain_graph=True)
        torch.testing.assert_close(slope.detach(), want[1][:, m], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(curvature, want[2][:, m], rtol=1e-9, atol=1e-9)
    y = torch.linspace(0.0, 2.0, 41).double()  # the other table, with the error that theory allows
    error = (tables(zero + 1, y) - wave(y)[0]).abs().max()
    assert 1e-8 < error < 0.5**6 / 46080
    outside = tables(torch.tensor([0, 0]), torch.tensor([-7.0, 9.0]).double())
    torch.testing.assert_close(outside, polynomial(torch.tensor([-1.0, 3.0]).double())[0])


@pytest.mark.slow
@pytest.mark.parametrize("one_side", [False, True])
def test_compressed_is_the_same_potential(one_side):
    potential = ready(SMALL.model_copy(update={"type_one_side": one_side}))
    with torch.no_grad():  # sharper curves than those of fresh networks
        for parameter in potential.embedding.parameters():
            parameter.mul_(2.0)
    fast = potential.compressed()
    assert not any(name.startswith("embedding") for name, _ in fast.named_parameters())
    batch = Structures.from_ase(
        [Atoms("TiO2", [(0, 0, 0), (r, 0.3, 0), (-1.4, 0.9, 0.2)]) for r in (0.3, 0.45, 0.55, 1.2, 2.0, 3.9)]
    )
    for structures in (titania(5), titania(6), batch):
        want, found = evaluate(potential, structures), evaluate(fast, structures)
        assert want.forces.abs().max() > 1e-2
        torch.testing.assert_close(found.energy, want.energy, rtol=0, atol=1e-8)
        torch.testing.assert_close(found.forces, want.forces, rtol=0, atol=1e-7)
        torch.testing.assert_close(found.stress, want.stress, rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="no compiled kernels")
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-11), (torch.float32, 2e-4)])
def test_kernel_gives_the_plain_tables(dtype, close):
    fast = compressed().to(dtype)
    graph = graph_of(titania(8).to(dtype=dtype), fast)
    vectors = graph.vectors.detach().clone()
    # Vectors that cross the border of fine and coarse nodes, lie below the last node, or at the cutoff and beyond.
    for e, r in enumerate((0.49, 0.2, 0.05, 4.4999, 4.5, 4.7)):
        vectors[e] *= r / vectors[e].norm()
    found = []
    for function in (moments.moments, moments.moments_plain):
        leaf = vectors.clone().requires_grad_()
        around = fast._environment(dataclasses.replace(graph, vectors=leaf), fast.position(graph.numbers))
        total = function(fast.tables, around)
        weight = torch.randn(total.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
        (gradient,) = torch.autograd.grad((total * weight).sum(), leaf)
        found.append((total.detach(), gradient))
    for a, b in zip(*found, strict=True):
        assert b.abs().max() > 1.0
        torch.testing.assert_close(a, b, rtol=close, atol=close * float(b.abs().max()))


@pytest.mark.slow
@pytest.mark.skipif(library() is None, reason="no compiled kernels")
def test_kernel_is_used_and_gives_the_same_with_threads(monkeypatch):
    fast, structures = compressed(), titania(9, [8, 22] * 20)
    monkeypatch.setattr(moments, "moments_plain", None)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(evaluate(fast, structures).forces)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_second_derivatives_go_through_the_tables():
    def bend(potential):
        graph = graph_of(titania(4), potential)
        vectors = graph.vectors.detach().requires_grad_()
        energy = potential(dataclasses.replace(graph, vectors=vectors)).sum()
        (gradient,) = torch.autograd.grad(energy, vectors, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), vectors)[0]

    want = bend(ready())
    assert want.abs().max() > 1e-3
    torch.testing.assert_close(bend(compressed()), want, rtol=0, atol=1e-7)


@pytest.mark.slow
def test_compressed_twice_is_refused():
    with pytest.raises(SettingsError, match="compressed already"):
        compressed().compressed()
