"""The shipped TiO2 set: what it promises is in it."""

import hashlib

import numpy as np
import pytest

from rutile import starter
from rutile.core.errors import FileError, GeometryError
from rutile.structures.symmetry import describe_crystal

SPACE_GROUPS = {"rutile": 136, "anatase": 141, "brookite": 61, "columbite": 60, "baddeleyite": 14, "pyrite": 205,
                "fluorite": 225, "cotunnite": 62}  # fmt: skip


def test_provenance_belongs_to_the_frames():
    about = starter.provenance()
    assert hashlib.sha256(starter.path().read_bytes()).hexdigest() == about["sha256"]
    frames = starter.frames()
    assert len(frames) == about["frames"]
    assert {a.info["calc_mode"] for a in frames} == {about["calc_mode"]}
    assert {a.info["settings_hash"] for a in frames} == {about["settings_hash"]}


def test_every_frame_has_sound_labels():
    for atoms in starter.frames():
        assert 6 <= len(atoms) <= 24
        assert (atoms.numbers == 8).sum() == 2 * (atoms.numbers == 22).sum()
        assert np.isfinite(atoms.info["REF_energy"])
        stress = np.array(atoms.info["REF_stress"]).reshape(3, 3)
        np.testing.assert_allclose(stress, stress.T, atol=1e-6)
        net = atoms.arrays["REF_forces"].sum(0)
        assert np.abs(net).max() < 0.05 * max(1.0, np.abs(atoms.arrays["REF_forces"]).max())


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


def test_molecule_has_no_space_group():
    from ase.build import molecule

    with pytest.raises(GeometryError, match="H2O"):
        describe_crystal(molecule("H2O"))
