"""Searches of whole molecules: they stay whole in every child, are found again in files, broken ones are noticed."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rutile.build.random_crystal import random_cell, space_group
from rutile.build.recipe import Refused
from rutile.core.errors import RutileError
from rutile.core.reporting import SilentReporter
from rutile.core.seeds import stream
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.individual import MOLECULE, from_json, to_json
from rutile.search.molecular import MolecularClusters, MolecularCrystals, on_sites
from rutile.search.molecules import Kit, Whole, apart_of, centres, found_in, joined, kinds_of
from rutile.search.settings import ClusterSearch, CrystalSearch
from rutile.structures.symmetry import describe_crystal
from rutile.tasks import search
from rutile.tasks.search import SearchSettings
from rutile.testing.searching import new_structure

CLUSTERS = MolecularClusters(ClusterSearch(molecules={"H2O": 3, "CO2": 2}))
CRYSTALS = MolecularCrystals(CrystalSearch(molecules={"CO2": 1}, units=(2, 4)))


def shapes(atoms):
    """Distances within each molecule, which rigid motions leave as they are."""
    return sorted(np.round(np.sort(m.get_all_distances().ravel()), 6).tolist() for m in apart_of(atoms))


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_molecules_stay_whole_and_composition_too(seed):
    for problem in (CLUSTERS, CRYSTALS):
        parents = [new_structure(problem, seed), new_structure(problem, seed + 1)]
        for operator in problem.operators:
            before = [p.copy() for p in parents]
            try:
                child = problem.tidied(operator.make(parents[: operator.parents], problem.breed, stream(seed, 3)))
            except Refused:
                continue
            assert all(a == b for a, b in zip(parents, before, strict=True))
            np.testing.assert_array_equal(child.numbers, parents[0].numbers)
            np.testing.assert_allclose(shapes(child), shapes(parents[0]), atol=2e-5)
            assert problem.check(child) == ""
            assert child.pbc.all() == (problem is CRYSTALS)


@pytest.mark.slow
def test_new_crystals_have_symmetry():
    groups = {describe_crystal(new_structure(CRYSTALS, seed), 0.05).number for seed in range(12)}
    assert len(groups) > 3


def test_a_molecule_on_a_special_site_has_its_symmetry():
    """Carbon dioxide on four inversion centres on threefold axes: Pa-3, as its crystal."""
    group = space_group(205)
    cell = random_cell(group, np.random.default_rng(0)) * 5.6
    carbon_dioxide = kinds_of(["CO2"])[0].atoms
    for seed in range(200):
        try:
            made = on_sites(group, carbon_dioxide, 4, cell, np.random.default_rng(seed))
        except Refused:
            continue
        break
    crystal = joined(made, cell)
    assert len(crystal) == 12
    assert describe_crystal(crystal, 0.05).spacegroup == "Pa-3"


def test_fingerprint_does_not_see_inside_of_molecules_but_all_around():
    atoms = new_structure(CLUSTERS, 1)
    turned = atoms.copy()
    turned.positions = Rotation.random(rng=np.random.default_rng(0)).apply(turned.positions) + 3
    marks = [fingerprint(a, CLUSTERS.distance) for a in (atoms, turned)]
    assert apart(*marks) < 1e-9
    one = apart_of(atoms)
    one[0].positions += [0.4, 0.2, 0]
    assert apart(marks[0], fingerprint(joined(one), CLUSTERS.distance)) > 0.02
    alone = joined(one[:1])
    assert not fingerprint(alone, CLUSTERS.distance).any()
    crystal = new_structure(CRYSTALS, 2)
    double = crystal * (2, 1, 1)
    double.set_array(
        MOLECULE, np.concatenate([crystal.arrays[MOLECULE], crystal.arrays[MOLECULE] + len(centres(crystal))])
    )
    assert apart(fingerprint(crystal, CRYSTALS.distance), fingerprint(double, CRYSTALS.distance)) < 1e-9


def test_broken_and_reacted_molecules_are_noticed():
    atoms = new_structure(CLUSTERS, 4)
    assert CLUSTERS.check(atoms) == ""
    broken = atoms.copy()
    broken.positions[1] += 3 * (broken.positions[1] - broken.positions[0])
    assert "broken: H2O (number 0)" in CLUSTERS.check(broken)
    kit = Kit(tuple(kinds_of(["H2O"])), (2,))
    collapsed = molecule("H2O")
    collapsed.positions[2] = collapsed.positions[1] + np.array([0.0, 0.5, 0.0])
    assert "broken" in Whole(Kit(kit.kinds, (1,)))(joined([collapsed]))
    assert Whole(Kit(kit.kinds, (1,)))(joined([molecule("H2O")])) == ""
    water = molecule("H2O")
    near = joined([water, Atoms(water.numbers, positions=water.positions + np.array([0, 0, 1.2]))])
    assert "reacted" in Whole(kit)(near)


@pytest.mark.slow
@given(seed=st.integers(0, 10**6))
@settings(deadline=None, max_examples=15)
def test_molecules_are_found_in_files(seed):
    rng = np.random.default_rng(seed)
    for problem in (CLUSTERS, CRYSTALS):
        atoms = new_structure(problem, seed)
        mixed = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)[
            rng.permutation(len(atoms))
        ]
        if problem is CRYSTALS:
            mixed.wrap()
        again = problem.adopted(mixed)
        np.testing.assert_array_equal(again.numbers, atoms.numbers)
        np.testing.assert_allclose(shapes(again), shapes(atoms), atol=2e-5)
        marks = [fingerprint(a, problem.distance) for a in (atoms, again)]
        assert apart(*marks) < 1e-6
        assert from_json(to_json(again)).arrays[MOLECULE].tolist() == again.arrays[MOLECULE].tolist()


def test_others_are_refused():
    with pytest.raises(Refused, match="CH4"):
        found_in(molecule("CH4"), CLUSTERS.kit)
    with pytest.raises(Refused, match="1 H2O, 0 CO2"):
        found_in(molecule("H2O"), CLUSTERS.kit)
    with pytest.raises(Refused, match="periodic"):
        CLUSTERS.adopted(new_structure(CRYSTALS, 0))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"structure": ClusterSearch(molecules={"H2O": 2}), "formula": "H4O2"}, "either"),
        ({"structure": ClusterSearch(), "formula": ""}, "give a formula"),
        ({"structure": ClusterSearch(molecules={"water!": 2})}, "water!"),
    ],
)
def test_wrong_settings(tmp_path, changes, text):
    with pytest.raises(RutileError, match=text):
        search.run(SearchSettings(model="emt", out=tmp_path / "out", **changes), SilentReporter())


@pytest.mark.slow
def test_a_search_from_a_file_of_a_motif(tmp_path):
    """Gold dimers by effective medium theory break up into a cluster; they are refused, or kept if one says so."""
    write(tmp_path / "dimer.xyz", Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.2]]))
    given_ = {"model": "emt", "relaxations": 8, "first": 4, "batch": 8}
    names = {str(tmp_path / "dimer.xyz"): 2}
    with pytest.raises(RutileError, match=r"reacted|broken"):
        search.run(
            SearchSettings(**given_, structure=ClusterSearch(molecules=names), out=tmp_path / "a"), SilentReporter()
        )
    kept = search.run(
        SearchSettings(**given_, structure=ClusterSearch(molecules=names, broken="keep"), out=tmp_path / "b"),
        SilentReporter(),
    )
    assert kept.structures[0].atoms == 4
    assert "dimer.xyz" in kept.report.read_text()
