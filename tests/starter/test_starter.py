"""The shipped sets: what they promise is in them."""

import hashlib
import itertools
from collections import Counter

import numpy as np
import pytest
from ase.data import covalent_radii

from rutile import starter
from rutile.core.errors import FileError, GeometryError, SettingsError
from rutile.structures.symmetry import describe_crystal

SPACE_GROUPS = {"rutile": 136, "anatase": 141, "brookite": 61, "columbite": 60, "baddeleyite": 14, "pyrite": 205,
                "fluorite": 225, "cotunnite": 62}  # fmt: skip
TIO2 = {8, 22}
ELEMENTS = {"tio2": TIO2, "tio2_extension": TIO2, "tio2_rpbe": TIO2, "silicon": {14}, "molecules": {1, 6, 7, 8}}
CLOSEST = 0.45
"""Of the sum of the covalent radii."""
every_set = pytest.mark.parametrize("name", starter.SETS)


def test_each_set_is_described_here():
    assert set(ELEMENTS) == set(starter.SETS)
    assert {p.stem for p in starter.path().parent.glob("*.extxyz")} == set(starter.SETS)


@every_set
def test_provenance_belongs_to_the_frames(name):
    about, frames = starter.provenance(name), starter.frames(name)
    assert hashlib.sha256(starter.path(name).read_bytes()).hexdigest() == about["sha256"]
    assert len(frames) == about["frames"]
    assert {a.info["calc_mode"] for a in frames} == {about["calc_mode"]}
    assert {a.info["settings_hash"] for a in frames} <= set(np.atleast_1d(about["settings_hash"]))
    assert {a.info["code"] for a in frames} <= set(about["code"])
    assert about["licence"].startswith("CC0-1.0")
    assert set().union(*(a.numbers.tolist() for a in frames)) == ELEMENTS[name]
    assert starter.path(name).stat().st_size < 1.5e6


@every_set
def test_every_frame_has_sound_labels(name):
    names = [a.info["frame_id"] for a in starter.frames(name)]
    assert len(set(names)) == len(names)
    for atoms in starter.frames(name):
        forces = atoms.arrays["REF_forces"]
        assert np.isfinite(atoms.info["REF_energy"])
        assert np.isfinite(forces).all()
        assert np.abs(forces.sum(0)).max() < 0.05 * max(1.0, np.abs(forces).max()), atoms.info["frame_id"]
        assert ("REF_stress" in atoms.info) == bool(atoms.pbc.all()), "a crystal has a stress, and nothing else"
        if atoms.pbc.all():
            stress = np.array(atoms.info["REF_stress"]).reshape(3, 3)
            assert np.isfinite(stress).all()
            np.testing.assert_allclose(stress, stress.T, atol=1e-6)


@every_set
def test_no_two_atoms_overlap(name):
    for atoms in starter.frames(name):
        radii, steps = covalent_radii[atoms.numbers], [(-1, 0, 1) if periodic else (0,) for periodic in atoms.pbc]
        shifts = np.array(list(itertools.product(*steps))) @ atoms.cell.array
        between = atoms.positions[:, None, None] - atoms.positions[None, :, None] + shifts
        ratio = np.linalg.norm(between, axis=-1) / (radii[:, None] + radii)[..., None]
        assert np.sort(ratio.ravel())[len(atoms) :].min(initial=1) > CLOSEST, atoms.info[
            "frame_id"
        ]  # after the atoms themselves


@every_set
def test_no_frame_comes_twice(name):
    frames = [a for a in starter.frames(name) if a.info["config_type"] != starter.TRAJECTORY]
    forces = [float(np.abs(a.arrays["REF_forces"]).sum()) for a in frames]
    energies = [float(a.info["REF_energy"]) for a in frames]
    formulas = [a.get_chemical_formula() for a in frames]
    seen = Counter((f, round(e, 5), round(x, 4)) for f, e, x in zip(formulas, energies, forces, strict=True))
    assert seen.most_common(1)[0][1] == 1, seen.most_common(1)


