"""Molecules on slabs: energies of EMT against ASE's, where they end, and what becomes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import add_adsorbate, fcc100, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from rutile.build.placing import far_enough, poses, put
from rutile.build.sites import operations, sites_of
from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.potentials.emt import Emt
from rutile.simulate.adsorb import Slab, adsorb
from rutile.simulate.adsorb_settings import AdsorbSettings
from rutile.simulate.adsorbates import fates, same_surroundings, surroundings
from rutile.simulate.minima import relaxer
from rutile.simulate.references import reference_of
from rutile.simulate.settings import RelaxSettings

REFERENCE = json.loads((Path(__file__).parent / "apps_emt_reference.json").read_text())["values"]
A0 = REFERENCE["Cu"]["a0_A"]


def copper(size=(2, 2, 4), fixed=3.0):
    atoms = fcc111("Cu", size, a=A0, vacuum=8.0, periodic=True)
    z = atoms.positions[:, 2]
    return Slab("Cu(111)", atoms, z < z.min() + fixed)


def found_on(slab, adsorbates, reporter=None, **settings):
    how = AdsorbSettings(fmax=0.005, **settings)
    relaxed = relaxer(Emt(), RelaxSettings(fmax=how.fmax), SilentReporter())
    return adsorb([slab], adsorbates, how, relaxed, reporter or SilentReporter())


def energies(found):
    molecules = {name: m.energy for name, m in found.molecules.items()}
    return found.energies([f.end.energy for f in found.found], [s.energy for s in found.slabs], molecules)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (fcc111, {"top Cu": 4, "bridge Cu2": 12, "hollow Cu3 fcc": 4, "hollow Cu3 hcp": 4}),
        (fcc100, {"top Cu": 4, "bridge Cu2": 8, "hollow Cu4": 4}),
    ],
)
def test_sites_have_names_and_numbers_also_on_slabs_that_are_not_quite_symmetric(make, expected):
    slab = make("Cu", (2, 2, 4), vacuum=8.0, periodic=True)
    slab.rattle(0.004, seed=1)
    found = sites_of(slab)
    assert {s.name: s.equal for s in found.different} == expected
    assert len(found.places) == sum(expected.values())
    for site in found.different:
        assert found.nearest(site.place + np.array([0.2, 0.1, 3.0]))[0].name == site.name


def test_fcc_and_hcp_hollows_are_what_they_are_called():
    """At fcc hollows the crystal would go on; below hcp ones are atoms of the second plane."""
    slab = fcc111("Cu", (1, 1, 4), vacuum=8.0, periodic=True)
    layers = fcc111("Cu", (1, 1, 5), vacuum=8.0, periodic=True)
    places = {s.name: s.place for s in sites_of(slab).different}
    on_top = layers.positions[-1] - layers.positions[-2] + slab.positions[-1]
    assert sites_of(slab).nearest(on_top)[0].name == "hollow Cu3 fcc"
    second = slab.positions[-2, :2] - places["hollow Cu3 hcp"][:2]
    fractions = second @ np.linalg.inv(slab.cell.array[:2, :2])
    assert fractions == pytest.approx(np.round(fractions), abs=1e-6)


def test_symmetry_keeps_the_upper_side_above():
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True)
    assert len(operations(slab)) == 4 * 6  # translations times C3v


def test_molecules_lie_in_every_way_and_touch_nothing():
    slab = fcc111("Cu", (3, 3, 3), vacuum=8.0, periodic=True)
    names = set()
    for m in (molecule("CO"), molecule("H2O")):
        distances = m.get_all_distances()
        for site in sites_of(slab).different:
            for pose in poses(m, (0.0, 30.0), 2):
                x = put(slab, site, pose, m.numbers, None)
                placed = Atoms(m.numbers, positions=x)
                names.add(pose.name)
                assert placed.get_all_distances() == pytest.approx(distances, abs=1e-6)
                assert far_enough(slab, placed)
                assert x[:, 2].min() > slab.positions[:, 2].max()
    assert {"C down", "O down", "CO down", "H2 down", "H2O down"} <= names


@pytest.mark.slow
def test_oxygen_on_copper_has_the_energy_of_the_reference():
    found = found_on(copper(), {"O": Atoms("O")})
    bound, _ = energies(found)
    by_site = {f.fates[0].site: e for f, e in zip(found.found, bound, strict=True)}
    expected = REFERENCE["O_on_Cu111_fcc_quarter_ML"]["E_ads_eV_vs_atom"]
    assert by_site["hollow Cu3 fcc"] == pytest.approx(expected, abs=2e-3)
    assert set(by_site) <= {"hollow Cu3 fcc", "hollow Cu3 hcp"}  # bridge and top are no minima: it has moved away
    assert sum(len(f.starts) for f in found.found) == found.tried == 4
    assert found.references[0].text == "O, an atom"


@pytest.mark.slow
def test_every_site_agrees_with_ase_one_at_a_time():
    """The same slab, the same starts, BFGS of ASE; nitrogen on Cu(100)."""
    atoms = fcc100("Cu", (2, 2, 4), a=A0, vacuum=8.0, periodic=True)
    held = atoms.positions[:, 2] < atoms.positions[:, 2].min() + 3
    found = found_on(Slab("Cu(100)", atoms, held), {"N": Atoms("N")}, shift=0.0)
    ours = {f.starts[0]: e for f, e in zip(found.found, energies(found)[0], strict=True)}

    def relaxed(what):
        what.calc = EMT()
        BFGS(what, logfile=None).run(fmax=0.005)
        return what.get_potential_energy()

    atoms.set_constraint(FixAtoms(mask=held))
    clean, alone = relaxed(atoms), relaxed(Atoms("N"))
    for site, name in {"ontop": "top Cu", "bridge": "bridge Cu2", "hollow": "hollow Cu4"}.items():
        covered = atoms.copy()
        add_adsorbate(covered, "N", 1.5, site)
        assert ours[name] == pytest.approx(relaxed(covered) - clean - alone, abs=3e-3), name


@pytest.mark.slow
def test_two_atoms_together_interact():
    """E_int is the energy of both together above both alone, and vanishes far apart."""
    found = found_on(copper((3, 3, 3), 2.0), {"O": Atoms("O")}, together=[("O", "O")], combinations=6)
    bound, between = energies(found)
    alone = [e for e, f in zip(bound, found.found, strict=True) if len(f.what) == 1]
    pairs = [(e, x, f) for e, x, f in zip(bound, between, found.found, strict=True) if len(f.what) == 2]
    assert pairs
    for e, x, f in pairs:
        assert x == pytest.approx(e - 2 * min(alone), abs=1e-9)
        assert f.end.structure.n_atoms == 29
        assert abs(x) < 0.5


def test_sets_without_room_are_told_and_others_go_on():
    reporter = SilentReporter()
    found = found_on(copper((1, 1, 3), 2.0), {"O": Atoms("O")}, reporter, together=[("O", "O", "O")] * 2)
    assert found.found
    assert all(len(f.what) == 1 for f in found.found)
    assert sum("no room" in text for text in reporter.warnings) == 1  # a set that is given twice is one


def test_fates():
    slab = fcc111("Cu", (2, 2, 3), vacuum=8.0, periodic=True)
    sites, top = sites_of(slab), slab.positions[:, 2].max()
    water = molecule("H2O")

    def state(x):
        return fates(slab + Atoms(water.numbers, positions=x), [water], sites, 3.5)[0]

    upright = water.positions - water.positions[0] + [0, 0, top + 2.2] + slab.positions[-1] * [1, 1, 0]
    assert state(upright).state == "adsorbed"
    assert state(upright + np.array([0, 0, 4])).state == "desorbed"
    assert state(upright + np.array([0, 0, 4])).site == ""
    assert state(upright - [0, 0, 4.5]).state == "in the slab"
    broken = upright.copy()
    broken[1] += [1.5, 0, 0]
    assert state(broken).state == "dissociated"
    pair = slab + Atoms("O2", positions=[[0, 0, top + 1.2], [0, 1.2, top + 1.2]])
    assert [f.state for f in fates(pair, [Atoms("O")] * 2, sites, 3.5)] == ["bonded to another"] * 2


def test_images_of_one_structure_are_the_same_and_other_sites_are_not():
    slab = fcc111("Cu", (2, 2, 4), vacuum=8.0, periodic=True)
    at = {}
    for place in ("fcc", "hcp"):
        for offset in ((0, 0), (1, 0)):
            covered = slab.copy()
            add_adsorbate(covered, "O", 1.2, place, offset=offset)
            at[place, offset] = surroundings(covered, len(slab))
    assert same_surroundings(at["fcc", (0, 0)], at["fcc", (1, 0)])
    assert not same_surroundings(at["fcc", (0, 0)], at["hcp", (0, 0)])


def test_references():
    o, oh = Atoms("O"), molecule("OH")
    assert reference_of("O", o, "molecule", {})[0].text == "O, an atom"
    half, needed = reference_of("O", o, "molecule", {"O": "0.5 O2"})
    assert half.energy({"O2": -8.0}) == -4.0
    assert set(needed) == {"O2"}
    water, needed = reference_of("OH", oh, "molecule", {"OH": "H2O - 0.5 H2"})
    assert water.energy({"H2O": -14.0, "H2": -6.0}) == -11.0
    atoms, needed = reference_of("CO", molecule("CO"), "atoms", {})
    assert atoms.energy({"C atom": -1.0, "O atom": -2.0}) == -3.0
    assert set(needed) == {"C atom", "O atom"}
    assert reference_of("O", o, "molecule", {"O": -4.9})[0].energy({}) == -4.9
    for text, why in {
        "O2": "1 O too many",
        "0.5 Q2": "no molecule 'Q2'",
        "half": "no molecule",
        "0.5 O2 H2": "no sum",
    }.items():
        with pytest.raises(SettingsError, match=why):
            reference_of("O", o, "molecule", {"O": text})


def test_a_slab_that_stands_upright_and_a_set_of_strangers_are_refused():
    slab = copper()
    slab.atoms.rotate(90, "x", rotate_cell=True)
    with pytest.raises(GeometryError, match="normal to z"):
        found_on(slab, {"O": Atoms("O")})
    with pytest.raises(SettingsError, match="H is not among the adsorbates"):
        found_on(copper(), {"O": Atoms("O")}, together=[("O", "H")])


def test_a_slab_across_the_face_of_its_cell_is_refused():
    """Its highest atoms are those of the lower side."""
    slab = copper()
    slab.atoms.positions[:, 2] -= slab.atoms.positions[:, 2].mean()
    slab.atoms.wrap()
    with pytest.raises(GeometryError, match=r"16\.\d Å of vacuum inside: shift"):
        found_on(slab, {"O": Atoms("O")})
