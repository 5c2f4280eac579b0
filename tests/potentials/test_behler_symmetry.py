"""Symmetry functions against naive loops and against automatic differentiation."""

import dataclasses
import itertools
import math

import pytest
import torch

from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges_brute_force
from rutile.potentials.parts import symmetry_eager
from rutile.potentials.parts.cutoff import CUTOFFS, cutoff, cutoff_and_slope
from rutile.potentials.parts.symmetry import SymmetryFunction, SymmetryTable
from rutile.potentials.parts.symmetry_eager import symmetry_functions, symmetry_jacobian
from rutile.structures.structures import Structures

TI, O = 22, 8  # noqa: E741
R = 3.1


def table(cutoff_function="cosine"):
    """All kinds, with shifts, whole and broken zeta, different cutoffs, and different lists for the two centres."""
    f = SymmetryFunction
    titanium = (
        f("G2", (O,), 0.4, 0.0, R), f("G2", (TI,), 2.0, 1.5, 2.6), f("G4", (O, TI), 0.03, 0.0, R, -1.0, 4.0),
        f("G4", (O, O), 0.1, 0.5, R, 1.0, 1.0), f("G5", (TI, TI), 0.05, 0.2, 2.8, 1.0, 2.5),
        f("G5", (O, O), 0.0, 0.0, R, -1.0, 16.0),
    )  # fmt: skip
    oxygen = (
        f("G4", (O, TI), 0.2, 0.0, R, 1.0, 2.0),
        f("G2", (O,), 0.4, 0.0, R),
        f("G5", (TI, TI), 0.3, 0.0, R, -1.0, 1.5),
    )
    return SymmetryTable("test", {TI: titanium, O: oxygen}, cutoff_function)


def crystal(seed=0, n=4, spread=2.6):
    """A skewed cell smaller than the cutoff, so that images and self-images matter."""
    g = torch.Generator().manual_seed(seed)
    numbers = torch.tensor([TI, O, O, TI, O, TI][:n])
    cell = torch.tensor([[2.9, 0, 0], [0.7, 3.0, 0], [-0.5, 0.4, 3.3]], dtype=torch.float64)
    grid = torch.tensor(list(itertools.product((0.0, 0.5), repeat=3)), dtype=torch.float64)[:n]
    positions = grid @ cell + 0.2 * torch.rand(n, 3, generator=g, dtype=torch.float64)
    return Structures(
        numbers, positions, cell[None], torch.ones(1, 3, dtype=torch.bool), torch.zeros(n, dtype=torch.long)
    )


def graph_of(structures, radius=R):
    return build_graph(structures, find_edges_brute_force(structures, radius))


def fc(name, r, r_c):
    return float(cutoff(name, torch.tensor(r, dtype=torch.float64), r_c))


def naive(table, graph):
    """The definitions, one scalar at a time."""
    rows = []
    edges = [(int(i), int(j), v.tolist()) for i, j, v in zip(graph.i, graph.j, graph.vectors, strict=True)]
    for centre in range(graph.n_atoms):
        mine = [(int(graph.numbers[j]), v, math.hypot(*v)) for i, j, v in edges if i == centre]
        row = []
        for f in table.functions[int(graph.numbers[centre])]:
            c = table.cutoff_function
            if f.kind == "G2":
                total = sum(
                    math.exp(-f.eta * (r - f.r_s) ** 2) * fc(c, r, f.r_c) for z, _, r in mine if (z,) == f.neighbors
                )
            else:
                total = sum(naive_angular(f, c, a, b) for a, b in itertools.combinations(mine, 2))
            row.append(total)
        rows.append(row + [0.0] * (table.width - len(row)))
    return torch.tensor(rows, dtype=torch.float64)


def naive_angular(f, cutoff_name, a, b):
    (za, va, ra), (zb, vb, rb) = a, b
    if tuple(sorted((za, zb))) != f.neighbors:
        return 0.0
    cos = sum(x * y for x, y in zip(va, vb, strict=True)) / (ra * rb)
    value = 2 ** (1 - f.zeta) * max(0.0, 1 + f.lambda_ * cos) ** f.zeta
    sides = [ra, rb] + ([math.dist(va, vb)] if f.kind == "G4" else [])
    for r in sides:
        value *= math.exp(-f.eta * (r - f.r_s) ** 2) * fc(cutoff_name, r, f.r_c)
    return value


@pytest.mark.parametrize("cutoff_function", ["cosine", "tanh3", "poly2", "exp"])
def test_equal_to_the_naive_loops(cutoff_function):
    graph = graph_of(crystal())
    expected = naive(table(cutoff_function), graph)
    assert expected[:, 5].abs().max() > 1e-4  # the loop itself is not vacuous
    for g in (symmetry_functions(table(cutoff_function), graph), symmetry_jacobian(table(cutoff_function), graph)[0]):
        torch.testing.assert_close(g, expected, rtol=1e-12, atol=1e-14)


