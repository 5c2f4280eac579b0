"""Ranges of surroundings: what lies within them, what outside, and that it is the atoms with large errors."""

from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.structures.surroundings import CUTOFF, Surroundings


def plain(atoms):
    return SimpleNamespace(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell[:], pbc=atoms.pbc)


def rattled(atoms, count, spread, seed=0):
    generator = np.random.default_rng(seed)
    for _ in range(count):
        one = atoms.copy()
        one.positions += generator.normal(0, spread, one.positions.shape)
        yield plain(one)


COPPER = bulk("Cu", cubic=True)


@pytest.fixture(scope="module")
def of_copper():
    return Surroundings.of(rattled(COPPER, 30, 0.05))


def test_what_was_trained_on_is_inside_and_its_like(of_copper):
    assert not any(of_copper.strange(one).atoms for one in rattled(COPPER, 30, 0.05))
    assert not any(of_copper.strange(one).atoms for one in rattled(COPPER.repeat((2, 1, 1)), 20, 0.05, seed=1))


def test_counts_and_distances_are_those_of_the_definition():
    dimer = molecule("N2")
    distance = dimer.get_distance(0, 1)
    ranges = Surroundings.of([plain(dimer)]).ranges
    weight = (1 + np.cos(np.pi * distance / CUTOFF)) / 2
    assert ranges["N-N"] == pytest.approx((distance, weight, weight), abs=1e-4)
    water = Surroundings.of([plain(molecule("H2O")), plain(molecule("H2"))]).ranges
    assert water["H-O"][1] == 0.0  # of hydrogen there was one without oxygen
    assert water["O-H"][1] == water["O-H"][2] > 1.0
    assert "O-O" not in water


def test_a_surface_high_pressure_and_strangers_are_outside(of_copper):
    slab = of_copper.strange(plain(fcc111("Cu", (2, 2, 6), vacuum=8.0)))
    assert 0 < slab.atoms < slab.of  # its two sides, not its middle
    assert "fewer Cu" in slab.text
    assert f"{slab.atoms} of 24 atoms" in slab.text
    pressed = COPPER.copy()
    pressed.set_cell(pressed.cell * 0.85, scale_atoms=True)
    assert of_copper.strange(plain(pressed)).atoms == len(pressed)
    mixed = COPPER.copy()
    mixed.numbers[0] = 79
    assert "Au nearby, which never were in training" in of_copper.strange(plain(mixed)).why


def test_a_short_bond_is_said_with_both_distances(of_copper):
    near = COPPER.repeat(2)
    near.positions[0] += 0.25 * (near.positions[1] - near.positions[0])
    found = of_copper.strange(plain(near))
    assert 2 <= found.atoms < len(near)
    assert "Cu and Cu are 1.91 Å apart" in found.why


def test_an_atom_alone_and_no_structure():
    alone = SimpleNamespace(numbers=np.array([29]), positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=[False] * 3)
    known = Surroundings.of([alone])
    assert known.ranges == {}
    assert known.strange(alone).atoms == 0
    assert "never were in training" in known.strange(plain(COPPER)).why
    assert Surroundings.of([]).frames == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_they_do_not_change_with_rotation_translation_order_or_repetition(seed):
    generator = np.random.default_rng(seed)
    one = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    one.positions += generator.normal(0, 0.1, one.positions.shape)
    other = one.repeat((1, 2, 1))
    other.rotate(generator.uniform(0, 360), generator.normal(size=3), rotate_cell=True)
    other.positions += generator.normal(size=3)
    other = other[generator.permutation(len(other))]
    first, second = (Surroundings.of([plain(x)]).ranges for x in (one, other))
    assert first.keys() == second.keys()
    assert all(np.allclose(first[pair], second[pair], atol=2e-4) for pair in first)


def test_they_are_kept_by_json(of_copper):
    assert Surroundings.model_validate_json(of_copper.model_dump_json()) == of_copper
