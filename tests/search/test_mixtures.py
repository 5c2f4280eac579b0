"""Variable composition: what may be made, operators that stay within it, pools and hulls that move."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st

from rutile.build.recipe import Refused
from rutile.core.errors import RutileError, SettingsError
from rutile.search.compositions import Compositions
from rutile.search.fingerprint import apart, fingerprint
from rutile.search.genetic import Genetic
from rutile.search.individual import Found, Relaxed
from rutile.search.mixtures import Mixtures
from rutile.search.operators.decorate import decorate
from rutile.search.operators.sizes import enlarged, matched
from rutile.search.past import Past
from rutile.search.population import Population
from rutile.search.ranking import AboveHull
from rutile.search.results import distinct
from rutile.search.settings import CrystalSearch, GeneticSettings, PoolSettings, check_composition
from rutile.structures.symmetry import describe_crystal
from rutile.testing.searching import new_structure

CUAU = Mixtures("Cu-Au", CrystalSearch(atoms=(2, 8)))
OXIDES = Mixtures("TiO2-Ti2O3", CrystalSearch(atoms=(3, 16)))
TERNARY = Mixtures("Cu-Au-Ag", CrystalSearch(atoms=(1, 6)))
CASES = [(p, op) for p in (CUAU, OXIDES, TERNARY) for op in p.operators if not op.atom_energies]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "operator"), CASES, ids=[f"{'-'.join(p.compositions.names)}-{o.name}" for p, o in CASES]
)
def test_children_are_allowed_and_parents_stay(problem, operator):
    made = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        parents = [new_structure(problem, rng) for _ in range(operator.parents)]
        before = [p.copy() for p in parents]
        try:
            child = problem.tidied(operator.make(parents, problem.breed, rng))
        except Refused:
            continue
        made += 1
        assert problem.compositions.allows(child.numbers)
        assert (problem.compositions.parts(problem.compositions.counts(child.numbers)) >= 0).all()
        assert all(a == b for a, b in zip(parents, before, strict=True))
        changed = len(child) - len(parents[0])
        assert {"add": changed > 0, "remove": changed < 0, "substitute": changed % len(parents[0]) == 0}.get(
            operator.name, True
        )
    assert made >= 1


def test_compositions_of_building_blocks_are_whole_numbers_of_them():
    allowed = Compositions("TiO2-Ti2O3", CrystalSearch(atoms=(3, 8))).allowed  # columns: O, Ti
    assert sorted(map(tuple, allowed.tolist())) == [(2, 1), (3, 2), (4, 2), (5, 3)]
    assert OXIDES.compositions.name(np.array([5, 3])) == "Ti3O5"
    np.testing.assert_allclose(OXIDES.compositions.parts(np.array([5, 3])), [3 / 8, 5 / 8])
    assert not OXIDES.compositions.allows(np.array([22, 8]))  # TiO lies outside
    assert not OXIDES.compositions.allows(np.array([22, 79, 8, 8]))


def test_only_the_compositions_that_are_named_and_the_end_members():
    some = Compositions("Cu-Au", CrystalSearch(atoms=(2, 8), compositions=("Cu3Au", "CuAu")))
    assert {some.name(row) for row in some.allowed} == {"Cu", "Au", "Cu3Au", "CuAu"}
    assert some.allows(np.array([29, 29, 29, 79] * 2))
    assert not some.allows(np.array([29, 29, 79]))


@pytest.mark.parametrize(
    ("formula", "changes", "text"),
    [
        ("Cu-Xx2", {}, "Xx"),
        ("Cu-", {}, "two end members"),
        ("Cu-Au-Cu2", {}, "not independent"),
        ("TiO2-Ti2O3-Ti3O5", {}, "mixture"),
        ("TiO2-Ti2O3", {"atoms": (3, 4)}, "no crystal of Ti2O3, whose unit has 5 atoms"),
        ("Cu-Au", {"compositions": ("CuAg",)}, "CuAg is no mixture of Cu and Au"),
        ("TiO2-Ti2O3", {"atoms": (3, 16), "compositions": ("TiO",)}, "TiO is no mixture"),
        ("Cu-Au", {"atoms": (2, 4), "compositions": ("Cu5Au",)}, "no cell of Cu5Au has 2 to 4 atoms"),
        ("Cu-Au-Ag-Pt-Pd", {"atoms": (2, 200)}, "more than 100000"),
    ],
)
def test_what_cannot_be_searched_for(formula, changes, text):
    with pytest.raises(RutileError, match=text):
        Compositions(formula, CrystalSearch(**changes))


def test_settings_of_the_other_kind_are_refused():
    with pytest.raises(SettingsError, match=r"structure.atoms=\[2, 8\] for Cu-Au"):
        check_composition("Cu-Au", CrystalSearch(units=(4,)))
    with pytest.raises(SettingsError, match=r"for one give structure.units=\[2\]"):
        check_composition("CuAu", CrystalSearch(atoms=(2, 4)))
    with pytest.raises(SettingsError, match=r"structure\.repeated"):
        check_composition("Cu-Au", CrystalSearch(repeated=0.2))
    with pytest.raises(SettingsError, match=r"structure\.repeated"):
        check_composition("", CrystalSearch(repeated=0.2, molecules={"CO2": 1}))
    check_composition("Cu-Au", CrystalSearch(units=(2,), atoms=(2, 4)))  # the default, as a kept file has it


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_new_crystals_of_any_composition(seed):
    problem = (CUAU, OXIDES, TERNARY)[seed % 3]
    atoms = new_structure(problem, np.random.default_rng(seed))
    assert problem.compositions.allows(atoms.numbers)
    assert len(atoms) <= problem.settings.atoms[1]


def test_every_composition_is_drawn_and_end_members_more_often():
    rng = np.random.default_rng(0)
    names = [CUAU.compositions.name(CUAU.compositions.draw(rng, 0.2)) for _ in range(3000)]
    kinds = {CUAU.compositions.name(row) for row in CUAU.compositions.allowed}
    assert len(kinds) == 23
    counts = {k: names.count(k) for k in kinds}
    assert min(counts.values()) > 0.5 * 0.8 * 3000 / 23
    assert counts["Cu"] == pytest.approx(3000 * (0.1 + 0.8 / 23), rel=0.2)


def test_sizes_of_parents_are_matched():
    rng = np.random.default_rng(0)
    small, large = bulk("Cu"), bulk("Au", cubic=True).repeat((2, 1, 1))
    one, other = matched([small, large])
    assert (len(one), len(other)) == (8, 8)
    assert other == large
    assert {len(enlarged(small, 8, rng)) for _ in range(60)} == set(range(1, 9))


@pytest.mark.slow
def test_decorations_of_a_lattice_are_the_known_orders():
    """Of the face-centred cubic lattice with up to 4 atoms, L1_0 and L1_2 come up; lattice sites stay."""
    problem = Mixtures("Cu-Au", CrystalSearch(atoms=(1, 4)))
    groups = set()
    for seed in range(150):
        try:
            child = decorate([bulk("Cu")], problem.breed, np.random.default_rng(seed))
        except Refused:
            continue
        bare = Atoms(np.full(len(child), 29), positions=child.positions, cell=child.cell, pbc=True)
        assert describe_crystal(bare).spacegroup == "Fm-3m"
        groups.add(
            (problem.compositions.name(problem.compositions.counts(child.numbers)), describe_crystal(child).number)
        )
    assert {("CuAu", 123), ("CuAu", 166), ("CuAu2", 71), ("Cu2Au", 71)} <= groups  # L1_0, L1_1, and those of MoPt2
    assert ("CuAu3", 221) in groups or ("Cu3Au", 221) in groups  # L1_2


def relaxed(symbols, energy):
    return Atoms(symbols, cell=np.eye(3) * 3, pbc=True), energy


def test_ranks_move_with_the_hull():
    order = AboveHull(CUAU.compositions)
    cu, au, cuau, cu3au = (relaxed(*x) for x in (("Cu2", -1.0), ("Au", -2.0), ("CuAu", -1.6), ("Cu3Au", -1.3)))
    assert order.take(*cu)
    assert order.missing == ["Au"]
    assert order.take(*cuau)
    assert order.of(*cuau) == 0  # nothing is below while gold is not known
    assert order.take(*au)
    assert order.missing == []
    assert order.take(*cu3au) is False  # above: -1.3 is what Cu and CuAu give together
    assert order.of(*cu3au) == pytest.approx(0, abs=1e-12)
    assert order.take(*relaxed("Cu2Au2", -1.8))
    assert order.of(*cuau) == pytest.approx(0.2)
    assert order.of(*cu3au) == pytest.approx(0.1)
    assert order.formation(*cu3au) == pytest.approx(-0.05)
    assert not order.take(*relaxed("CuAu", -1.80000001))  # too little to count, though it is the corner now
    assert order.of(*relaxed("CuAu", -1.8)) == pytest.approx(1e-8, rel=1e-3)
    order.clear()
    assert order.missing == ["Cu", "Au"]


@pytest.mark.parametrize(
    ("ends", "phases", "above"),
    [
        (
            "Cu-Au",
            {"Cu": -3.7, "Au": -3.2, "Cu3Au": -3.63, "CuAu": -3.52, "CuAu3": -3.31, "Cu5Au3": -3.60, "Cu7Au": -3.64},
            [0.0, 0.0, 0.0033333333, 0.0, 0.05, 0.0, 0.0266666667],
        ),
        (
            "TiO2-Ti2O3",
            {"TiO2": -9.0, "Ti2O3": -8.8, "Ti3O5": -8.95, "Ti4O7": -8.93, "Ti5O9": -8.99},
            [0.0, 0.0, 0.0, 0.0454545455, 0.0],
        ),
    ],
)
def test_heights_are_those_of_pymatgen(ends, phases, above):
    """From PhaseDiagram.get_e_above_hull of pymatgen 2026.10.24; that of the oxides with Ti and O at 0 eV."""
    order = AboveHull(Compositions(ends, CrystalSearch(atoms=(1, 16))))
    for name, energy in phases.items():
        order.take(Atoms(name), energy)
    ours = [order.of(Atoms(name), energy) for name, energy in phases.items()]
    np.testing.assert_allclose(ours, above, atol=1e-8)


def found(number, symbols, energy, place=0):
    mark = np.zeros(12)
    mark[place] = 1
    return Found(number, Atoms(symbols, cell=np.eye(3) * 3, pbc=True), energy, "new", (), mark)


def pool_of(*structures, **changes):
    order = AboveHull(CUAU.compositions)
    pool = Population(PoolSettings(size=4, elite=1, niche=0, **changes), order)
    for one in structures:
        order.take(one.atoms, one.energy)
        pool.add(one)
    return pool


def test_the_pool_is_ranked_anew_when_the_hull_moves():
    pool = pool_of(found(0, "Cu", 0.0), found(1, "Au", 0.0), found(2, "CuAu", -0.1), found(3, "Cu3Au", -0.04))
    assert {m.number for m in pool.members[:3]} == {0, 1, 2}
    assert pool.members[3].number == 3
    assert pool.rank(pool.members[-1]) == pytest.approx(0.01)
    best = found(4, "Cu3Au", -0.2, 5)
    pool.ranking.take(best.atoms, best.energy)
    assert pool.add(best)
    assert pool.since_best == 0
    assert [m.number for m in pool.members][3:] == [2, 3]
    assert [pool.rank(m) for m in pool.members[-2:]] == pytest.approx([0.1 / 3, 0.16])


def test_a_pool_does_not_fill_with_one_composition_and_keeps_the_hull():
    ends = [found(0, "Cu", 0.0), found(1, "Au", 0.0)]
    many = [found(k, "CuAu", -0.1 + 0.001 * k, k) for k in range(2, 10)]
    pool = pool_of(*ends, *many, found(10, "Cu3Au", 0.5), in_composition=3, age=2)
    kinds = [pool.ranking.kind(m.atoms) for m in pool.members]
    assert kinds.count((1, 1)) <= 3
    assert {0, 1, 2} <= {m.number for m in pool.members}  # older than `age`, but on the hull
    same = found(11, "Cu2", 0.0)
    assert not pool.add(same)
    alike = found(12, "CuAu2", 0.01, 0)  # another composition is another structure, whatever its fingerprint
    assert pool.add(alike)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 2))
def test_fingerprints_across_compositions_and_supercells(seed, axis):
    rng = np.random.default_rng(seed)
    one = new_structure(CUAU, rng)
    repeats = [1, 1, 1]
    repeats[axis] = 2
    large = one.repeat(tuple(repeats))[rng.permutation(2 * len(one))]
    marks = [fingerprint(a, CUAU.distance, CUAU.elements) for a in (one, large)]
    assert apart(*marks) < 1e-8
    other = large.copy()
    other.numbers[0] = 79 + 29 - other.numbers[0]
    mark = fingerprint(other, CUAU.distance, CUAU.elements)
    assert mark.shape == marks[0].shape
    assert apart(mark, marks[0]) > 0.02


def test_different_structures_are_sorted_by_the_hull():
    images = [bulk("Cu"), bulk("Au"), bulk("Cu", cubic=True), bulk("Au", "hcp", a=2.9)]
    l12 = bulk("Cu", a=3.75, cubic=True)
    l12.numbers[0] = 79
    energies = [0.0, -1.0, 0.0005, -0.9, -0.35]
    past, order = Past([*images, l12].__getitem__), AboveHull(CUAU.compositions)
    for k, (a, e) in enumerate(zip([*images, l12], energies, strict=True)):
        past.add(k, "new", (), e, "", a.numbers, k)
        order.take(a, e)
    kept = distinct(past, past.atoms, PoolSettings(), CUAU.distance, 0.05, 10, order)
    assert [(d.found.number, d.hits) for d in kept] == [(0, 2), (1, 1), (4, 1)]
    assert distinct(past, past.atoms, PoolSettings(), CUAU.distance, 0.2, 10, order)[-1].found.number == 3
    few = distinct(past, past.atoms, PoolSettings(), CUAU.distance, 0.2, 1, order)
    assert [d.found.number for d in few] == [0, 1, 4]  # the hull is whole


def energy_of(atoms):
    """A made-up energy (eV/atom): Vegard's line, less where unlike atoms are near."""
    mark = fingerprint(atoms, CUAU.distance, CUAU.elements).reshape(3, -1)
    return float(-0.5 * mark[1].sum() + 0.1 * (mark[0].sum() + mark[2].sum()))


