"""Surface energies, Wulff shapes, vacancies and interstitials: the reference, geometry, and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from rutile.core.errors import GeometryError, SettingsError
from rutile.core.reporting import SilentReporter
from rutile.core.units import GPA
from rutile.potentials.emt import Emt
from rutile.simulate.defects import defects, interstitial_sites
from rutile.simulate.settings import DefectSettings, SurfaceSettings
from rutile.simulate.start import settled
from rutile.simulate.surfaces import surface_energies, wulff
from rutile.structures.structures import Structures
from rutile.testing.toys import make_toy

REFERENCE = json.loads((Path(__file__).parent / "apps_emt_reference.json").read_text())["values"]
QUIET = SilentReporter()
METALS = [bulk("Cu"), bulk("Al", cubic=True)]


@pytest.mark.slow
def test_surfaces_of_copper_and_aluminium_as_in_the_reference():
    how = SurfaceSettings(thickness=13.5)
    start, _ = settled(Structures.from_ase(METALS), Emt(), how, QUIET)
    crystals, found = surface_energies(start, Emt(), how, QUIET)
    assert [len(c) for c in crystals] == [4, 4]
    energies = {(one.crystal, one.slab.miller): 0.1 * one.energy / GPA for one in found}
    assert len(found) == 6
    for k, name in enumerate(("Cu", "Al")):
        for miller, key in (((1, 1, 1), "111"), ((1, 0, 0), "100")):
            expected = REFERENCE[name][f"surface_energy_J_m2_{key}_9_layers_relaxed"]
            assert energies[k, miller] == pytest.approx(expected, rel=5e-3)
    assert all(one.energy <= one.cut + 1e-9 and not one.failure for one in found)
    shape = wulff(crystals[0], {one.slab.miller: one.energy for one in found if one.crystal == 0})
    assert shape.share[1, 1, 1] > 0.5
    assert sum(shape.share.values()) == pytest.approx(1)


def test_shapes_that_are_known():
    cube = bulk("Cu", cubic=True)
    box = wulff(cube, {(1, 0, 0): 2.0})
    assert len(box.facets) == 6
    assert [f.area for f in box.facets] == pytest.approx([16.0] * 6)
    octahedron = wulff(cube, {(1, 1, 1): 1.0})
    assert len(octahedron.facets) == 8
    corner = np.sqrt(3)
    np.testing.assert_allclose(np.abs(octahedron.facets[0].corners).max(1), corner, rtol=1e-9)
    both = wulff(cube, {(1, 0, 0): 1.0, (1, 1, 1): 1.0})  # truncated octahedron
    assert len(both.facets) == 14
    assert 0 < both.share[1, 0, 0] < both.share[1, 1, 1]
    outside = wulff(cube, {(1, 0, 0): 1.0, (1, 1, 1): np.sqrt(3) + 0.01})
    assert outside.share[1, 1, 1] == 0
    assert outside.energy == pytest.approx(1.0)
    rod = bulk("Ti", "hcp", a=3.0, c=4.8)
    prism = wulff(rod, {(0, 0, 1): 1.0, (1, 0, 0): 2.0})
    assert len(prism.facets) == 8
    assert prism.share[0, 0, 1] == pytest.approx(0.5)  # two hexagons of apothem 2, six sides of height 2


def test_shapes_that_are_none():
    with pytest.raises(GeometryError, match="not positive"):
        wulff(bulk("Cu", cubic=True), {(1, 0, 0): -0.1})
    with pytest.raises(GeometryError, match="do not close"):
        wulff(bulk("Ti", "hcp", a=3.0, c=4.8), {(0, 0, 1): 1.0})
    cell = Structures.from_ase(bulk("NaCl", "rocksalt", a=5.6))
    with pytest.raises(SettingsError, match=r"miller=\(1, 1, 1\): .* no slab of its composition"):
        surface_energies(
            cell, make_toy(elements=(11, 17)), SurfaceSettings(miller=((1, 1, 1),), thickness=500.0), QUIET
        )


@pytest.mark.slow
def test_vacancies_of_copper_and_aluminium_as_in_the_reference():
    how = DefectSettings(length=10.5, fmax=1e-3)
    start, _ = settled(Structures.from_ase([bulk("Cu", cubic=True), METALS[1]]), Emt(), how, QUIET)
    found = defects(start, Emt(), how, QUIET)
    assert [one.atoms for one in found] == [107, 107]
    for one, name in zip(found, ("Cu", "Al"), strict=True):
        expected = REFERENCE[name]["vacancy_formation_eV_107_atoms_relaxed_fixed_cell"]
        assert one.formation == pytest.approx(expected, abs=0.003)
        assert one.unrelaxed > one.formation
        assert (one.kind, one.equal, one.failure) == ("vacancy", 4, "")


def test_holes_of_known_crystals():
    a = 3.6
    (octahedral, n_o, r_o), (tetrahedral, n_t, r_t) = interstitial_sites(
        Structures.from_ase(bulk("Cu", a=a, cubic=True))
    )
    assert (n_o, n_t) == (4, 8)
    assert r_o == pytest.approx(a / 2)
    assert r_t == pytest.approx(np.sqrt(3) / 4 * a)
    assert np.sort(np.abs(octahedral - 0.5)) == pytest.approx([0, 0.5, 0.5]) or octahedral == pytest.approx([0.5] * 3)
    assert np.abs(tetrahedral - 0.5) == pytest.approx([0.25] * 3)
    sites = interstitial_sites(Structures.from_ase(bulk("Fe", a=2.87, cubic=True)))
    assert sites[0][1] == 12  # tetrahedral holes of bcc are the widest
    assert sites[0][2] == pytest.approx(np.sqrt(5) / 4 * 2.87)


@pytest.mark.slow
def test_interstitials_and_compounds(monkeypatch):
    how = DefectSettings(kinds=("interstitial", "vacancy"), supercell=(2, 2, 2), sites=2)
    start, _ = settled(Structures.from_ase(bulk("Cu", cubic=True)), Emt(), how, QUIET)
    found = defects(start, Emt(), how, QUIET)
    assert [one.kind for one in found] == ["vacancy", "interstitial", "interstitial"]
    assert found[1].atoms == 33
    assert found[1].formation > 2 * found[0].formation > 0
    assert found[1].unrelaxed > found[1].formation
    alloy = Structures.from_ase(
        Atoms("CuAu", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.8, 2.8, 3.7], pbc=True)
    )
    with monkeypatch.context() as before:
        before.setattr("rutile.simulate.defects.relax", None)  # said before anything is relaxed
        with pytest.raises(SettingsError, match="potential of Cu and of Au is needed"):
            defects(alloy, Emt(), DefectSettings(supercell=(2, 2, 2)), QUIET)
    both = defects(alloy, Emt(), DefectSettings(supercell=(2, 2, 2), references={"Cu": -0.1, "Au": 0.2}), QUIET)
    shifted = defects(alloy, Emt(), DefectSettings(supercell=(2, 2, 2), references={"Cu": 0.9, "Au": 0.2}), QUIET)
    assert shifted[0].formation == pytest.approx(both[0].formation + 1.0, abs=1e-9)
    assert shifted[1].formation == pytest.approx(both[1].formation, abs=1e-9)
