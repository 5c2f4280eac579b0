"""The ASE calculator: right numbers, ASE's conventions, and refusals by name."""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculatorError, PropertyNotImplementedError

from rutile.core.errors import ElementError, GeometryError, SettingsError
from rutile.potentials.calculator import ExtrapolationWarning
from rutile.potentials.catalogue import make
from rutile.potentials.evaluate import evaluate, evaluate_members
from rutile.potentials.model import Model, ModelInfo
from rutile.potentials.settings import BehlerSettings
from rutile.structures.structures import Structures, concatenate
from rutile.testing.strategies import random_crystal
from rutile.testing.toys import make_toy

INFO = ModelInfo(elements=(8, 22))


def toy_model(members=1):
    return Model([make_toy(s) for s in range(members)], INFO)


def crystal(seed=0):
    return random_crystal(seed).to_ase()[0]


def behler(seed=0, hidden=(6,)):
    return make(BehlerSettings(table="tio2_artrith_urban_2016", hidden=hidden), (8, 22), seed)


def test_the_calculator_gives_what_evaluate_gives():
    atoms = crystal()
    atoms.calc = toy_model().calculator()
    expected = evaluate(make_toy(0), random_crystal(0))
    assert atoms.get_potential_energy() == pytest.approx(expected.energy.item(), abs=1e-12)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-12)
    np.testing.assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy(), atol=1e-12)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress[0], atol=1e-12)


def test_stress_is_positive_under_tension_and_ordered_like_ases():
    """ASE's own numerical stress of the same calculator."""
    from ase.calculators.fd import calculate_numerical_stress

    atoms = crystal(1)
    atoms.calc = toy_model().calculator()
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-4), atol=1e-6)


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True), False])
def test_stress_only_of_bulk(pbc):
    atoms = crystal()
    atoms.pbc = pbc
    atoms.calc = toy_model().calculator()
    atoms.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_a_committee_gives_mean_and_spread():
    atoms = crystal()
    atoms.calc = toy_model(4).calculator()
    singles = [evaluate(make_toy(s), random_crystal(0)) for s in range(4)]
    energies = np.array([s.energy.item() for s in singles])
    forces = np.stack([s.forces.numpy() for s in singles])
    assert atoms.get_potential_energy() == pytest.approx(energies.mean(), abs=1e-12)
    assert atoms.calc.get_property("energy_std", atoms) == pytest.approx(energies.std(), abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces.mean(0), atol=1e-12)
    np.testing.assert_allclose(atoms.calc.results["forces_std"], forces.std(0), atol=1e-12)


def test_a_single_potential_claims_no_spread():
    atoms = crystal()
    atoms.calc = toy_model().calculator()
    atoms.get_forces()
    assert "energy_std" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError):
        atoms.calc.get_property("energy_std", atoms)


def test_members_with_the_same_descriptors_compute_them_once(monkeypatch):
    members = [behler(s) for s in range(3)]
    batch = concatenate([random_crystal(0), random_crystal(1)])
    singles = [evaluate(m, batch) for m in members]
    calls = []
    for m in members:
        monkeypatch.setattr(m, "describe", lambda g, m=m, f=m.describe: calls.append(m) or f(g))
    together = evaluate_members(members, batch)
    assert len(calls) == 1
    for a, b in zip(singles, together, strict=True):
        torch.testing.assert_close(a.energy, b.energy)
        torch.testing.assert_close(a.forces, b.forces)
        torch.testing.assert_close(a.stress, b.stress)
    assert not torch.allclose(singles[0].forces, singles[1].forces)


def spoil(change):
    atoms = crystal()
    change(atoms)
    return atoms


def set_position(value):
    return lambda a: a.positions.__setitem__((1, 2), value)


