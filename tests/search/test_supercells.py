"""Supercells, and new crystals that are some."""

import numpy as np
import pytest
import spglib
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.build.recipe import Refused
from rutile.search.crystals import Crystals
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.settings import CrystalSearch
from rutile.search.supercells import compact_supercell, hermite, parts_of
from rutile.structures.symmetry import describe_crystal


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 24), st.integers(0, 10**6))
def test_matrices_have_the_determinant(size, seed):
    h = hermite(size, np.random.default_rng(seed))
    assert round(np.linalg.det(h)) == size
    assert (np.triu(h, 1) == 0).all()


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 8), st.integers(0, 10**6))
def test_repeated_is_the_same_crystal(many, seed):
    one = bulk("ZnS", "wurtzite", a=3.8, c=6.2)
    more = compact_supercell(one, many, np.random.default_rng(seed))
    assert len(more) == many * len(one)
    assert apart(fingerprint(one, 2.4), fingerprint(more, 2.4)) < 1e-6
    assert describe_crystal(more).spacegroup == describe_crystal(one).spacegroup


def test_parts_divide():
    rng = np.random.default_rng(0)
    assert {parts_of(12, rng) for _ in range(200)} == {2, 3, 4, 6, 12}
    assert parts_of(1, rng) == 1


@pytest.mark.slow
@pytest.mark.parametrize("part", [0.0, 1.0])
def test_new_crystals_repeat_where_asked(part):
    """Whole formulas either way; with repeated=1 the primitive cell is always smaller than the cell."""
    problem, primitive = Crystals("TiO2", CrystalSearch(units=(4,), repeated=part)), []
    for seed in range(60):
        try:
            atoms = problem.create(np.random.default_rng(seed), 0)
        except Refused:
            continue
        assert len(atoms) == 12
        cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        primitive.append(len(spglib.find_primitive(cell, symprec=1e-3)[2]))
    assert len(primitive) > 10
    assert all((n < 12) == (part == 1) for n in primitive)
