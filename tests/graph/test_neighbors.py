"""vesin against trying every image of every pair, in every kind of cell."""

import numpy as np
import pytest
import torch
from graph_cases import EXACT, structures
from hypothesis import given
from hypothesis import strategies as st

from rutile.core.errors import GeometryError
from rutile.graph.graph import build_graph
from rutile.graph.neighbors import find_edges, find_edges_brute_force
from rutile.structures.structures import Structures, concatenate

CUTOFFS = st.sampled_from([0.8, 2.5, 4.0, 6.5])


def assert_same(a, b):
    assert torch.equal(a.i, b.i)
    assert torch.equal(a.j, b.j)
    assert torch.equal(a.shift, b.shift)
    assert a.cutoff == b.cutoff
    assert a.i.dtype == a.j.dtype == a.shift.dtype == torch.long


@EXACT
@given(structures(), CUTOFFS)
def test_equals_brute_force(one, cutoff):
    assert_same(find_edges(one, cutoff), find_edges_brute_force(one, cutoff))


@pytest.mark.slow
@EXACT
@given(st.lists(structures(), max_size=4), CUTOFFS)
def test_batch_of_different_sizes(parts, cutoff):
    batch = concatenate(parts)
    edges = find_edges(batch, cutoff)
    assert_same(edges, find_edges_brute_force(batch, cutoff))
    assert torch.equal(batch.system[edges.i], batch.system[edges.j])


@EXACT
@given(structures(), CUTOFFS)
def test_lengths_both_directions_and_order(one, cutoff):
    edges = find_edges(one, cutoff)
    vectors = build_graph(one, edges).vectors
    assert (vectors.norm(dim=1) < cutoff + 1e-12).all()
    rows = torch.cat([edges.i[:, None], edges.j[:, None], edges.shift], 1).tolist()
    back = torch.cat([edges.j[:, None], edges.i[:, None], -edges.shift], 1).tolist()
    assert rows == sorted(rows)
    assert sorted(back) == rows
    assert len(set(map(tuple, rows))) == len(rows)


def test_threads_find_the_same(monkeypatch):
    grid = np.stack(np.meshgrid(*[np.arange(13)] * 3, indexing="ij"), -1).reshape(-1, 3) * 3.0
    points = grid + np.random.default_rng(0).normal(0, 1.0, grid.shape)
    one = Structures.from_arrays([29] * len(points), points, np.eye(3) * 39, [True, False, True])
    alone = find_edges(one, 5.0)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    assert_same(find_edges(one, 5.0), alone)


def shells(cell, cutoff):
    """Distances of a lattice point's neighbours, from a generous box of shifts."""
    n = np.stack(np.meshgrid(*[np.arange(-9, 10)] * 3, indexing="ij"), -1).reshape(-1, 3)
    d = np.linalg.norm(n @ cell, axis=1)
    return np.sort(d[(d > 0) & (d < cutoff)])


def test_single_atom_with_cutoff_far_beyond_the_cell():
    cell = np.array([[2.0, 0, 0], [1.1, 1.9, 0], [-0.4, 0.6, 2.2]])
    one = Structures.from_arrays([29], np.array([[7.0, -3.0, 50.0]]), cell, np.ones(3, bool))
    edges = find_edges(one, 6.5)
    lengths = build_graph(one, edges).vectors.norm(dim=1).sort().values
    assert len(lengths) > 100
    np.testing.assert_allclose(lengths, shells(cell, 6.5), atol=1e-12)


def test_nobody_near():
    lonely = Structures.from_arrays([8], np.zeros((1, 3)), np.eye(3) * 20, np.ones(3, bool))
    gas = Structures.from_arrays([8, 8], np.array([[0.0, 0, 0], [9.0, 0, 0]]), np.zeros((3, 3)), np.zeros(3, bool))
    edges = find_edges(concatenate([lonely, gas]), 5.0)
    assert edges.i.shape == edges.j.shape == (0,)
    assert edges.shift.shape == (0, 3)


def test_empty_batch_and_structure_without_atoms():
    empty = find_edges(concatenate([]), 5.0)
    assert empty.i.shape == (0,)
    assert empty.shift.shape == (0, 3)
    none = Structures.from_arrays(np.zeros(0), np.zeros((0, 3)), np.eye(3) * 4, np.ones(3, bool))
    one = Structures.from_arrays([8], np.zeros((1, 3)), np.eye(3) * 4, np.ones(3, bool))
    assert_same(find_edges(concatenate([none, one, none]), 5.0), find_edges(one, 5.0))


