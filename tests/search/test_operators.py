"""Operators keep the composition and leave their parents alone; each does what it says."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.cluster import Octahedron
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.build.guards import measure
from rutile.build.recipe import Refused
from rutile.search.clusters import Clusters
from rutile.search.crystals import Crystals
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import ATOM_ENERGY
from rutile.search.operators.operator import Breed
from rutile.search.operators.relocate import free_places, neighbours
from rutile.search.operators.resurface import resurface
from rutile.search.point_groups import operations_of, orbits, point_group
from rutile.search.settings import ClusterSearch, CrystalSearch
from rutile.structures.symmetry import describe_crystal
from rutile.testing.searching import new_structure

CLUSTERS = Clusters("Cu9Au4", ClusterSearch())
CRYSTALS = Crystals("TiO2", CrystalSearch(units=(2, 3)))
CASES = [(p, op) for p in (CLUSTERS, CRYSTALS) for op in p.operators]


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "operator"), CASES, ids=[f"{type(p).__name__}-{o.name}" for p, o in CASES])
def test_composition_and_parents_stay(problem, operator):
    made = changed = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        parents = [new_structure(problem, rng) for _ in range(operator.parents)]
        for parent in parents:
            parent.set_array(ATOM_ENERGY, np.random.default_rng(seed).normal(size=len(parent)))
        before = [p.copy() for p in parents]
        try:
            child = problem.tidied(operator.make(parents, problem.breed, rng))
        except Refused:
            continue
        made += 1
        assert sorted(child.numbers) == sorted(parents[0].numbers)
        assert np.isfinite(child.positions).all()
        marks = [fingerprint(a, problem.distance) for a in (child, before[0])]
        changed += apart(*marks) > 1e-4
        assert all(a == b for a, b in zip(parents, before, strict=True))
    assert made >= 2
    assert changed >= 0.8 * made or operator.name == "symmetrise"  # what is symmetric stays


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_new_crystals_have_whole_formulas_and_room(seed):
    atoms = new_structure(CRYSTALS, np.random.default_rng(seed))
    titanium = int((atoms.numbers == 22).sum())
    assert titanium in (2, 3)
    assert len(atoms) == 3 * titanium
    assert measure(atoms).contact > 0.6


def test_same_seed_same_child():
    children = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        parents = [new_structure(CLUSTERS, rng), new_structure(CLUSTERS, rng)]
        children.append(CLUSTERS.operators[0].make(parents, CLUSTERS.breed, rng).positions)
    np.testing.assert_array_equal(*children)


def test_free_places_of_a_tetrahedron():
    """Each face of a regular tetrahedron has one free place outside; inside there is no room."""
    d = 2.5
    x = d / np.sqrt(8) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    places = free_places(x, d)
    assert len(places) == 4
    distances = np.linalg.norm(places[:, None] - x, axis=2)
    np.testing.assert_allclose(np.sort(distances, axis=1)[:, :3], d, atol=1e-9)


def test_relocation_fills_the_hole_of_a_whole_cluster():
    """An atom that lies on a facet goes back to the corner that is missing."""
    whole = Octahedron("Cu", 4, cutoff=1)
    d = 3.61 / np.sqrt(2)
    centre = whole.positions.mean(0)
    corner = int(np.linalg.norm(whole.positions - centre, axis=1).argmax())
    hole = whole.positions[corner].copy()
    places = free_places(np.delete(whole.positions, corner, 0), d)
    assert np.linalg.norm(places - hole, axis=1).min() < 0.05


@pytest.mark.slow
def test_symmetrised_crystals_have_the_symmetry_of_the_nearly_symmetric_parent():
    operator = next(o for o in CRYSTALS.operators if o.name == "symmetrise")
    parent = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    parent.rattle(0.02, seed=0)
    assert describe_crystal(parent, 1e-3).number == 1
    groups = set()
    for seed in range(20):
        try:
            child = operator.make([parent], CRYSTALS.breed, np.random.default_rng(seed))
        except Refused:
            continue
        groups.add(describe_crystal(child).spacegroup)
    assert "Fm-3m" in groups


def test_clusters_of_one_element_do_not_permute():
    assert "permutation" not in {o.name for o in Clusters("Ar13", ClusterSearch()).operators}
    with pytest.raises(Refused):
        CLUSTERS.operators[-1].make([Atoms("Cu3", positions=np.eye(3) * 3)], CLUSTERS.breed, np.random.default_rng(0))


def test_resurface_mends_a_surface_and_leaves_a_closed_one():
    """Two corners of a truncated octahedron put upon its facets go back to where their neighbours are."""
    whole = Octahedron("Cu", 4, 1)
    breed = Breed(distance=2.553)
    with pytest.raises(Refused, match="gains"):
        resurface([whole], breed, np.random.default_rng(0))
    x = whole.positions
    corners = np.argsort(neighbours(x, 1.25 * breed.distance))[:2]
    stays = np.delete(x, corners, axis=0)
    places = free_places(stays, breed.distance)
    far = places[np.linalg.norm(places[:, None] - x, axis=2).min(1) > 0.5 * breed.distance]
    rough = whole.copy()
    rough.positions[corners] = far[[0, -1]]
    child = resurface([rough], breed, np.random.default_rng(0))
    mark = fingerprint(whole, breed.distance)
    assert apart(fingerprint(rough, breed.distance), mark) > 0.03
    assert apart(fingerprint(child, breed.distance), mark) < 0.01


@pytest.mark.slow
def test_resurface_keeps_a_symmetry_half_of_the_time():
    """From a cluster of C5v, whose orbits have 1, 5 or 10 atoms, with more pairs of neighbours than before."""
    group, distance = point_group("C5v"), 2.553
    problem = Clusters("Cu31", ClusterSearch(distance=distance))
    x = orbits(group, 31, np.random.default_rng(0)) * problem.radius
    parent = problem.tidied(Atoms("Cu31", positions=x))
    assert len(operations_of(parent.positions, parent.numbers, 0.1)) == 10
    orders = []
    for seed in range(12):
        child = resurface([parent], problem.breed, np.random.default_rng(seed))
        pairs = [neighbours(a.positions, 1.25 * distance).sum() for a in (parent, child)]
        assert pairs[1] > pairs[0]
        orders.append(len(operations_of(child.positions, child.numbers, 0.1)))
    assert set(orders) >= {1, 10}
