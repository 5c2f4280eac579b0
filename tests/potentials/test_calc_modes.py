"""Calc modes in use: one potential asked in several, energies that know theirs, and refusals that explain."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from ase.build import bulk

from rutile.core.errors import ModeError
from rutile.core.reporting import SilentReporter
from rutile.potentials.catalogue import make
from rutile.potentials.combine import Mean
from rutile.potentials.evaluate import evaluate
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.modes import ModeEnergy, frame_mode, in_mode, mode_number, modes_of
from rutile.potentials.settings import BehlerSettings, SchNetSettings
from rutile.simulate.relax import relax
from rutile.simulate.settings import RelaxSettings
from rutile.structures.structures import Structures
from rutile.testing.strategies import random_structure

SMALL = SchNetSettings(cutoff=4.0, features=8, interactions=2, radial=8)
MODES = ("PBE", "RPBE")


def schnet(modes=MODES, seed=0):
    made = make(SMALL, (8, 12), seed, modes)
    for m in range(len(modes)):
        made.set_reference_energies({8: -10.0 - m, 12: -20.0 - 3 * m}, m)
    if len(modes) > 1:
        with torch.no_grad():
            made.embedding.mode[1] += 0.5
    return made


def model(modes=MODES, members=1):
    return Model([schnet(modes, s) for s in range(members)], ModelInfo(elements=(8, 12), calc_modes=modes))


def magnesia():
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.positions += np.random.default_rng(0).normal(0, 0.05, atoms.positions.shape)
    return atoms


def test_in_mode_is_the_potential_asked_in_that_mode():
    potential, s = schnet(), random_structure(0, [8, 12, 8, 12])
    energies = []
    for number, name in enumerate(MODES):
        fixed = in_mode(potential, name)
        assert modes_of(fixed) == (name,)
        assert (fixed.cutoff, fixed.elements) == (potential.cutoff, potential.elements)
        p, q = evaluate(fixed, s), evaluate(potential, s, mode=torch.tensor([number]))
        assert torch.equal(p.energy, q.energy)
        assert torch.equal(p.forces, q.forces)
        energies.append(p.forces)
    assert (energies[0] - energies[1]).abs().max() > 1e-6
    assert in_mode(fixed) is fixed
    with pytest.raises(ModeError, match="say mode=NAME, one of PBE, RPBE"):
        in_mode(potential)
    with pytest.raises(ModeError, match="does not know the calc mode 'HSE'; it knows PBE, RPBE"):
        in_mode(potential, "HSE")


def test_drivers_need_not_know_modes():
    start = Structures.from_ase([magnesia()])
    settings = RelaxSettings(max_steps=3, fmax=1e-9)
    results = [relax(start, in_mode(schnet(), name), settings, SilentReporter()) for name in MODES]
    for name, result in zip(MODES, results, strict=True):
        expected = evaluate(in_mode(schnet(), name), result.structures).energy
        torch.testing.assert_close(result.energy, expected, rtol=0, atol=1e-9)
    members = [in_mode(schnet(seed=s), "RPBE") for s in range(2)]
    assert modes_of(Mean(members)) == ("RPBE",)


@pytest.mark.slow
def test_every_energy_of_a_model_carries_its_mode():
    atoms, both = magnesia(), {}
    for members in (1, 2):
        one = model(members=members)
        for name in MODES:
            atoms.calc = one.calculator(mode=name)
            both[name] = atoms.get_potential_energy()
            assert both[name].calc_mode == name
            assert atoms.calc.results["calc_mode"] == name
            assert one.evaluate([atoms], mode=name).energy.item() == pytest.approx(both[name], abs=1e-9)
        with pytest.raises(ModeError, match="'RPBE' and one of 'PBE' have different zeros"):
            both["RPBE"] - both["PBE"]
    for ask in (one.calculator, lambda: one.evaluate([atoms]), one.members):
        with pytest.raises(ModeError, match="say mode=NAME"):
            ask()
    assert model(("PBE",)).evaluate([atoms], mode="PBE").energy.shape == (1,)
    nameless = Model([make(SMALL, (8, 12), 0)], ModelInfo(elements=(8, 12)))
    atoms.calc = nameless.calculator()
    assert type(atoms.get_potential_energy()) is float
    assert "calc_mode" not in atoms.calc.results
    with pytest.raises(ModeError, match="it knows \\(no name\\)"):
        nameless.calculator(mode="PBE")


def test_saved_and_loaded_has_its_modes(tmp_path):
    from rutile import load

    one = model()
    one.save(tmp_path / "model.rutile")
    again, atoms = load(tmp_path / "model.rutile"), magnesia()
    assert again.modes == MODES
    for name in MODES:
        assert torch.equal(again.evaluate([atoms], mode=name).energy, one.evaluate([atoms], mode=name).energy)


A, B, OTHER = ModeEnergy(-7.5, "PBE"), ModeEnergy(2.0, "PBE"), ModeEnergy(1.0, "RPBE")


def test_energies_of_different_modes_do_not_mix():
    for mixed in (
        lambda: A - OTHER,
        lambda: OTHER - A,
        lambda: A + OTHER,
        lambda: sum([A, B, OTHER]),
        lambda: A / 3 - OTHER / 3,
        lambda: (A - 1.0) - OTHER,
        lambda: (1.0 + A) - OTHER,
        lambda: -A + OTHER,
        lambda: 2 * A - 0.5 * OTHER,
        lambda: copy.deepcopy(A) - OTHER,
        lambda: pickle.loads(pickle.dumps(A)) - OTHER,
    ):
        with pytest.raises(ModeError, match="different zeros"):
            mixed()
    assert (A - B) - (OTHER - ModeEnergy(4.0, "RPBE")) == pytest.approx(-6.5)  # differences may be compared
    assert float(A) - OTHER == -8.5


def test_an_energy_is_a_float_in_every_other_respect():
    assert A == -7.5
    assert (A < B, abs(A), round(A, 1), A**2, A // 2, int(A), hash(A)) == (True, 7.5, -7.5, 56.25, -4.0, -7, hash(-7.5))
    assert type(A - B) is float
    assert type(A / B) is float
    assert A - B == -9.5
    assert sum([A, B]) == -5.5
    assert f"{A:.3f}" == "-7.500"
    assert json.loads(json.dumps({"e": A})) == {"e": -7.5}
    assert np.array([A, B]).dtype == np.float64
    np.testing.assert_array_equal(np.array([1.0, 2.0]) - A, [8.5, 9.5])
    np.testing.assert_array_equal(A * np.array([1.0, 2.0]), [-7.5, -15.0])
    assert np.float64(1.0) - A == 8.5
    assert A - np.float64(1.0) == -8.5
    assert float(np.sqrt(B)) == pytest.approx(2**0.5)
    assert torch.tensor(A).item() == -7.5
    with pytest.raises(TypeError):
        A + "x"


def test_files_of_ase_take_the_results(tmp_path):
    from ase.io import read, write

    atoms = magnesia()
    atoms.calc = model().calculator(mode="PBE")
    energy = atoms.get_potential_energy()
    atoms.get_forces()
    for name in ("a.extxyz", "a.traj", "a.json"):
        write(tmp_path / name, atoms)
        assert read(tmp_path / name).get_potential_energy() == pytest.approx(energy, abs=1e-9)


def test_the_mode_of_a_frame():
    assert frame_mode(MODES, "RPBE", "") == 1
    assert frame_mode(("PBE",), "", "") == 0
    assert frame_mode(("",), "PBE", "") == 0
    assert frame_mode(MODES, "HSE", "", "PBE") == 0
    assert mode_number(("PBE",), None) == 0
    with pytest.raises(ModeError, match=r"a\.xyz#3: its labels are of calc mode 'HSE'.*give mode=NAME"):
        frame_mode(MODES, "HSE", "a.xyz#3")
    with pytest.raises(ModeError, match="its labels are of calc mode 'RPBE'"):
        frame_mode(("PBE",), "RPBE", "")
    with pytest.raises(ModeError, match="say mode=NAME"):
        frame_mode(MODES, "", "")


def test_behler_has_one_mode_with_a_name():
    settings = BehlerSettings.model_validate({"auto": {"cutoff": 4.0}, "hidden": [4]})
    one = Model([make(settings, (8, 12), 0, ("PBE",))], ModelInfo(elements=(8, 12)))
    assert one.modes == ("PBE",)
    assert one.members()[0].modes == ("PBE",)