def test_blocks_of_centres_change_nothing(monkeypatch):
    graph = graph_of(crystal(n=6))
    whole, whole_jacobian = symmetry_jacobian(table(), graph)
    monkeypatch.setattr(symmetry_eager, "TRIPLETS_AT_ONCE", 50)
    parts, jacobian = symmetry_jacobian(table(), graph)
    torch.testing.assert_close(parts, whole, rtol=1e-14, atol=0)
    torch.testing.assert_close(jacobian, whole_jacobian, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(symmetry_functions(table(), graph), whole, rtol=1e-13, atol=0)


def with_vectors(graph, vectors):
    return dataclasses.replace(graph, vectors=vectors)


@pytest.mark.parametrize("cutoff_function", ["cosine", "envelope6"])
def test_jacobian_equals_autograd(cutoff_function):
    graph = graph_of(crystal())
    _, jacobian = symmetry_jacobian(table(cutoff_function), graph)
    whole = torch.autograd.functional.jacobian(
        lambda v: symmetry_functions(table(cutoff_function), with_vectors(graph, v)), graph.vectors
    )  # [N, K, E, 3]
    own = whole[graph.i, :, torch.arange(len(graph.i))]
    assert own.abs().max() > 0.1
    torch.testing.assert_close(jacobian, own, rtol=1e-10, atol=1e-13)


@pytest.mark.slow
def test_second_derivatives():
    graph = graph_of(crystal(n=2), 2.8)
    weights = torch.randn(2, table().width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def energy(vectors):
        return (symmetry_functions(table(), with_vectors(graph, vectors)) * weights).sum().tanh()

    vectors = graph.vectors.clone().requires_grad_()
    assert torch.autograd.gradcheck(energy, vectors)
    assert torch.autograd.gradgradcheck(energy, vectors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_nan_in_straight_chains(dtype):
    """cos = +1 and -1 exactly, where 1 + lambda cos is 0: the derivatives of a power of 0."""
    positions = torch.tensor([[0.0, 0, 0], [0, 0, 1.5], [0, 0, 3.0]], dtype=dtype)
    numbers = torch.tensor([TI, O, TI])
    one = Structures(
        numbers, positions, torch.zeros(1, 3, 3, dtype=dtype), torch.zeros(1, 3, dtype=torch.bool), numbers * 0
    )
    edges = find_edges_brute_force(one, R)
    for zeta, lambda_ in itertools.product((1.0, 1.5, 2.0, 4.0), (-1.0, 1.0)):
        f = (
            SymmetryFunction("G4", (TI, TI), 0.01, 0.0, R, lambda_, zeta),
            SymmetryFunction("G5", (O, TI), 0.01, 0.0, R, lambda_, zeta),
        )
        chain = SymmetryTable("chain", {O: f, TI: f})
        vectors = build_graph(one, edges).vectors.requires_grad_()
        g = symmetry_functions(chain, with_vectors(build_graph(one, edges), vectors))
        (slope,) = torch.autograd.grad(g.square().sum(), vectors, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), vectors)
        jacobian = symmetry_jacobian(chain, build_graph(one, edges))[1]
        assert all(bool(torch.isfinite(x).all()) for x in (g, slope, curvature, jacobian))


def test_neighbour_elements_are_told_apart():
    """Exchanging two elements around a centre changes exactly the columns that name them."""
    one = crystal(n=4)
    swapped = one.replace(numbers=torch.tensor([TI, O, TI, O]))
    before, after = (symmetry_functions(table(), graph_of(s))[0] for s in (one, swapped))
    assert (before - after).abs().min() > 1e-6
    other = one.replace(numbers=torch.tensor([TI, O, O, 40]))  # Zr is named in no function
    reduced = symmetry_functions(table(), graph_of(other))
    no_titanium = naive(SymmetryTable("t", table().functions | {40: ()}), graph_of(other))
    torch.testing.assert_close(reduced, no_titanium, rtol=1e-12, atol=1e-14)


def test_invariances():
    one = crystal(n=4)
    g = symmetry_functions(table(), graph_of(one))
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    for rotation in (q, -q):  # one of them is improper
        turned = one.replace(positions=one.positions @ rotation + 0.3, cell=one.cell @ rotation)
        torch.testing.assert_close(symmetry_functions(table(), graph_of(turned)), g, rtol=1e-11, atol=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    permuted = one.replace(numbers=one.numbers[order], positions=one.positions[order])
    torch.testing.assert_close(symmetry_functions(table(), graph_of(permuted)), g[order], rtol=1e-11, atol=1e-12)


def test_no_neighbours_no_functions():
    one = Structures.from_arrays([TI], [[0.0, 0.0, 0.0]], torch.zeros(3, 3).numpy(), [False] * 3)
    assert (symmetry_functions(table(), graph_of(one)) == 0).all()
    empty = one.replace(numbers=one.numbers[:0], positions=one.positions[:0], system=one.system[:0])
    assert symmetry_functions(table(), graph_of(empty)).shape == (0, table().width)


@pytest.mark.parametrize("name", sorted(CUTOFFS))
def test_cutoff_functions(name):
    r = torch.linspace(0.05, 6.6, 200, dtype=torch.float64, requires_grad=True)
    f, slope = cutoff_and_slope(name, r, 6.5)
    (by_autograd,) = torch.autograd.grad(f.sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(by_autograd.sum(), r)
    torch.testing.assert_close(slope, by_autograd, rtol=1e-10, atol=1e-12)
    assert torch.isfinite(second).all()
    assert (f.detach()[r >= 6.5] == 0).all()
    assert (f.detach().diff() <= 0).all()
    edge = torch.tensor([6.5 - 1e-7], dtype=torch.float64)
    value, steepness = cutoff_and_slope(name, edge, 6.5)
    assert value.abs() < 1e-12
    assert steepness.abs() < 1e-6
    almost = torch.nextafter(torch.tensor([6.5]), torch.tensor([0.0])).requires_grad_()
    (slope32,) = torch.autograd.grad(cutoff(name, almost, 6.5).sum(), almost)
    assert torch.isfinite(slope32).all()