BAD = {
    "NaN coordinate": (spoil(set_position(np.nan)), GeometryError, "z of atom 1 (Ti) is nan"),
    "infinite coordinate": (spoil(set_position(-np.inf)), GeometryError, "z of atom 1 (Ti) is -inf"),
    "huge coordinate": (spoil(set_position(1e15)), GeometryError, "z of atom 1 (Ti) is 1e+15"),
    "NaN cell": (spoil(lambda a: a.cell.__setitem__((0, 0), np.nan)), GeometryError, "cell"),
    "two atoms at one place": (
        spoil(lambda a: a.positions.__setitem__(3, a.positions[0])),
        GeometryError,
        "atom 0 (O) and atom 3 (Ti) are 0 Å apart",
    ),
    "almost one place": (
        spoil(lambda a: a.positions.__setitem__(3, a.positions[0] + [0, 0, 0.09])),
        GeometryError,
        "0.09 Å apart",
    ),
    "one place across images": (
        spoil(lambda a: a.positions.__setitem__(3, a.positions[0] + a.cell[0] - 2 * a.cell[1])),
        GeometryError,
        "periodic image",
    ),
    "a cell smaller than an atom": (Atoms("O", cell=[0.05, 5, 5], pbc=True), GeometryError, "its own periodic image"),
    "a thousand atoms at one place": (
        Atoms("O1000", positions=np.zeros((1000, 3)), cell=[9, 9, 9], pbc=True),
        GeometryError,
        "0 Å apart",
    ),
    "empty": (Atoms(), GeometryError, "empty"),
    "empty with cell": (Atoms(cell=[3, 3, 3], pbc=True), GeometryError, "empty"),
    "element not trained on": (Atoms("OS", [[0, 0, 0], [1.5, 0, 0]]), ElementError, "holds S, .*trained on: O, Ti"),
    "dummy atom": (Atoms("XO", [[0, 0, 0], [1.5, 0, 0]]), ElementError, "atom 0 has atomic number 0"),
    "no cell": (Atoms("O2", [[0, 0, 0], [1.2, 0, 0]], pbc=True), GeometryError, "along axis a but has no cell vector"),
    "no cell vector": (
        Atoms("O2", [[0, 0, 0], [1.2, 0, 0]], cell=[9, 9, 0], pbc=True),
        GeometryError,
        "along axis c but has no cell vector",
    ),
    "flat cell": (
        Atoms("O", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 0]], pbc=True),
        GeometryError,
        "lie in one plane",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("as_ase", [False, True])
def test_refusals_by_name(name, as_ase):
    atoms, kind, words = BAD[name]
    atoms = atoms.copy()
    atoms.calc = toy_model().calculator()
    with pytest.raises(CalculatorError if as_ase else kind, match=re.escape(words).replace(r"\.\*", ".*")):
        atoms.get_potential_energy()
    assert atoms.calc.results == {}


def test_a_refusal_does_not_leave_the_last_good_result():
    atoms = crystal()
    atoms.calc = toy_model().calculator()
    good = atoms.get_potential_energy()
    atoms.positions[0, 0] += np.nan
    for _ in range(2):
        with pytest.raises(GeometryError):
            atoms.get_potential_energy()
    atoms.positions[0, 0] = crystal().positions[0, 0]
    assert atoms.get_potential_energy() == pytest.approx(good, abs=1e-12)


@pytest.mark.parametrize(
    "atoms",
    [
        Atoms("O"),
        Atoms("O", cell=[2.5] * 3, pbc=True),
        Atoms("OTi", [[0, 0, 0], [1, 1, 1]], cell=[2.5] * 3, pbc=True),
        Atoms("OTi", [[0, 0, 0], [1, 1, 1]], cell=[4, 4, 0], pbc=(True, True, False)),
        Atoms("O", cell=[[4, 0, 0], [40, 4, 0], [0, 0, 4]], pbc=True),
        Atoms("OTi", [[0, 0, 0], [900, 0, 0]]),
    ],
    ids=["atom", "tiny cell", "tiny cell, two atoms", "slab without c", "very skewed", "far apart"],
)
def test_unusual_but_sound_structures(atoms):
    atoms = atoms.copy()
    atoms.calc = toy_model().calculator()
    assert np.isfinite(atoms.get_potential_energy())
    assert np.isfinite(atoms.get_forces()).all()


def test_the_skewed_cell_is_the_straight_cell():
    skewed = Atoms("O", cell=[[4, 0, 0], [40, 4, 0], [0, 0, 4]], pbc=True)
    straight = Atoms("O", cell=[4, 4, 4], pbc=True)
    energies = []
    for atoms in (skewed, straight):
        atoms.calc = toy_model().calculator()
        energies.append(atoms.get_potential_energy())
    assert energies[0] == pytest.approx(energies[1], abs=1e-12)


def test_atoms_are_not_changed():
    atoms = crystal()
    atoms.positions[2] += 3 * atoms.cell[0]
    before = atoms.copy()
    atoms.calc = toy_model().calculator()
    atoms.get_stress()
    assert atoms == before
    assert atoms.arrays.keys() == before.arrays.keys()
    assert atoms.info == before.info


