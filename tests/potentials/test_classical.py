"""EMT and Lennard-Jones against ASE's, finite differences and the contract; models by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones as AseLennardJones

from rutile import load
from rutile.core.errors import ElementError, ModelFileError
from rutile.potentials.classical import CLASSICAL, open_model
from rutile.potentials.emt import Emt
from rutile.potentials.evaluate import VOIGT, evaluate
from rutile.potentials.lennard_jones import LennardJones
from rutile.potentials.named import ELEMENTS, NOTES
from rutile.structures.structures import Structures
from rutile.testing.potential_contract import potential_contract

TestEmt = potential_contract(Emt)
TestLennardJones = potential_contract(LennardJones)


def images():
    rng = np.random.default_rng(1)
    crystal = bulk("Cu", cubic=True).repeat(2)
    crystal.symbols[::3] = "Au"
    crystal.symbols[1] = "Pd"
    slab = fcc111("Al", (2, 2, 3), vacuum=6.0)
    molecule = Atoms("CO2NH", positions=[(0, 0, 0), (1.2, 0, 0), (-1.2, 0.1, 0), (0, 2.1, 0.3), (0.4, 0.2, 1.9)])
    out = [crystal, slab, molecule, bulk("Pt")]
    for atoms in out:
        atoms.positions += 0.05 * rng.normal(size=(len(atoms), 3))
    return out


def check(potential, calculator, atoms, tolerance):
    found = evaluate(potential, Structures.from_ase([atoms]))
    atoms.calc = calculator
    assert float(found.energy[0]) == pytest.approx(atoms.get_potential_energy(), abs=tolerance)
    np.testing.assert_allclose(found.forces.numpy(), atoms.get_forces(), atol=tolerance)
    if atoms.pbc.all():
        stress = found.stress[0].numpy()
        np.testing.assert_allclose([stress[v] for v in VOIGT], atoms.get_stress(), atol=tolerance)
    return found


@pytest.mark.parametrize("k", range(4))
def test_emt_is_that_of_ase_with_its_cutoff_and_within_its_jump_with_ours(k):
    atoms = images()[k]
    found = check(Emt(fade=0.0), EMT(), atoms, 1e-10)
    np.testing.assert_allclose(found.atom_energy.numpy(), atoms.calc.results["energies"], atol=1e-10)
    check(Emt(), EMT(), atoms, 3e-4)


def test_energy_of_one_atom_alone_and_of_none():
    found = evaluate(Emt(), Structures.from_ase([Atoms("Cu"), Atoms("O", cell=[20] * 3, pbc=True)]))
    assert found.energy.tolist() == pytest.approx([3.51, 4.60], abs=1e-12)
    assert bool(found.forces.isfinite().all())


def test_lennard_jones_inside_the_smooth_part_is_that_of_ase():
    atoms = Atoms("Ar3", positions=[(0, 0, 0), (3.6, 0, 0), (1.7, 3.4, 0.2)])
    free = AseLennardJones(
        sigma=3.4, epsilon=0.0103, rc=1000.0
    )  # pairs are far inside the cutoff: no shift to speak of
    check(LennardJones(cutoff=30.0), free, atoms, 1e-12)


def test_models_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in CLASSICAL:
        model = open_model(Path(name))
        assert model.info.notes
        assert model.members(torch.float32)
    atoms = bulk("Cu")
    atoms.calc = load("emt").calculator()
    assert atoms.get_potential_energy() == pytest.approx(-0.007, abs=0.01)
    with pytest.raises(ModelFileError, match="emtt"):
        open_model(Path("emtt"))
    Path("emt").write_text("")
    with pytest.raises(ModelFileError, match="emt"):  # a file of that name comes first
        open_model(Path("emt"))


def test_unknown_elements_are_refused():
    with pytest.raises(ElementError, match="Ti"):
        evaluate(Emt(), Structures.from_ase([bulk("Ti")]))


@pytest.mark.parametrize("name", CLASSICAL)
def test_what_is_known_without_loading_is_what_the_potential_can(name):
    can, known = set(CLASSICAL[name]().elements), set(ELEMENTS[name])
    assert known <= can
    assert bool(known) == bool(can)
    assert can - known <= {1, 6, 7, 8}  # of EMT in the roughest way only
    assert set(ELEMENTS) == set(NOTES) == set(CLASSICAL)
