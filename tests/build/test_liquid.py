"""Boxes of whole molecules."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import atomic_masses
from scipy.optimize import check_grad

from rutile.build import packing
from rutile.build.catalogue import recipe
from rutile.build.guards import AMU_PER_A3, measure
from rutile.build.liquid import nearest_contact, packed
from rutile.build.making import Maker
from rutile.build.recipe import Refused
from rutile.build.settings import Guards, LiquidSettings
from rutile.core.errors import SettingsError
from rutile.core.reporting import SilentReporter
from rutile.tasks.forces import MECHANICS


def owners(sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


def test_water_at_its_density_is_whole_and_has_room():
    box = packed([molecule("H2O")] * 32, 1.0, 0.75, np.random.default_rng(0))
    assert box.cell.lengths() == pytest.approx([9.856] * 3, abs=0.01)  # 32 molecules, 1 g/cm3
    owner = owners([3] * 32)
    assert nearest_contact(box, owner) > 0.7
    for k in range(32):
        one = box[owner == k]
        assert one.get_distance(0, 1) == pytest.approx(0.969, abs=1e-3)  # without images: not cut by a face
        assert one.get_distance(0, 2) == pytest.approx(0.969, abs=1e-3)
        assert one.get_angle(1, 0, 2) == pytest.approx(104, abs=0.5)
        assert ((one.positions.mean(axis=0) > -1e-9) & (one.positions.mean(axis=0) < box.cell[0, 0])).all()
    bonds = box.positions[1::3] - box.positions[0::3]
    assert len(np.unique(bonds.round(3), axis=0)) == 32  # each is turned otherwise


def test_the_gradient_of_rigid_molecules_is_that_of_their_energy(monkeypatch):
    rng = np.random.default_rng(3)
    x = np.concatenate([molecule("H2O").positions + rng.random(3) * 3 for _ in range(4)])
    box = Atoms(np.tile(molecule("H2O").numbers, 4), positions=x, cell=[4.0] * 3, pbc=True)
    seen = {}

    def look(energy, start, **_):
        at = start + rng.normal(0, 0.3, len(start))
        seen["error"] = check_grad(lambda y: energy(y)[0], lambda y: energy(y)[1], at, epsilon=1e-6)
        seen["size"] = np.linalg.norm(energy(at)[1])
        raise StopIteration

    monkeypatch.setattr(packing, "minimize", look)
    with pytest.raises(StopIteration):
        packing.push_molecules_apart(box, owners([3] * 4), 0.75)
    assert seen["error"] < 1e-4 * seen["size"]


def test_a_molecule_and_its_own_images_are_kept_apart():
    with pytest.raises(Refused, match="too close"):
        packed([molecule("C6H6")], 3.0, 0.75, np.random.default_rng(0))


@pytest.mark.slow
def test_too_dense_a_liquid_is_refused_and_counted():
    maker = Maker(
        [LiquidSettings(names={"H2O": 8}, density=(3.7, 3.7), count=1, guards=Guards(attempts=3))], 0, MECHANICS
    )
    made = maker.one(0, 0, 0)
    assert made.atoms is None
    assert made.refused["molecules too close"] == 3


@pytest.mark.slow
def test_mixtures_of_smiles_have_their_mole_fractions_and_density():
    pytest.importorskip("rdkit", reason="pip install 'rutile[molecules]'")
    how = LiquidSettings(smiles={"CCO": 1, "O": 3}, molecules=(16, 16), density=(0.85, 0.9), conformers=2, count=2)
    maker = Maker([how], 7, MECHANICS)
    first, second = (maker.one(0, 0, n).atoms for n in (0, 1))
    for atoms in (first, second):
        assert atoms.get_chemical_formula() == "C8H48O16"  # 4 ethanol, 12 water
        assert atoms.info["parameters"]["molecules"] == {"CCO": 4, "O": 12}
        density = atomic_masses[atoms.numbers].sum() / atoms.cell.volume * AMU_PER_A3
        assert density == pytest.approx(atoms.info["parameters"]["density"], rel=1e-5)
        assert 0.85 <= density <= 0.9
        owner = owners([9] * 4 + [3] * 12)
        assert nearest_contact(atoms, owner) > 0.7
        for k in range(4):
            ethanol = atoms[owner == k]  # its bonds without images: whole
            assert ethanol.get_distance(0, 1) == pytest.approx(1.51, abs=0.03)
    assert not np.allclose(first.positions, second.positions)
    again = Maker([how], 7, MECHANICS).one(0, 0, 1).atoms
    assert np.array_equal(again.positions, second.positions)
    assert measure(first).density == pytest.approx(first.info["parameters"]["density"], rel=1e-5)


@pytest.mark.slow
def test_a_plan_with_a_liquid(tmp_path):
    from ase.io import read

    from rutile.tasks.build import TASK, BuildSettings

    how = BuildSettings(builder={"name": "liquid", "names": {"H2O": 6, "CH4": 2}, "density": (0.6, 0.6), "count": 3},
                        out=tmp_path / "boxes.extxyz")  # fmt: skip
    result = TASK.run(how, SilentReporter())
    made = read(tmp_path / "boxes.extxyz", ":")
    assert len(made) == 3
    assert result.made == 3
    assert {a.get_chemical_formula() for a in made} == {"C2H20O6"}
    assert made[0].info["builder"] == "liquid"


def test_bad_liquids_are_one_line():
    with pytest.raises(ValueError, match="no molecules"):
        LiquidSettings()
    with pytest.raises(ValueError, match=r"0\.5 is no number of molecules"):
        LiquidSettings(names={"H2O": 0.5})
    with pytest.raises(SettingsError, match="no CH4 among 8"):
        recipe(LiquidSettings(names={"H2O": 100, "CH4": 1}, molecules=(8, 8)), 0, MECHANICS)
    with pytest.raises(SettingsError, match="Q2O"):
        recipe(LiquidSettings(names={"Q2O": 1}), 0, MECHANICS)


def test_a_density_that_no_box_can_have_is_refused_at_once():
    with pytest.raises(SettingsError, match=r"density: at 9 g/cm³ these molecules overlap .* solid .* at \d"):
        recipe(LiquidSettings(names={"H2O": 16}, density=(9, 9)), 0, MECHANICS)
    recipe(LiquidSettings(names={"H2O": 16}, density=(1, 1)), 0, MECHANICS)