def test_results_are_cached_until_something_changes(monkeypatch):
    from rutile.potentials import calculator as module

    calls = []
    monkeypatch.setattr(
        module, "evaluate_members", lambda *a, f=module.evaluate_members, **k: calls.append(1) or f(*a, **k)
    )
    atoms = crystal()
    atoms.calc = toy_model().calculator()
    first = atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    assert len(calls) == 1
    changes = [
        lambda: atoms.positions.__setitem__((0, 0), 0.3),
        lambda: atoms.cell.__setitem__((0, 0), 7.0),
        lambda: atoms.numbers.__setitem__(0, 22),
        lambda: setattr(atoms, "pbc", (True, False, True)),
        lambda: atoms.extend(Atoms("O", [atoms.positions[:].mean(0) + 20])),
    ]
    for k, change in enumerate(changes):
        change()
        energy = atoms.get_potential_energy()
        assert energy != first, k
        first = energy
        assert len(calls) == k + 2
        fresh = atoms.copy()
        fresh.calc = toy_model().calculator()
        assert fresh.get_potential_energy() == pytest.approx(energy, abs=1e-12)
        calls.pop()


def test_results_belong_to_the_caller():
    """Changing a returned array does not change later answers."""
    atoms = crystal()
    atoms.calc = toy_model().calculator()
    forces = atoms.get_forces()
    forces[:] = 0
    assert np.abs(atoms.get_forces()).max() > 0


def test_pickle_and_deepcopy():
    atoms = crystal()
    atoms.calc = toy_model(2).calculator()
    energy = atoms.get_potential_energy()
    for other in (copy.deepcopy(atoms), pickle.loads(pickle.dumps(atoms))):
        other.positions += 0.1
        assert other.get_potential_energy() == pytest.approx(energy, abs=1e-10)
        assert other.calc is not atoms.calc


def test_two_calculators_of_one_model_are_independent():
    model = toy_model()
    single, double = model.calculator(dtype="float32"), model.calculator()
    assert model.potentials[0].weights.dtype == torch.float64
    a, b = crystal(), crystal()
    a.calc, b.calc = single, double
    assert a.get_potential_energy() == pytest.approx(b.get_potential_energy(), rel=1e-5)
    assert a.get_potential_energy() != b.get_potential_energy()


def test_an_absent_device():
    if torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(SettingsError, match="'cuda'"):
        toy_model().calculator(device="cuda")
    with pytest.raises(SettingsError, match="'gpu'"):
        toy_model().calculator(device="gpu")


def test_many_structures_at_once():
    batch = [crystal(s) for s in range(5)] + [Atoms("O"), bulk("Ti").repeat(2)]
    model = toy_model(2)
    whole = model.evaluate(batch, atoms_per_batch=12)
    assert whole.energy.shape == (7,)
    start = 0
    for k, atoms in enumerate(batch):
        atoms.calc = model.calculator()
        assert whole.energy[k].item() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(whole.forces[start : start + len(atoms)], atoms.get_forces(), atol=1e-10)
        start += len(atoms)


def test_many_structures_with_a_bad_one_name_it():
    bad = crystal(1)
    bad.positions[3] = bad.positions[0] + bad.cell[1]
    with pytest.raises(GeometryError, match="structure 4: atom"):
        toy_model().evaluate([crystal(s) for s in range(4)] + [bad], atoms_per_batch=7)
    with pytest.raises(ElementError, match="structure 1 holds H"):
        toy_model().evaluate([crystal(), molecule("H2O")])


def test_extrapolation_is_said_once_and_counted():
    potential = behler()
    known = Structures.from_ase(crystal())
    graph_descriptors = []
    evaluate_members([potential], known, watch=lambda _, d: graph_descriptors.append(d))
    potential.fit_scaling([(graph_descriptors[0], known.numbers)])
    atoms = crystal()
    atoms.calc = Model([potential], INFO).calculator()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()
    assert atoms.calc.extrapolation == {"calculations": 1, "extrapolating": 0, "atoms": 0, "most": 0}
    atoms.positions[0] += 0.2
    with pytest.warns(ExtrapolationWarning, match=r"extrapolating: \d of 6 atoms"):
        atoms.get_potential_energy()
    atoms.positions[0] += 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_potential_energy()
    assert atoms.calc.extrapolation["calculations"] == 3
    assert atoms.calc.extrapolation["extrapolating"] == 2
    assert atoms.calc.extrapolation["atoms"] >= 1
