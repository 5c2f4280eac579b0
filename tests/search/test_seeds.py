"""Structures that are given come first, count as they are, and are refused when they are of another problem."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.cluster import Icosahedron

from rutile.build.recipe import Refused
from rutile.search.clusters import Clusters
from rutile.search.crystals import Crystals
from rutile.search.genetic import SEED, Genetic
from rutile.search.individual import Relaxed
from rutile.search.settings import ClusterSearch, CrystalSearch, GeneticSettings


def test_seeds_come_first_and_become_parents():
    problem = Clusters("Cu13", ClusterSearch())
    seeds = [problem.adopted(Icosahedron("Cu", 2)), problem.adopted(Icosahedron("Cu", 2, latticeconstant=3.9))]
    search = Genetic(problem, GeneticSettings(first=2), 0, seeds)
    batch = [search.child() for _ in range(4)]
    assert [c.operator for c in batch] == [SEED, SEED, "new", "new"]
    np.testing.assert_array_equal(batch[0].atoms.positions, seeds[0].positions)
    shares = dict(search.shares())
    search.receive([(c.number, Relaxed(c.atoms, -float(c.number == 0), "", 1)) for c in batch])
    assert search.best.number == 0
    assert SEED not in search.shares()
    assert search.shares() == shares  # neither seeds nor those that begin a pool say how good operators are
    assert search.record[SEED].entered >= 1


def test_others_are_refused():
    clusters = Clusters("Cu13", ClusterSearch())
    with pytest.raises(Refused, match="Cu12"):
        clusters.adopted(Icosahedron("Cu", 2)[:12])
    with pytest.raises(Refused, match="periodic"):
        clusters.adopted(bulk("Cu"))
    crystals = Crystals("NaCl", CrystalSearch(units=(2, 3)))
    with pytest.raises(Refused, match="not periodic"):
        crystals.adopted(molecule("NaCl"))
    with pytest.raises(Refused, match=r"2 or 3 units of NaCl \(structure.units\)"):
        crystals.adopted(bulk("NaCl", "rocksalt", a=5.6))


def test_a_conventional_cell_is_reduced_where_it_has_too_many_atoms():
    crystals = Crystals("NaCl", CrystalSearch(units=(1,)))
    assert len(crystals.adopted(bulk("NaCl", "rocksalt", a=5.6, cubic=True))) == 2
    given = bulk("NaCl", "rocksalt", a=5.6)
    np.testing.assert_array_equal(crystals.adopted(given).cell, given.cell)
