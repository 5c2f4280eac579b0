"""Batches: every frame once, within the budget, the same in every process."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.data.batches import BatchSampler, alike

EXACT = settings(derandomize=True, database=None, deadline=None)
SIZES = st.lists(st.integers(0, 50), max_size=60).map(np.array)


@pytest.mark.slow
@EXACT
@given(SIZES, st.integers(1, 10), st.integers(0, 5))
def test_by_structures(sizes, per_batch, k):
    batches = BatchSampler(sizes, per_batch=per_batch, seed=3).epoch(k)
    assert sorted(np.concatenate([[], *batches]).tolist()) == list(range(len(sizes)))
    assert all(len(b) == per_batch for b in batches[:-1])
    assert all(1 <= len(b) <= per_batch for b in batches)


@pytest.mark.slow
@EXACT
@given(SIZES, st.integers(1, 120), st.integers(0, 5))
def test_by_edges(sizes, budget, k):
    batches = BatchSampler(sizes, edges=budget, seed=3).epoch(k)
    assert sorted(np.concatenate([[], *batches]).tolist()) == list(range(len(sizes)))
    assert all(sizes[b].sum() <= budget or len(b) == 1 for b in batches)
    for b, after in itertools.pairwise(batches):
        assert sizes[b].sum() + sizes[after[0]] > budget  # nothing more would have fitted


def test_epochs_differ_and_seeds_differ():
    def order(seed, k):
        return np.concatenate(BatchSampler(np.ones(50), per_batch=7, seed=seed).epoch(k)).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_an_epoch_does_not_depend_on_earlier_ones():
    a, b = (BatchSampler(np.arange(40), edges=60, seed=1) for _ in range(2))
    for k in range(5):
        a.epoch(k)
    assert [x.tolist() for x in a.epoch(5)] == [x.tolist() for x in b.epoch(5)]


def test_in_order():
    batches = BatchSampler(np.array([5, 5, 5, 20, 1, 1]), edges=10).in_order()
    assert [b.tolist() for b in batches] == [[0, 1], [2], [3], [4, 5]]


def test_same_in_another_process():
    code = (
        "import numpy as np; from rutile.data.batches import BatchSampler;"
        "print([b.tolist() for b in BatchSampler(np.arange(30), edges=70, seed=11).epoch(4)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str([b.tolist() for b in BatchSampler(np.arange(30), edges=70, seed=11).epoch(4)])


@pytest.mark.parametrize("how", [{}, {"per_batch": 3, "edges": 3}, {"per_batch": 0}, {"edges": -1}])
def test_one_rule(how):
    with pytest.raises(ValueError, match="per_batch"):
        BatchSampler(np.ones(3), **how)


@pytest.mark.slow
@EXACT
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 900)), min_size=1, max_size=30))
def test_parts_of_a_batch_hold_every_frame_and_save_work(frames):
    atoms, edges = np.array(frames).T
    parts = alike(atoms, edges)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(frames)))
    places = [atoms[p].sum() * (edges[p] / atoms[p]).max() for p in parts]
    whole = atoms.sum() * (edges / atoms).max()
    if len(parts) == 1:
        order = np.argsort(edges / atoms)
        cuts = [[order[:k], order[k:]] for k in range(1, len(order))]
        for cut in cuts:
            assert sum(atoms[p].sum() * (edges[p] / atoms[p]).max() for p in cut) >= 0.75 * whole * (1 - 1e-12)
    else:
        assert sum(places) < 0.75 * whole
        assert (edges[parts[0]] / atoms[parts[0]]).max() <= (edges[parts[1]] / atoms[parts[1]]).min()


def test_molecules_and_a_dense_metal_are_taken_apart():
    atoms, edges = np.array([10, 2, 10, 10]), np.array([100, 400, 110, 90])
    assert [p.tolist() for p in alike(atoms, edges)] == [[3, 0, 2], [1]]
    assert [p.tolist() for p in alike(atoms[:1], edges[:1])] == [[0]]
