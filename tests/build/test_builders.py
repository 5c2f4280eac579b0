"""Each builder makes what it says: symmetry, composition, distances, terminations, Sigma, correlations."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk as ase_bulk
from ase.data import atomic_numbers, covalent_radii

from rutile.build import boundary as gb
from rutile.build.alloy import cells, whole
from rutile.build.catalogue import BUILDERS, recipe
from rutile.build.crystals import KINDS, Parent, parents, primitive, prototype
from rutile.build.forces_settings import EmtForces
from rutile.build.guards import guard, measure
from rutile.build.recipe import Refused
from rutile.build.settings import (
    AdsorptionSettings,
    AlloySettings,
    BoundarySettings,
    BulkSettings,
    ClusterSettings,
    CrystalSource,
    DimerSettings,
    DisorderSettings,
    DissociationSettings,
    Guards,
    Melt,
    MoleculeSource,
    RandomCrystalSettings,
    SlabSettings,
)
from rutile.build.sizes import bond_length, reference_volume
from rutile.build.surface import miller_indices
from rutile.core.errors import MissingPackageError, SettingsError
from rutile.core.seeds import stream
from rutile.structures.fingerprint import pairs_within
from rutile.tasks.forces import MECHANICS

CU = CrystalSource(elements=("Cu",), prototypes=("fcc",))
TIO2 = CrystalSource(elements=("Ti", "O"), prototypes=("rutile",), volume=10.4)


def drawn(settings, count: int = 12, seed: int = 0) -> list[tuple[str, Atoms, dict]]:
    """Structures that pass the guards: parent, atoms, parameters."""
    made = recipe(settings, seed, MECHANICS)
    out: list[tuple[str, Atoms, dict]] = []
    k = 0
    while len(out) < count and k < 60 * count:
        parent, number = k % len(made.parents), k // len(made.parents)
        k += 1
        if made.each is not None and number >= made.each:
            break
        try:
            draft = made.draw(made.prepare(parent), number, stream(seed, "test", k))
            guard(draft, settings.guards)
        except Refused:
            continue
        out.append((made.parents[parent], draft.atoms, draft.parameters))
    return out


def spacegroup(atoms: Atoms) -> int:
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    return spglib.get_symmetry_dataset(cell, symprec=1e-3).number


@pytest.mark.parametrize("kind", KINDS)
def test_prototypes_have_their_space_group_and_closest_contact(kind):
    spec = KINDS[kind]
    names = ["Ti", "O", "Cu", "Al"][: spec.letters]
    atoms = prototype(kind, names)
    assert spacegroup(atoms) == spec.group
    measured = measure(atoms)
    assert set(measured.elements) == set(names)
    if spec.letters > 1:
        assert measured.contact == pytest.approx(1, abs=1e-6)
    assert len(primitive(atoms)) <= len(atoms)
    assert prototype(kind, names, volume=12.5).cell.volume / len(atoms) == pytest.approx(12.5)


def test_prototypes_of_known_elements_have_the_known_bond_lengths():
    """Experiment: Cu fcc 3.61, Fe bcc 2.87, Si diamond 5.43 Angstrom."""
    for kind, name, a in (("fcc", "Cu", 3.61), ("bcc", "Fe", 2.87), ("diamond", "Si", 5.43)):
        assert prototype(kind, [name]).cell.lengths()[0] == pytest.approx(a, rel=0.01)
    lengths = [bond_length(atomic_numbers["Cu"], n) for n in (12, 8, 6, 4)]
    assert all(a > b for a, b in pairwise(lengths))


def test_formulas_of_prototypes():
    counts = {"rutile": (1, 2), "anatase": (1, 2), "brookite": (1, 2), "fluorite": (1, 2), "corundum": (2, 3),
              "perovskite": (1, 1, 3), "spinel": (1, 2, 4), "l1_2": (1, 3), "laves_c15": (1, 2)}  # fmt: skip
    for kind, ratio in counts.items():
        names = ["Ti", "O", "Cu"][: len(ratio)]
        if kind in ("perovskite", "spinel"):
            names = ["Ti", "Cu", "O"]
        found = Counter(prototype(kind, names).get_chemical_symbols())
        least = min(found[n] / r for n, r in zip(names, ratio, strict=True))
        assert [found[n] / least for n in names] == list(ratio), kind


def test_reference_volumes_are_near_experiment():
    known = {("Cu",): 11.8, ("Ti",): 17.6, ("Na", "Cl"): 22.4, ("Ti", "O", "O"): 10.4, ("Mg", "O"): 9.4}
    for names, volume in known.items():
        assert 0.65 < reference_volume([atomic_numbers[n] for n in names]) / volume < 1.5, names


def test_order_of_elements_on_prototypes():
    source = CrystalSource(elements=("Ti", "O"), prototypes=("rutile",))
    assert [p.name for p in parents(source, conventional=True)] == ["rutile Ti-O"]
    source = CrystalSource(elements=("Ti", "O"), prototypes=("rutile",), order="all")
    assert [p.name for p in parents(source, conventional=True)] == ["rutile Ti-O", "rutile O-Ti"]
    every = parents(CrystalSource(elements=("Ti", "O")), conventional=False)
    assert {p.kind for p in every} == {k for k, v in KINDS.items() if v.letters <= 2}
    with pytest.raises(SettingsError, match=r"perovskite has sites for 3 elements.*names 2: Ti, O"):
        parents(CrystalSource(elements=("Ti", "O"), prototypes=("perovskite",)), conventional=True)


def test_dimers_cover_every_pair_and_distance():
    found = drawn(DimerSettings(elements=("Ti", "O"), points=7), 100)
    assert Counter(name for name, _, _ in found) == {"Ti-Ti": 7, "Ti-O": 7, "O-O": 7}
    d = np.array([a.get_distance(0, 1) for name, a, _ in found if name == "Ti-O"])
    total = covalent_radii[22] + covalent_radii[8]
    assert d[0] == pytest.approx(0.5 * total)
    assert d[-1] == pytest.approx(6.0)
    assert np.allclose(np.diff(np.log(d)), np.diff(np.log(d))[0])


def test_bulk_keeps_the_first_and_disturbs_the_others():
    settings = BulkSettings(crystals=TIO2, atoms=24, vacancies=0.2, interstitials=2, swaps=0.1)
    found = drawn(settings, 30)
    assert spacegroup(found[0][1]) == 136
    assert found[0][2] == {"pristine": True}
    for _, atoms, p in found[1:]:
        cells_ = len(atoms) + p.get("vacancies", 0) - p.get("interstitials", 0)
        assert cells_ % 6 == 0
        assert cells_ <= 24
        assert measure(atoms).contact >= settings.guards.closest
        assert 0.6 <= atoms.cell.volume / len(atoms) / 10.4 <= 2
    assert {p.get("vacancies", 0) > 0 for _, _, p in found[1:]} == {True, False}
    assert any(p.get("interstitials") for _, _, p in found)


def test_bulk_substitutes_and_swaps():
    settings = BulkSettings(crystals=TIO2, substitute={"Ti": ("Zr", "Hf")}, strain=(0, 0), rattle=(0, 0), scale=(1, 1))
    found = drawn(settings, 30)[1:]
    assert {s for _, a, _ in found for s in a.get_chemical_symbols()} == {"Ti", "O", "Zr", "Hf"}
    for _, atoms, p in found:
        counts = Counter(atoms.get_chemical_symbols())
        assert counts["Zr"] + counts["Hf"] == p.get("substituted", 0)
        assert counts["O"] == 2 * (len(atoms) // 3)
    settings = BulkSettings(crystals=TIO2, swaps=0.5)
    for _, atoms, _ in drawn(settings, 8):
        assert Counter(atoms.get_chemical_symbols())["O"] * 3 == 2 * len(atoms)


def test_strain_is_symmetric_and_as_large_as_drawn():
    from rutile.build.distort import random_strain, strained

    rng = np.random.default_rng(0)
    e = np.array([random_strain(0.04, rng) for _ in range(2000)])
    assert np.array_equal(e, e.transpose(0, 2, 1))
    assert e.std(axis=0) == pytest.approx(np.full((3, 3), 0.04), rel=0.1)
    atoms = ase_bulk("Cu")
    turned = strained(atoms, e[0])
    assert np.allclose(turned.get_scaled_positions(), atoms.get_scaled_positions())
    assert np.allclose(turned.cell.array, atoms.cell.array @ (np.eye(3) + e[0]))


def test_miller_indices_that_symmetry_tells_apart():
    assert miller_indices(prototype("fcc", ["Cu"]), 2) == [
        (1, 0, 0), (1, 1, 0), (1, 1, 1), (2, 1, 0), (2, 1, 1), (2, 2, 1),
    ]  # fmt: skip
    rutile = miller_indices(prototype("rutile", ["Ti", "O"]), 1)
    assert rutile == [(1, 0, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (1, 1, 1)]


def test_slabs_of_rutile_have_the_known_terminations():
    """The (110) surface of rutile: planes O, TiO... repeat as O - Ti2O2 - O; the bridging-oxygen slab is stoichiometric
    and symmetric."""
    found = recipe(SlabSettings(crystals=TIO2, miller=((1, 1, 0),)), 0, MECHANICS)
    slabs = [found.prepare(k).slab for k in range(len(found.parents))]
    assert any(s.stoichiometric and s.symmetric for s in slabs)
    assert len({tuple(sorted(Counter(s.atoms.numbers.tolist()).items())) for s in slabs}) > 1
    for s in slabs:
        ratio = (s.atoms.numbers == 8).sum() / (s.atoms.numbers == 22).sum()
        assert s.stoichiometric == (ratio == 2)
        z = s.atoms.positions[:, 2]
        assert 6 <= np.ptp(z) <= 15
    only = recipe(SlabSettings(crystals=TIO2, miller=((1, 1, 0),), terminations="stoichiometric"), 0, MECHANICS)
    assert all(only.prepare(k).slab.stoichiometric for k in range(len(only.parents)))
    only = recipe(SlabSettings(crystals=TIO2, miller=((1, 0, 0),), terminations="symmetric"), 0, MECHANICS)
    assert all(only.prepare(k).slab.symmetric for k in range(len(only.parents)))


def test_slabs_are_periodic_along_the_surface_with_vacuum():
    found = drawn(SlabSettings(crystals=CU, missing_rows=0.5, steps=0.5), 30)
    assert {name.split()[2].split("-")[0] for name, _, _ in found} == {"(100)", "(110)", "(111)"}
    for _, atoms, p in found:
        assert atoms.pbc.tolist() == [True, True, False]
        z = atoms.positions[:, 2]
        assert 9.0 < atoms.cell[2, 2] - np.ptp(z) < 13.0
        assert atoms.cell[2, :2] == pytest.approx([0, 0])
        if p.get("pristine") and p["miller"] == [1, 1, 1]:
            i, j, _ = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, 2.7)
            bonds = np.bincount(np.concatenate([i, j]))
            assert sorted(set(bonds.tolist())) == [9, 12]
    assert any(p.get("missing_row") for _, _, p in found)
    assert any(p.get("steps") for _, _, p in found)


def test_clusters():
    found = recipe(ClusterSettings(elements=("Cu",), atoms=(2, 60)), 0, MECHANICS)
    by_name = {n: k for k, n in enumerate(found.parents)}
    sizes = {"icosahedron-2": 13, "icosahedron-3": 55, "octahedron-3-0": 19, "octahedron-4-1": 38}
    for name, size in sizes.items():
        draft = found.draw(found.prepare(by_name[f"{name} Cu"]), 0, np.random.default_rng(0))
        assert len(draft.atoms) == size, name
        assert not draft.atoms.pbc.any()
        assert measure(draft.atoms).nearest == pytest.approx(3.61 / np.sqrt(2), rel=0.06)
    names, sizes = set(), set()
    for name, atoms, _ in drawn(ClusterSettings(elements=("Cu", "Au"), mixed=True, atoms=(5, 40)), 60):
        names.add(name.split("-")[0].split()[0])
        sizes.add(len(atoms))
    assert names == {"icosahedron", "decahedron", "octahedron", "wulff", "random"}
    assert min(sizes) >= 5
    assert max(sizes) <= 40
    with pytest.raises(SettingsError, match="no icosahedron has 14 to 20 atoms"):
        recipe(ClusterSettings(elements=("Cu",), atoms=(14, 20), shapes=("icosahedron",)), 0, MECHANICS)


@pytest.mark.parametrize(("miller", "counts"), [((1, 1, 1), (1, 3, 2)), ((1, 0, 0), (1, 2, 1))])
def test_adsorption_sites(miller, counts):
    """Of a primitive (111) cell: one top, three bridges, two hollows (fcc, hcp); of (100): 1, 2, 1."""
    from rutile.build.sites import sites

    found = recipe(SlabSettings(crystals=CU, miller=(miller,)), 0, MECHANICS)
    slab = found.prepare(0).slab.atoms
    cells_ = 1 if len(slab) == found.prepare(0).slab.planes else len(slab) / found.prepare(0).slab.planes
    rng = np.random.default_rng(0)
    assert [len(sites(slab, k, rng)) / cells_ for k in ("top", "bridge", "hollow")] == list(counts)


def test_adsorption_places_whole_molecules_at_their_heights():
    settings = AdsorptionSettings(crystals=CU, molecules=MoleculeSource(names=("H2O", "O")), rattle=(0, 0), pulled=0.3)
    far = 0
    for name, atoms, p in drawn(settings, 40):
        light = atoms.numbers < 20
        assert light.sum() == (3 if name.startswith("H2O") else 1)
        top = atoms.positions[~light, 2].max()
        low = atoms.positions[light, 2].min()
        assert low - top == pytest.approx(p["height"], abs=1e-5)
        assert atoms.cell[2, 2] - np.ptp(atoms.positions[:, 2]) > 10
        far += p["height"] > 3
        if name.startswith("H2O"):
            o = atoms.positions[atoms.numbers == 8][0]
            bonds = np.linalg.norm(atoms.positions[atoms.numbers == 1] - o, axis=1)
            assert bonds == pytest.approx([0.97] * 2, abs=0.02)
    assert far > 3


def test_sigma_of_known_rotations():
    known = {(2, 1, 0): 5, (3, 1, 0): 5, (1, 1, 1): 3, (2, 1, 1): 3, (3, 2, 0): 13, (3, 1, 1): 11, (3, 2, 1): 7}
    for plane, sigma in known.items():
        assert gb.sigma_of(gb.half_turn(plane)) == sigma
    assert gb.sigma_of(gb.from_quaternion(3, (0, 0, 1), 1)) == 5  # 36.87 degrees
    assert gb.sigma_of(gb.from_quaternion(5, (1, 1, 1), 1)) == 7  # 38.21 degrees
    assert {gb.sigma_of(r) for r in gb.twists((0, 0, 1), 17)} == {5, 13, 17}
    assert {gb.sigma_of(r) for r in gb.twists((1, 1, 1), 21)} == {3, 7, 13, 19, 21}
    for r in gb.twists((0, 1, 1), 11):
        m = np.array(r, dtype=float)
        assert m @ m.T == pytest.approx(np.eye(3))
        assert m @ [0, 1, 1] == pytest.approx([0, 1, 1])


def test_sigma5_of_aluminium_has_38_atoms():
    """Symmetric tilt Sigma 5 (021)[100]: 40 lattice sites, one pair merged at each boundary."""
    parent = Parent("Al", prototype("fcc", ["Al"]))
    (plane,) = [p for p in gb.tilt_planes((1, 0, 0), 5) if sorted(map(abs, p)) == [0, 1, 2]]
    boundary = gb.tilt(parent, (1, 0, 0), plane, 8.0)
    assert len(boundary.lower) + len(boundary.upper) == 40
    atoms = gb.joined(boundary, 0.0, np.zeros(2), 0.6)
    assert len(atoms) == 38
    a = parent.atoms.cell.lengths()[0]
    assert sorted(atoms.cell.lengths() / a) == pytest.approx(sorted([1, np.sqrt(5), 2 * np.sqrt(5)]))


def test_the_upper_grain_of_a_tilt_boundary_is_the_mirror_of_the_lower():
    parent = Parent("Al", prototype("fcc", ["Al"]))
    for plane in gb.tilt_planes((1, 0, 0), 5):
        boundary = gb.tilt(parent, (1, 0, 0), plane, 8.0)
        edges = boundary.lower.cell.lengths()
        mirrored = boundary.lower.positions * [1, 1, -1]
        apart = (boundary.upper.positions[:, None] - mirrored[None]) / edges
        off = np.abs((apart + 0.5) % 1.0 - 0.5).max(axis=2)
        assert off.min(axis=1).max() < 1e-6
        same = (boundary.upper.positions[:, None] - boundary.lower.positions[None]) / edges
        shifts = same.reshape(-1, 3)
        as_lower = [
            np.abs((same - shift + 0.5) % 1.0 - 0.5).max(axis=2).min(axis=1).max() < 1e-6 for shift in shifts[:40]
        ]
        assert not any(as_lower)  # no translation takes one grain into the other


def test_grains_of_boundaries_are_crystals():
    settings = BoundarySettings(crystals=CU, sigma=7, rattle=(0, 0))
    made = recipe(settings, 0, MECHANICS)
    kinds = Counter()
    for k in range(len(made.parents)):
        boundary = made.prepare(k)
        kinds[boundary.kind] += 1
        for grain in (boundary.lower, boundary.upper):
            assert spacegroup(grain) == 225
            assert grain.cell.volume / len(grain) == pytest.approx(boundary.volume)
        assert boundary.lower.cell[:2] == pytest.approx(boundary.upper.cell[:2], abs=1e-6)
        area = np.linalg.norm(np.cross(boundary.lower.cell[0], boundary.lower.cell[1]))
        if boundary.kind == "twist":
            parent = Parent("", prototype("fcc", ["Cu"]))
            one = gb.twist(parent, boundary.axis, gb.from_quaternion(1, (0, 0, 1), 0), 1.0)
            plane = np.linalg.norm(np.cross(one.lower.cell[0], one.lower.cell[1]))
            common = round(area / plane, 6)  # of (111) turned by 60 degrees: 1, Sigma 3 lies in the stacking
            assert common == boundary.sigma if boundary.axis == (0, 0, 1) else boundary.sigma % common == 0
        atoms = gb.joined(boundary, 0.0, np.zeros(2), settings.merge)
        inner = np.bincount(np.concatenate(pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, 2.8)[:2]))
        assert (inner == 12).any()
        assert measure(atoms).nearest >= 0.7 * boundary.bond - 1e-6
    assert kinds["tilt"] >= 3
    assert kinds["twist"] >= 3
    with pytest.raises(SettingsError, match="rutile Ti-O is not cubic"):
        recipe(BoundarySettings(crystals=TIO2), 0, MECHANICS)


def test_alloys_have_their_composition_and_volume():
    settings = AlloySettings(elements=("Cu", "Au"), composition={"Cu": 3, "Au": 1}, atoms=(8, 16), scale=(1, 1))
    for _, atoms, p in drawn(settings, 20):
        counts = Counter(atoms.get_chemical_symbols())
        assert counts["Cu"] == pytest.approx(0.75 * len(atoms), abs=0.5)
        assert 8 <= len(atoms) <= 16
        assert atoms.cell.volume / len(atoms) == pytest.approx(
            np.mean([reference_volume([z]) for z in atoms.numbers]), rel=1e-6
        )
        assert p["lattice"] in ("fcc", "bcc", "hcp")
    assert whole(np.array([1.0, 1.0, 1.0]), 8).sum() == 8
    with pytest.raises(SettingsError, match="no compact supercell has 97 to 97 atoms"):
        cells(ase_bulk("Cu"), (97, 97))


def pair_shares(atoms: Atoms, low: float, high: float) -> float:
    """Share of unlike pairs at distances from ... to."""
    i, j, d = pairs_within(atoms.positions, atoms.cell.array, atoms.pbc, high)
    near = d > low
    return float((atoms.numbers[i] != atoms.numbers[j])[near].mean())


@pytest.mark.slow
def test_special_quasi_random_structures_are_as_random_as_they_can_be():
    """Unlike pairs of Cu8Au8: half of all in each of two shells, within less than what chance gives."""
    pytest.importorskip("icet", reason="pip install 'rutile[sqs]'")
    from rutile.build.alloy import sqs

    cell = ase_bulk("Cu", a=4.0)
    sites = cell.repeat((2, 2, 4))
    sites.numbers[:8] = 79
    shells = [(0.0, 3.4), (3.4, 4.4)]
    made = sites.copy()
    made.numbers = sqs(sites, cell, 2, 1000, 7)
    assert sorted(made.numbers) == sorted(sites.numbers)
    assert np.array_equal(made.numbers, sqs(sites, cell, 2, 1000, 7))
    off = [abs(pair_shares(made, *s) - 0.5) for s in shells]
    rng = np.random.default_rng(0)
    by_chance = []
    for _ in range(30):
        random = sites.copy()
        random.numbers = rng.permutation(sites.numbers)
        by_chance.append(sum(abs(pair_shares(random, *s) - 0.5) for s in shells))
    assert sum(off) <= np.quantile(by_chance, 0.2)


def test_sqs_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"icet: pip install 'rutile\[sqs\]'"):
        recipe(AlloySettings(elements=("Cu", "Au"), arrangement="sqs"), 0, MECHANICS)


def test_packings_are_disordered_and_far_enough_apart():
    settings = DisorderSettings(formulas=("TiO2",), atoms=(12, 48), guards=Guards(closest=0.75))
    for _, atoms, p in drawn(settings, 12):
        counts = Counter(atoms.get_chemical_symbols())
        assert counts["O"] == 2 * counts["Ti"]
        assert 0.5 <= p["density"] <= 1.5
        assert spacegroup(atoms) == 1
    mixed = [Counter(a.get_chemical_symbols()) for _, a, _ in drawn(DisorderSettings(elements=("Ti", "O", "H")), 6)]
    assert len({c["Ti"] / c.total() for c in mixed}) > 3
    with pytest.raises(SettingsError, match="TiO2 has 3 atoms, and no multiple of it"):
        recipe(DisorderSettings(formulas=("TiO2",), atoms=(10, 11)), 0, MECHANICS)


def test_melts_follow_the_thermostat_and_are_reproducible():
    melt = Melt(forces=EmtForces(), temperature=(2000, 2000), time=40, quench_time=60, timestep=2, snapshots=3)
    settings = DisorderSettings(formulas=("Cu",), atoms=(12, 12), melt=melt, count=3, density=(0.9, 0.9))
    found = drawn(settings, 3)
    assert [p["thermostat"] for _, _, p in found] == pytest.approx([1433.33, 866.667, 300], rel=1e-3)
    again = drawn(settings, 3)
    assert np.array_equal(found[2][1].positions, again[2][1].positions)
    assert not np.allclose(found[0][1].positions, found[2][1].positions)


def test_random_crystals_have_the_symmetry_that_was_asked_for():
    settings = RandomCrystalSettings(formulas=("TiO2", "Cu"), atoms=(3, 12), groups=(3, 230))
    found = drawn(settings, 15)
    order = {}
    for hall in range(1, 531):
        number = spglib.get_spacegroup_type(hall).number
        if number not in order:
            rotations = spglib.get_symmetry_from_database(hall)["rotations"]
            order[number] = len(np.unique(rotations, axis=0))
    larger = 0
    for formula, atoms, p in found:
        group = spacegroup(atoms)
        assert order[group] % order[p["group"]] == 0, (formula, p, group)
        larger += group != p["group"]
        if formula == "TiO2":
            counts = Counter(atoms.get_chemical_symbols())
            assert counts["O"] == 2 * counts["Ti"]
    assert larger < 0.8 * len(found)
    assert len({p["group"] for _, _, p in found}) > 6


@pytest.mark.parametrize("number", [14, 62, 136, 167, 194, 205, 227])
def test_every_operation_takes_a_random_crystal_into_itself(number):
    from rutile.build import random_crystal as rc

    group, rng = rc.space_group(number), np.random.default_rng(number)
    cell = 9 * rc.random_cell(group, rng)
    metric = cell @ cell.T
    numbers = np.repeat([22, 8], [12, 18] if number == 167 else [8, 16])  # multiplicities of 167: 6, 12, 18, 36
    for trial in range(40):
        try:
            atoms = rc.pushed(group, rc.placed(group, numbers, cell, rng))
            break
        except Refused:
            assert trial < 39
    x = atoms.get_scaled_positions()
    for w, t in zip(group.rotations, group.translations, strict=True):
        assert w.T @ metric @ w == pytest.approx(metric)
        apart = np.abs(((x @ w.T + t)[:, None] - x[None] + 0.5) % 1.0 - 0.5).max(axis=2)
        image = apart.argmin(axis=1)
        assert apart.min(axis=1).max() < 1e-6
        assert np.array_equal(atoms.numbers[image], atoms.numbers)
    assert len(np.unique(group.translations, axis=0)) > 1


def test_every_builder_is_tested_and_known():
    from rutile.build.settings import AnyBuilder
    from rutile.core.describe import groups

    assert set(groups(AnyBuilder)) == set(BUILDERS)


@pytest.mark.parametrize("place", ["substituted", "adsorbed"])
@pytest.mark.parametrize(("prototype", "miller"), [("fcc", (1, 1, 1)), ("hcp", (0, 0, 1))])
def test_ends_of_a_dissociation_are_the_same_atoms_in_the_same_order(place, prototype, miller):
    source = CrystalSource(elements=("Ni",), prototypes=(prototype,))
    settings = DissociationSettings(crystals=source, miller=(miller,), promoter="V", place=place)
    (_, begun, first), (_, ended, second) = drawn(settings)
    assert (first["part"], second["part"]) == ("beginning", "end")
    assert np.array_equal(begun.numbers, ended.numbers)
    assert np.array_equal(begun.cell.array, ended.cell.array)
    assert str(begun.symbols[-2:]) == "CO"
    assert (begun.symbols == "V").sum() == 1
    moved = np.linalg.norm(begun.positions - ended.positions, axis=1)
    assert (moved > 1e-9).sum() == 1  # the oxygen
    assert begun.get_distance(-2, -1) == pytest.approx(1.15, abs=0.01)
    assert ended.get_distance(-2, -1, mic=True) > 2.2
    v = int(np.flatnonzero(ended.symbols == "V")[0])
    assert ended.get_distance(v, -1, mic=True) < 3.0
    if place == "adsorbed":
        assert ended.get_distances(v, [-2, -1], mic=True).min() > 2.2


def test_only_molecules_of_two_atoms_fall_apart():
    for name in ("CO2", "CuO9"):
        with pytest.raises(SettingsError, match="two atoms"):
            recipe(DissociationSettings(crystals=CU, molecule=name), 0, MECHANICS)