@pytest.mark.slow
def test_same_seed_same_search_and_both_end_members():
    ends = []
    for _ in range(2):
        search = Genetic(Mixtures("Cu-Au", CrystalSearch(atoms=(2, 4))), GeneticSettings(first=8), 5)
        assert search.first == 16
        for group in search.batches(8, 48):
            search.receive([(c.number, Relaxed(c.atoms, energy_of(c.atoms), "", 0)) for c in group])
        ends.append([(m.number, m.energy, m.operator) for m in search.population.members])
        assert search.ranking.missing == []
        assert len({search.ranking.kind(m.atoms) for m in search.population.members}) >= 5
    assert ends[0] == ends[1]
    assert {name for _, _, name in ends[0]} - {"new"}


def test_a_given_crystal_is_adopted_where_its_composition_is_allowed():
    assert len(CUAU.adopted(bulk("Cu", cubic=True).repeat(2))) == 1  # 32 atoms: its primitive cell
    with pytest.raises(Refused, match="none of those"):
        CUAU.adopted(bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(Refused, match="not periodic"):
        CUAU.adopted(Atoms("Cu2", positions=np.eye(3)[:2]))


@pytest.mark.parametrize("wrong", [(2.0, 1.0), (-1.0, 2.0)])
def test_the_window_of_volumes_ascends(wrong):
    with pytest.raises(ValueError, match="is no range"):
        CrystalSearch(volume=wrong)
