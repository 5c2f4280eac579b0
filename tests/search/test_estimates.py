"""Operators that estimate: soft modes by a model of springs, and heredity by the energies of atoms."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.cluster import Icosahedron
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.build.recipe import Refused
from rutile.build.sizes import radii
from rutile.search.clusters import Clusters
from rutile.search.crystals import Crystals
from rutile.search.genetic import Genetic
from rutile.search.individual import ATOM_ENERGY, Candidate, Relaxed
from rutile.search.operators import cluster_heredity, crystal_heredity, energy_heredity
from rutile.search.operators.operator import Breed
from rutile.search.operators.soft_mode import ACROSS, DECAY, OPERATOR, soft_modes
from rutile.search.settings import ClusterSearch, CrystalSearch, GeneticSettings

NACL = bulk("NaCl", "rocksalt", a=5.6, cubic=True)


def springs(atoms, x, reach):
    """Energy of the model at other positions x, of the springs of `atoms`; by loops over images (oracle)."""
    total, r = 0.0, radii(atoms.numbers)
    images = [np.zeros(3)]
    if atoms.pbc.any():
        images = [np.array([a, b, c]) @ atoms.cell.array for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    for i in range(len(atoms)):
        for j in range(len(atoms)):
            for t in images:
                v = atoms.positions[j] + t - atoms.positions[i]
                d = np.linalg.norm(v)
                if 0 < d < reach:
                    k = np.exp(-(d - r[i] - r[j]) / DECAY)
                    u = (x[j] - atoms.positions[j]) - (x[i] - atoms.positions[i])
                    along = u @ v / d
                    total += 0.25 * k * ((1 - ACROSS) * along**2 + ACROSS * u @ u)
    return total


@pytest.mark.parametrize("atoms", [NACL, Icosahedron("Cu", 2)], ids=["crystal", "cluster"])
def test_modes_are_those_of_the_model(atoms):
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=1)
    n, reach = len(atoms), 3.4
    modes = soft_modes(atoms, reach)
    outer = 3 if atoms.pbc.any() else 6
    assert modes.shape == (3 * n - outer, n, 3)
    flat = modes.reshape(len(modes), -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(len(modes)), atol=1e-9)
    np.testing.assert_allclose(modes.sum(1), 0, atol=1e-9)
    if not atoms.pbc.any():
        about = np.cross(atoms.positions - atoms.positions.mean(0), modes).sum(1)
        np.testing.assert_allclose(about, 0, atol=1e-8)
    energies = [springs(atoms, atoms.positions + m, reach) for m in modes]
    assert energies == sorted(energies) or np.all(np.diff(energies) > -1e-8)
    assert energies[0] < 0.2 * energies[-1]
    a, b = modes[0], modes[3]
    both = springs(atoms, atoms.positions + a + b, reach)
    assert both == pytest.approx(energies[0] + energies[3], rel=1e-6)  # independent


def test_what_hangs_loose_moves_first():
    atoms = Icosahedron("Cu", 2)
    far = atoms.positions[:, 0].argmax()
    loose = atoms + Atoms("Cu", positions=[atoms.positions[far] + np.array([3.0, 0, 0])])
    mode = soft_modes(loose, 3.6)[0]
    assert np.linalg.norm(mode, axis=1).argmax() == len(loose) - 1


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), times=st.integers(0, 30))
def test_a_parent_that_comes_again_moves_along_the_next_mode(seed, times):
    rng = np.random.default_rng(seed)
    atoms = NACL.copy()
    atoms.rattle(0.1, rng=rng)
    one, other = (
        OPERATOR.make([atoms], Breed(2.8, times=t), np.random.default_rng(seed)).positions - atoms.positions
        for t in (times, times + 1)
    )
    assert abs((one * other).sum()) < 1e-8
    assert 0.2 * 2.8 - 1e-9 <= np.linalg.norm(one, axis=1).max() <= 0.6 * 2.8 + 1e-9


def test_the_search_counts_how_often_a_parent_came():
    only = {"soft_mode": 1.0, "new": 0.0} | dict.fromkeys(
        ("heredity", "twist", "rattle", "relocate", "resurface", "symmetrise"), 0.0
    )
    search = Genetic(Clusters("Cu13", ClusterSearch()), GeneticSettings(first=2, operators=only), 0)
    start = [search.child() for _ in range(2)]
    search.receive([(c.number, Relaxed(c.atoms, float(c.number), "", 1)) for c in start])
    children = [search.child() for _ in range(8)]
    assert {c.operator for c in children} == {"soft_mode"}
    assert sum(search.uses.values()) == 8
    again = Genetic(Clusters("Cu13", ClusterSearch()), GeneticSettings(first=2, operators=only), 0)
    for c in [*start, *children]:  # as a log tells it
        again.begin(Candidate(c.number, c.atoms, c.operator, c.parents))
    assert again.uses == search.uses


@pytest.mark.slow
def test_heredity_by_energy_takes_what_lies_low():
    rng = np.random.default_rng(0)
    parents = []
    for _ in range(2):
        atoms = Icosahedron("Cu", 3)
        atoms.rattle(0.1, rng=rng)
        atoms.set_array(ATOM_ENERGY, np.where(atoms.positions[:, 0] > atoms.positions[:, 0].mean(), -1.0, 1.0))
        parents.append(atoms)

    def taken(cut):
        return parents[0].arrays[ATOM_ENERGY][cut.top].sum() + parents[1].arrays[ATOM_ENERGY][cut.bottom].sum()

    plain = np.mean([taken(cluster_heredity.draw(parents, np.random.default_rng(k))) for k in range(60)])
    seen = []
    for k in range(60):
        r = np.random.default_rng(k)
        seen.append(min(taken(cluster_heredity.draw(parents, r)) for _ in range(energy_heredity.CUTS)))
        child = energy_heredity.splice_clusters(parents, Breed(2.5), np.random.default_rng(k))
        assert len(child) == len(parents[0])
    assert np.mean(seen) < plain - 5


@pytest.mark.slow
def test_heredity_of_crystals_by_energy_keeps_the_composition():
    problem = Crystals("NaCl", CrystalSearch(units=(4,)))
    parents = [NACL.copy(), NACL.copy()]
    with pytest.raises(Refused, match="energies"):
        energy_heredity.splice_crystals(parents, problem.breed, np.random.default_rng(0))
    for p in parents:
        p.set_array(ATOM_ENERGY, p.positions[:, 2])
    for seed in range(20):
        child = energy_heredity.splice_crystals(parents, problem.breed, np.random.default_rng(seed))
        assert sorted(child.numbers) == sorted(NACL.numbers)
    cut = crystal_heredity.draw(parents, np.random.default_rng(0))
    np.testing.assert_array_equal(
        crystal_heredity.splice(parents, problem.breed, np.random.default_rng(0)).numbers,
        crystal_heredity.built(parents, cut, np.random.default_rng(0)).numbers,
    )