def test_vectors_of_other_directions_do_not_matter():
    """A slab has the same neighbours whatever stands as its third cell vector."""
    rng = np.random.default_rng(0)
    points, pbc = rng.normal(size=(6, 3)) * 2, np.array([True, False, True])
    cells = [np.diag([3.0, height, 4.0]) for height in (0.0, 1e-3, 1.0, 50.0)]
    cells.append(np.array([[3.0, 0, 0], [3.0, 0, 4.0], [0, 0, 4.0]]))  # dependent on the others
    found = [find_edges(Structures.from_arrays([8] * 6, points, c, pbc), 5.0) for c in cells]
    assert len(found[0].i) > 50
    assert not found[0].shift[:, 1].any()
    for other in found[1:]:
        assert_same(other, found[0])


def test_whole_cells_away_is_the_same_structure():
    rng = np.random.default_rng(1)
    cell = np.eye(3) * 4 + rng.normal(size=(3, 3)) * 0.5
    points = rng.normal(size=(5, 3))
    move = rng.integers(-30, 30, size=(5, 3))
    here = Structures.from_arrays([8] * 5, points, cell, np.ones(3, bool))
    there = Structures.from_arrays([8] * 5, points + move @ cell, cell, np.ones(3, bool))
    a, b = find_edges(here, 5.0), find_edges(there, 5.0)
    assert len(a.i) == len(b.i)
    shift = b.shift + torch.from_numpy(move[b.j] - move[b.i])
    rows = [torch.cat([e.i[:, None], e.j[:, None], s], 1).tolist() for e, s in ((a, a.shift), (b, shift))]
    assert sorted(rows[0]) == sorted(rows[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inputs_untouched_and_any_precision(dtype):
    points = torch.rand(5, 3, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 3
    one = Structures.from_arrays([8] * 5, np.zeros((5, 3)), np.eye(3) * 3, np.ones(3, bool), dtype)
    one = one.replace(positions=points.requires_grad_())
    before = points.detach().clone()
    assert_same(find_edges(one, 4.0), find_edges_brute_force(one, 4.0))
    assert torch.equal(points.detach(), before)


def test_same_with_threads(monkeypatch):
    rng = np.random.default_rng(2)
    n = 600
    one = Structures.from_arrays([8] * n, rng.random((n, 3)) * 18, np.eye(3) * 18, np.ones(3, bool))
    alone = find_edges(one, 4.5)
    monkeypatch.setattr("rutile.graph.neighbors.THREADS_FROM", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert_same(find_edges(one, 4.5), alone)


@pytest.mark.slow
def test_shifts_too_wide_for_one_integer():
    cell = np.eye(3) * 4.0
    far = np.array([[0.0, 0, 0], [4e7, -4e7, 4e7 + 1], [1.0, 4e7, 2.0]])
    one = Structures.from_arrays([8] * 3, far, cell, np.ones(3, bool))
    edges = find_edges(one, 4.5)
    rows = torch.cat([edges.i[:, None], edges.j[:, None], edges.shift], 1).tolist()
    assert rows == sorted(rows)
    near = one.replace(positions=torch.tensor([[0.0, 0, 0], [0, 0, 1.0], [1.0, 0, 2.0]], dtype=torch.float64))
    lengths = [
        build_graph(s, e).vectors.norm(dim=1).sort().values for s, e in ((one, edges), (near, find_edges(near, 4.5)))
    ]
    torch.testing.assert_close(lengths[0], lengths[1], atol=1e-6, rtol=0)


GOOD = Structures.from_arrays([8, 8], np.array([[0.0, 0, 0], [1.0, 0, 0]]), np.eye(3) * 4, np.ones(3, bool))


def changed(**entries):
    tensors = {}
    for name, (where, value) in entries.items():
        tensors[name] = getattr(GOOD, name).clone()
        tensors[name][where] = value
    return GOOD.replace(**tensors)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (changed(positions=((1, 2), float("nan"))), r"structure 1, atom 1: position"),
        (changed(positions=((0, 0), float("-inf"))), r"structure 1, atom 0: position"),
        (changed(positions=((1, 1), 1e12)), r"structure 1, atom 1: position"),
        (changed(cell=((0, 1), 0.0)), r"structure 1: the cell vectors"),
        (changed(cell=((0, 1, 1), float("nan"))), r"structure 1: the cell vectors"),
        (changed(cell=((0, 2), torch.tensor([0.0, 4.0, 0.0]).double())), r"structure 1: the cell vectors"),
    ],
)
def test_geometries_without_neighbours_are_refused(bad, message):
    with pytest.raises(GeometryError, match=message):
        find_edges(concatenate([GOOD, bad, GOOD]), 4.0)
