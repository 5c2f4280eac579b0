"""Molecules: bonds turned and stretched, conformers, forces of MMFF94."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from rutile.build.bonds import bonds, stretched, turned
from rutile.build.catalogue import recipe
from rutile.build.forces_settings import EmtForces
from rutile.build.making import Maker
from rutile.build.settings import MoleculeSettings, MoleculeSource, NormalModes
from rutile.core.errors import MissingPackageError, SettingsError
from rutile.tasks.forces import MECHANICS


def distances(atoms: Atoms) -> np.ndarray:
    return np.linalg.norm(atoms.positions[:, None] - atoms.positions[None], axis=2)


def test_bonds_outside_of_rings():
    ethane, benzene = molecule("C2H6"), molecule("C6H6")
    assert len(bonds(ethane)) == 7
    (inner,) = [b for b in bonds(ethane) if b.inner]
    assert {inner.a, inner.b} == {0, 1}
    assert inner.side.sum() == 4
    assert len(bonds(benzene)) == 6  # the ring cannot be turned


def test_turning_and_stretching_keep_all_other_bonds():
    atoms = molecule("C2H6")
    (inner,) = [b for b in bonds(atoms) if b.inner]
    before = distances(atoms)
    same = inner.side[:, None] == inner.side[None]
    for changed in (turned(atoms, inner, 37.0), stretched(atoms, inner, 1.7)):
        after = distances(changed)
        assert after[same] == pytest.approx(before[same])
        assert not np.allclose(after[~same], before[~same])
    assert distances(turned(atoms, inner, 37.0))[0, 1] == pytest.approx(before[0, 1])
    assert distances(stretched(atoms, inner, 1.7))[0, 1] == pytest.approx(1.7 * before[0, 1])
    assert distances(turned(atoms, inner, 360.0)) == pytest.approx(before)


def test_molecules_by_name_with_any_calculator():
    settings = MoleculeSettings(
        molecules=MoleculeSource(names=("H2O", "CO")), modes=NormalModes(forces=EmtForces()), count=20, stretched=0.3
    )
    maker = Maker([settings], 3, MECHANICS)
    made = [one for slots in maker.slots() for one in maker.fill(slots)]
    atoms = [m.atoms for m in made if m.atoms is not None]
    assert len(atoms) == 20
    first = atoms[0]
    forces = EMT().get_forces(Atoms(first.numbers, positions=first.positions))
    assert np.abs(forces).max() < 0.01
    assert {a.info["parent"] for a in atoms} == {"molecule: H2O", "molecule: CO"}
    assert {"stretched" in a.info["parameters"] for a in atoms} == {True, False}
    temperatures = [a.info["parameters"]["temperature"] for a in atoms if "temperature" in a.info["parameters"]]
    assert min(temperatures) >= 300
    assert max(temperatures) <= 2000


def test_names_files_and_force_fields_that_do_not_fit(tmp_path):
    with pytest.raises(SettingsError, match="ASE knows no 'H2P'"):
        recipe(MoleculeSettings(molecules=MoleculeSource(names=("H2P",)), modes=None), 0, MECHANICS)
    with pytest.raises(SettingsError, match=r"mmff: knows the bonds of SMILES only.*xtb"):
        recipe(MoleculeSettings(molecules=MoleculeSource(names=("H2O",))), 0, MECHANICS)
    (tmp_path / "x.extxyz").write_text('1\nLattice="5 0 0 0 5 0 0 0 5" pbc="T T T"\nH 0 0 0\n')
    source = MoleculeSource(files=[tmp_path / "x.extxyz"])
    with pytest.raises(SettingsError, match="frame 0 is periodic: no molecule"):
        recipe(MoleculeSettings(molecules=source, modes=None), 0, MECHANICS)


def test_smiles_without_rdkit_say_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"rdkit: pip install 'rutile\[molecules\]'"):
        recipe(MoleculeSettings(molecules=MoleculeSource(smiles=("CCO",))), 0, MECHANICS)


def test_smiles_become_relaxed_conformers_with_normal_modes():
    pytest.importorskip("rdkit", reason="pip install 'rutile[molecules]'")
    with pytest.raises(SettingsError, match="'C1CC' is no SMILES"):
        recipe(MoleculeSettings(molecules=MoleculeSource(smiles=("C1CC",))), 0, MECHANICS)
    settings = MoleculeSettings(molecules=MoleculeSource(smiles=("CCO", "O"), conformers=2), count=24, torsions=0.5)
    maker = Maker([settings], 0, MECHANICS)
    made = [one for slots in maker.slots() for one in maker.fill(slots)]
    found = [m.atoms for m in made if m.atoms is not None]
    assert len(found) == 24
    assert {a.get_chemical_formula() for a in found} == {"C2H6O", "H2O"}
    assert len({a.info["parent"] for a in found}) == 4
    other = Maker([settings], 0, MECHANICS)
    again = [m.atoms for slots in other.slots()[:1] for m in other.fill(slots)]
    assert np.array_equal(again[3].positions, found[3].positions)


def test_forces_of_mmff_are_derivatives_of_its_energy():
    """RDKit keeps distances of earlier positions; the forces must not be those of the earlier ones."""
    chem = pytest.importorskip("rdkit.Chem", reason="pip install 'rutile[molecules]'")
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    from rutile.build.molecules_source import _mmff_forces

    graph = chem.AddHs(chem.MolFromSmiles("CO"))
    rdDistGeom.EmbedMolecule(graph, randomSeed=1)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(graph, rdForceFieldHelpers.MMFFGetMoleculeProperties(graph))
    field.Minimize()
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = graph.GetConformer().GetPositions() + rng.normal(0, 0.1, (graph.GetNumAtoms(), 3))
        forces = _mmff_forces(field, x)
        numerical = np.zeros_like(x)
        for k in range(x.size):
            step = np.zeros_like(x)
            step.flat[k] = 1e-4
            up, down = (field.CalcEnergy((x + s * step).ravel().tolist()) for s in (1, -1))
            numerical.flat[k] = -(up - down) / 2e-4 * 0.0433641153
        assert forces == pytest.approx(numerical, abs=1e-4)