@pytest.mark.slow
def test_sizes_are_those_of_the_description():
    for atoms in starter.frames("tio2"):
        assert 6 <= len(atoms) <= 24
        assert (atoms.numbers == 8).sum() == 2 * (atoms.numbers == 22).sum()
    assert {len(a) for a in starter.frames("silicon") if a.pbc.any()} <= set(range(2, 9))
    kinds = {a.info["config_type"] for a in starter.frames("tio2_extension")}
    assert {"slab", "melt", "amorphous", "isolated_atom"} <= kinds
    assert not any(a.pbc.any() for a in starter.frames("molecules"))


def test_methods_that_differ_have_names_that_differ():
    mode = {name: starter.provenance(name)["calc_mode"] for name in starter.SETS}
    assert mode["tio2_extension"] == mode["tio2"]
    assert len(set(mode.values())) == len(starter.SETS) - 1


def test_second_method_labelled_the_same_structures():
    first = {a.info["frame_id"]: a for a in starter.frames("tio2")}
    crystals = [a for a in starter.frames("tio2_rpbe") if a.pbc.any()]
    assert len(crystals) >= 5
    for atoms in crystals:
        same = first[atoms.info["frame_id"]]
        np.testing.assert_array_equal(atoms.numbers, same.numbers)
        np.testing.assert_allclose(atoms.positions, same.positions, atol=1e-7)
        np.testing.assert_allclose(atoms.cell.array, same.cell.array, atol=1e-7)
        assert list(atoms.info["kpoints"]) == list(same.info["kpoints"])
        assert abs(atoms.info["REF_energy"] - same.info["REF_energy"]) > 0.01 * len(atoms)


def free_atoms(name):
    atoms = [a for a in starter.frames(name) if a.info["config_type"] == "isolated_atom"]
    return {int(a.numbers[0]): float(a.info["REF_energy"]) for a in atoms}


@pytest.mark.parametrize("name", starter.SETS[1:])
def test_free_atoms_of_all_elements_are_there(name):
    assert set(free_atoms(name)) == ELEMENTS[name]


def cohesion(atoms, free):
    """Energy of free atoms above that of the structure, per atom (eV)."""
    return (sum(free[z] for z in atoms.numbers.tolist()) - float(atoms.info["REF_energy"])) / len(atoms)


@pytest.mark.slow
def test_cohesive_energies_are_those_of_the_functionals():
    crystals = [a for a in starter.frames("silicon") if a.info.get("made_by") == "as built"]
    (diamond,) = (a for a in crystals if a.info["parent"] == "diamond-Si")
    assert cohesion(diamond, free_atoms("silicon")) == pytest.approx(4.56, abs=0.2)  # PBE; 4.63 by experiment
    relaxed = {p.name: p for p in starter.dft_polymorphs()}
    free = free_atoms("tio2_extension")
    pbe = (free[22] + 2 * free[8] - relaxed["rutile"].energy) / 3
    (again,) = [a for a in starter.frames("tio2_rpbe") if a.info["frame_id"].startswith("rutile-relax")]
    rpbe = cohesion(again, free_atoms("tio2_rpbe"))
    assert pbe == pytest.approx(7.0, abs=0.6)  # 6.6 by experiment; PBE overbinds
    assert 0.1 < pbe - rpbe < 0.8, "RPBE binds less"


def test_relaxed_polymorphs_keep_their_symmetry():
    found = {p.name: p for p in starter.dft_polymorphs()}
    assert {"rutile", "anatase"} <= set(found)
    for name, p in found.items():
        assert p.crystal.number == SPACE_GROUPS[name], name
    a, _, c = found["anatase"].crystal.lengths
    assert (a, c) == pytest.approx((3.81, 9.70), rel=0.01)
    a, _, c = found["rutile"].crystal.lengths
    assert (a, c) == pytest.approx((4.64, 2.97), rel=0.01)
    assert found["anatase"].energy < found["rutile"].energy, "PBE prefers anatase"


def test_absent_set_says_what_to_do(tmp_path):
    with pytest.raises(FileError, match=r"tio2_starter\.py"):
        starter.path(folder=tmp_path)
    with pytest.raises(FileError, match=r"starter_sets\.py"):
        starter.path("silicon", folder=tmp_path)
    with pytest.raises(SettingsError, match="there are tio2, "):
        starter.path("tio3")


def test_molecule_has_no_space_group():
    from ase.build import molecule

    with pytest.raises(GeometryError, match="H2O"):
        describe_crystal(molecule("H2O"))
