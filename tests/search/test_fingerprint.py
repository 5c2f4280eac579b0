"""The fingerprint does not change with cell, supercell, order, orientation or origin, and tells structures apart."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, niggli_reduce
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rutile.search.fingerprint import Marks, apart, apart_from, fingerprint


def crystal(seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * rng.uniform(3, 6, 3)[:, None] + rng.normal(scale=0.5, size=(3, 3))
    return Atoms("TiO2Cu", scaled_positions=rng.random((4, 3)), cell=cell, pbc=True)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(-1, 1), min_size=9, max_size=9))
def test_invariance_of_crystals(seed, numbers):
    one = crystal(seed)
    rng = np.random.default_rng(seed + 1)
    matrix = np.array(numbers).reshape(3, 3) + 2 * np.eye(3, dtype=int)
    other = make_supercell(one, matrix) if abs(np.linalg.det(matrix)) > 0.5 else one.repeat((2, 1, 1))
    other = other[rng.permutation(len(other))]
    turn = Rotation.random(rng=rng).as_matrix()
    other.set_cell(other.cell.array @ turn, scale_atoms=True)
    other.positions += rng.normal(size=3)
    other.wrap()
    a, b = fingerprint(one, 2.5), fingerprint(other, 2.5)
    np.testing.assert_allclose(a, b, atol=1e-8 * np.abs(a).max())
    reduced = other.copy()
    niggli_reduce(reduced)
    assert apart(a, fingerprint(reduced, 2.5)) < 1e-6


def test_clusters_turn_and_mirror():
    rng = np.random.default_rng(0)
    one = Atoms("Cu6Au3", positions=rng.normal(scale=3, size=(9, 3)))
    turned = Atoms(one.numbers, positions=-Rotation.random(rng=rng).apply(one.positions) + 5)
    assert apart(fingerprint(one, 2.7), fingerprint(turned[rng.permutation(9)], 2.7)) < 1e-9


def test_different_structures_are_apart():
    cubic = [fingerprint(bulk("Cu", kind, a=a, cubic=True), 2.6) for kind, a in (("fcc", 3.6), ("bcc", 2.86))]
    cubic.append(fingerprint(bulk("Cu", "hcp", a=2.55), 2.6))
    for k in range(3):
        for other in range(k):
            assert apart(cubic[k], cubic[other]) > 0.15
    assert apart(cubic[0], cubic[0]) == 0.0


def test_small_moves_change_it_little():
    one = bulk("Cu", cubic=True).repeat(2)
    moved = one.copy()
    moved.rattle(0.005, seed=1)
    assert 0 < apart(fingerprint(one, 2.6), fingerprint(moved, 2.6)) < 0.03


def test_no_pairs():
    assert apart(fingerprint(Atoms("Cu"), 2.6), fingerprint(Atoms("Cu"), 2.6)) == pytest.approx(0.0)


def test_distances_to_many_are_those_to_each():
    rng, marks = np.random.default_rng(0), Marks()
    assert apart_from(marks[:], np.ones(3)).tolist() == []
    each = [fingerprint(crystal(k), 2.5) for k in range(150)] + [np.zeros(len(fingerprint(crystal(0), 2.5)))]
    for mark in each:
        marks.append(mark)
    one = each[3] + rng.normal(scale=1e-3, size=len(each[3]))
    expected = [apart(one, other) for other in each]
    np.testing.assert_allclose(apart_from(marks[:], one), expected, atol=1e-12)
    np.testing.assert_allclose(apart_from(each, one), expected, atol=1e-12)
    assert len(marks) == 151
    np.testing.assert_array_equal(marks[7], each[7])
    assert apart_from([np.zeros(4)], np.zeros(4)).tolist() == [0.0]
